"""The promises of leases. Each registry here stands for a process."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import Mock

import pytest
from django.conf import LazySettings

from tasks.dispatch import get_dispatcher, recovery, retention, runner
from tasks.dispatch.recovery import LeaseReconciler
from tasks.entry import Status, TaskEntry, TaskFailure
from tasks.exceptions import StaleAttempt
from tasks.kinds import get_kinds
from tasks.registry import Leases, Registry, get_registry
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


def leases(registry: Registry) -> Leases:
    assert registry.leases is not None
    return registry.leases


def new_entry(**fields: Any) -> TaskEntry:
    return TaskEntry(**{"kind": "task", "name": "sample_name", **fields})


def claimed(registry: Registry, **fields: object) -> TaskEntry:
    return registry.change(registry.add(new_entry(**fields)).id, TaskEntry.claimed)


def let_leases_expire(registry: Registry) -> None:
    """Wait until the leases of others have expired; the lease of `registry` is renewed."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        leases(registry).heartbeat()
        time.sleep(0.05)


def test_every_process_reads_the_entries_that_another_stores(one: Registry, other: Registry) -> None:
    entry = one.add(new_entry(name="名前"))
    assert other.get(entry.id) == entry
    changed = other.change(entry.id, TaskEntry.claimed)
    assert one.get(entry.id) == changed


def test_a_process_is_notified_of_the_changes_of_another(one: Registry, other: Registry) -> None:
    notified: list[object] = []
    cancelled: list[object] = []
    other.notifier.subscribe(notified.append)
    leases(other).cancellations.subscribe(cancelled.append)
    entry = claimed(one)
    wait_for(lambda: notified == [entry.id] * 2)
    one.change(entry.id, TaskEntry.cancelled)
    wait_for(lambda: notified == [entry.id] * 3)
    assert cancelled == [entry.id]


def test_no_process_acquires_the_tasks_of_a_live_process(one: Registry, other: Registry) -> None:
    one.add(new_entry())
    claimed(one)
    let_leases_expire(one)
    assert leases(other).acquire(10, KINDS) == []
    assert leases(other).stalled(10, KINDS) == []


def test_the_tasks_of_a_dead_process_can_be_acquired_by_others(one: Registry, other: Registry) -> None:
    waiting, running = one.add(new_entry()), claimed(one)
    let_leases_expire(other)
    assert leases(other).stalled(10, KINDS) == [running]
    assert leases(other).acquire(10, KINDS) == [waiting]
    assert leases(other).acquire(10, KINDS) == []
    assert leases(other).owned_ids() == {waiting.id}
    assert leases(one).owned_ids() == {running.id}


def test_a_process_acquires_only_tasks_of_kinds_that_it_knows(one: Registry, other: Registry) -> None:
    one.add(new_entry())
    claimed(one)
    let_leases_expire(other)
    assert leases(other).acquire(10, ["echo"]) == []
    assert leases(other).stalled(10, ["echo"]) == []


def test_a_task_is_acquired_only_after_its_retry_delay(one: Registry, other: Registry) -> None:
    entry = claimed(one)
    one.change(entry.id, lambda now: now.retrying(1, TaskFailure("exception", "broken"), 0.8))
    let_leases_expire(other)
    assert leases(other).acquire(10, KINDS) == []
    wait_for(lambda: leases(other).acquire(10, KINDS))


def test_a_released_task_can_be_acquired_by_any_process(one: Registry, other: Registry) -> None:
    entries = [one.add(new_entry()) for _ in range(3)]
    leases(one).release([entry.id for entry in entries[:2]])
    assert {entry.id for entry in leases(other).acquire(10, KINDS)} == {entry.id for entry in entries[:2]}
    assert leases(one).owned_ids() == {entries[2].id}


def test_a_process_that_closes_its_registry_releases_everything_immediately(one: Registry, other: Registry) -> None:
    entry = one.add(new_entry())
    one.close()
    assert leases(other).acquire(10, KINDS) == [entry]


