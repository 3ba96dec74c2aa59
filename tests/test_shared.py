"""What a registry that several processes share promises besides. Each registry here stands for a process."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.conf import LazySettings

from tasks import maintenance, runner
from tasks.entry import Status, TaskEntry, TaskFailure
from tasks.exceptions import StaleAttempt
from tasks.kinds import get_kinds
from tasks.maintenance import Custody
from tasks.registry import Registry, get_registry
from tests import modes
from tests.helpers import wait_for

pytestmark = [modes.in_a_database, modes.in_lanes]
KINDS = ["task", "echo", "thread-retry"]


@pytest.fixture(autouse=True)
def _short_lease(settings: LazySettings) -> None:
    settings.TASK_LEASE_SECONDS = 0.3


@pytest.fixture
def one() -> Registry:
    return get_registry()


@pytest.fixture
def other() -> Iterator[Registry]:
    registry = modes.DATABASE_REGISTRIES[0]()
    yield registry
    registry.close()


def new_entry(**fields: Any) -> TaskEntry:
    return TaskEntry(**{"kind": "task", "name": "sample_name", **fields})


def claimed(registry: Registry, **fields: object) -> TaskEntry:
    return registry.change(registry.add(new_entry(**fields)).id, TaskEntry.claimed)


def let_lease_end(registry: Registry) -> None:
    """Wait until a process that does not beat is taken for gone; `registry` lives on."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        registry.beat()
        time.sleep(0.05)


def test_what_one_process_stores_every_other_sees(one: Registry, other: Registry) -> None:
    entry = one.add(new_entry(name="名前"))
    assert other.get(entry.id) == entry
    changed = other.change(entry.id, TaskEntry.claimed)
    assert one.get(entry.id) == changed


def test_a_process_hears_of_what_another_changes(one: Registry, other: Registry) -> None:
    told: list[object] = []
    cancelled: list[object] = []
    other.watchers.add(told.append)
    other.cancels.add(cancelled.append)
    entry = claimed(one)
    wait_for(lambda: told == [entry.id] * 2)
    one.change(entry.id, TaskEntry.cancelled)
    wait_for(lambda: told == [entry.id] * 3)
    assert cancelled == [entry.id]


def test_nobody_takes_what_a_living_process_has(one: Registry, other: Registry) -> None:
    one.add(new_entry())
    claimed(one)
    let_lease_end(one)
    assert other.take(10, KINDS) == []
    assert other.lost(10, KINDS) == []


def test_what_a_process_had_that_is_gone_is_there_for_the_others(one: Registry, other: Registry) -> None:
    waiting, running = one.add(new_entry()), claimed(one)
    let_lease_end(other)
    assert other.lost(10, KINDS) == [running]
    assert other.take(10, KINDS) == [waiting]
    assert other.take(10, KINDS) == []
    assert other.held() == {waiting.id}
    assert one.held() == {running.id}


def test_only_tasks_of_kinds_that_a_process_knows_are_taken(one: Registry, other: Registry) -> None:
    one.add(new_entry())
    claimed(one)
    let_lease_end(other)
    assert other.take(10, ["echo"]) == []
    assert other.lost(10, ["echo"]) == []


def test_a_task_is_taken_once_its_next_attempt_is_due(one: Registry, other: Registry) -> None:
    entry = claimed(one)
    one.change(entry.id, lambda now: now.retrying(1, TaskFailure("exception", "broken"), 0.8))
    let_lease_end(other)
    assert other.take(10, KINDS) == []
    wait_for(lambda: other.take(10, KINDS))


def test_what_is_released_is_anyones(one: Registry, other: Registry) -> None:
    entries = [one.add(new_entry()) for _ in range(3)]
    one.release([entry.id for entry in entries[:2]])
    assert {entry.id for entry in other.take(10, KINDS)} == {entry.id for entry in entries[:2]}
    assert one.held() == {entries[2].id}


def test_a_process_that_ends_leaves_all_at_once(one: Registry, other: Registry) -> None:
    entry = one.add(new_entry())
    one.close()
    assert other.take(10, KINDS) == [entry]


def test_of_several_takers_each_task_has_one(one: Registry, settings: LazySettings) -> None:
    settings.TASK_LEASE_SECONDS = 60
    entries = [one.add(new_entry()) for _ in range(40)]
    one.release([entry.id for entry in entries])
    others = [modes.DATABASE_REGISTRIES[0]() for _ in range(3)]
    try:
        taken = [entry.id for _ in range(10) for other in others for entry in other.take(5, KINDS)]
    finally:
        for other in others:
            other.close()
    assert sorted(taken) == sorted(entry.id for entry in entries)


def test_a_worker_that_slept_past_its_lease_changes_nothing(one: Registry, other: Registry) -> None:
    slept = claimed(one)
    let_lease_end(other)
    get_registry.use(other)
    again: list[TaskEntry] = []
    maintenance.rescue(again.append, 10)
    assert [entry.id for entry in again] == [slept.id]
    successor = other.change(slept.id, TaskEntry.claimed)
    assert successor.attempt == 2
    for report in (
        lambda now: now.progressed(1, 90, "late"),
        lambda now: now.completed(1, "late"),
        lambda now: now.failed(1, TaskFailure("exception", "late")),
    ):
        with pytest.raises(StaleAttempt):
            one.change(slept.id, report)
    assert one.get(slept.id) == successor


@pytest.mark.parametrize("kind", ["task", "thread-retry"])
def test_a_task_whose_processes_are_lost_again_and_again_fails_as_lost(
    one: Registry, other: Registry, kind: str
) -> None:
    entry = one.add(new_entry(kind=kind, input={"do": "return", "seconds": 0, "times": 0}))
    for attempt in range(1, get_kinds()[kind].most_attempts + 1):
        running = one.change(entry.id, TaskEntry.claimed)
        assert running.attempt == attempt
        runner.lose(running, TaskFailure("lost", "gone"))
    last = other.get(entry.id)
    assert last.status is Status.FAILED
    assert last.error == TaskFailure("lost", "gone")


def test_a_process_finds_what_it_has_and_does_not_know_of(one: Registry) -> None:
    known, forgotten, running = one.add(new_entry()), one.add(new_entry()), claimed(one)
    custody = Custody()
    assert custody.compare({known.id}) == (set(), set())
    assert custody.compare({known.id}) == ({forgotten.id, running.id}, set())
    taken_up: list[TaskEntry] = []
    for entry in (forgotten, running):
        maintenance.take_up(entry.id, taken_up.append)
    assert taken_up[0] == forgotten
    assert (taken_up[1].id, taken_up[1].started_at, taken_up[1].attempt) == (running.id, None, 1)


def test_a_process_finds_what_runs_here_and_is_its_own_no_more(one: Registry, other: Registry) -> None:
    entry = claimed(one)
    custody = Custody()
    assert custody.compare({entry.id}) == (set(), set())
    other.change(entry.id, TaskEntry.cancelled)
    assert custody.compare({entry.id}) == (set(), set())
    assert custody.compare({entry.id}) == (set(), {entry.id})


def test_a_poll_asks_the_database_once(one: Registry) -> None:
    from django.db import connection  # noqa: PLC0415 - of the mode
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415 - the same

    entry = one.add(new_entry())
    with CaptureQueriesContext(connection) as queries:
        assert one.get(entry.id) == entry
    assert len(queries) == 1


def test_the_age_of_a_task_counts_from_its_attempt() -> None:
    entry = new_entry()
    assert 0 <= entry.age < 5
    assert 0 <= entry.claimed().age < 5
    assert datetime.now(UTC) >= entry.created_at