def test_each_task_is_acquired_by_one_process(one: Registry, settings: LazySettings) -> None:
    settings.TASK_LEASE_SECONDS = 60
    entries = [one.add(new_entry()) for _ in range(40)]
    leases(one).release([entry.id for entry in entries])
    others = [modes.DATABASE_REGISTRIES[0]() for _ in range(3)]
    try:
        acquired = [entry.id for _ in range(10) for other in others for entry in leases(other).acquire(5, KINDS)]
    finally:
        for other in others:
            other.close()
    assert sorted(acquired) == sorted(entry.id for entry in entries)


def test_a_worker_that_slept_past_its_lease_changes_nothing(one: Registry, other: Registry) -> None:
    slept = claimed(one)
    let_leases_expire(other)
    get_registry.override(other)
    rescued: list[TaskEntry] = []
    recovery.rescue(leases(other), rescued.append, 10)
    assert [entry.id for entry in rescued] == [slept.id]
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
def test_a_task_whose_processes_die_repeatedly_fails_as_lost(one: Registry, other: Registry, kind: str) -> None:
    entry = one.add(new_entry(kind=kind, input={"do": "return", "seconds": 0, "times": 0}))
    for attempt in range(1, get_kinds()[kind].effective_max_attempts + 1):
        running = one.change(entry.id, TaskEntry.claimed)
        assert running.attempt == attempt
        runner.abandon(running, TaskFailure("lost", "gone"))
    last = other.get(entry.id)
    assert last.status is Status.FAILED
    assert last.error == TaskFailure("lost", "gone")


def test_a_process_finds_owned_tasks_that_it_does_not_know(one: Registry) -> None:
    known, forgotten, running = one.add(new_entry()), one.add(new_entry()), claimed(one)
    reconciler = LeaseReconciler(leases(one))
    assert reconciler.compare({known.id}) == (set(), set())
    assert reconciler.compare({known.id}) == ({forgotten.id, running.id}, set())
    resumed: list[TaskEntry] = []
    for entry in (forgotten, running):
        recovery.recover(entry.id, resumed.append)
    assert resumed[0] == forgotten
    assert (resumed[1].id, resumed[1].started_at, resumed[1].attempt) == (running.id, None, 1)


def test_a_process_finds_running_tasks_that_it_no_longer_owns(one: Registry, other: Registry) -> None:
    entry = claimed(one)
    reconciler = LeaseReconciler(leases(one))
    assert reconciler.compare({entry.id}) == (set(), set())
    other.change(entry.id, TaskEntry.cancelled)
    assert reconciler.compare({entry.id}) == (set(), set())
    assert reconciler.compare({entry.id}) == (set(), {entry.id})


def test_a_poll_makes_one_database_query(one: Registry) -> None:
    from django.db import connection  # noqa: PLC0415 - needs a database
    from django.test.utils import CaptureQueriesContext  # noqa: PLC0415 - the same

    entry = one.add(new_entry())
    with CaptureQueriesContext(connection) as queries:
        assert one.get(entry.id) == entry
    assert len(queries) == 1


def test_seconds_in_state_counts_from_the_start_of_the_attempt() -> None:
    entry = new_entry()
    assert 0 <= entry.seconds_in_state < 5
    assert 0 <= entry.claimed().seconds_in_state < 5
    assert datetime.now(UTC) >= entry.created_at


def test_a_storage_that_cannot_be_listed_does_not_stop_recovery(
    one: Registry, other: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Mock()
    storage.listdir.side_effect = OSError("The folder of the files is away.")
    monkeypatch.setattr(retention, "default_storage", storage)
    entry = other.add(new_entry(kind="echo"))
    leases(other).release([entry.id])
    get_dispatcher().start()
    wait_for(lambda: one.get(entry.id).ended)
    wait_for(lambda: storage.listdir.called)
