"""The contract of a registry. Another implementation joins by one more parameter of the fixture."""

import dataclasses
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from typing import Any

import pytest
from django.conf import LazySettings

from tasks.entry import Status, TaskEntry, TaskFailure
from tasks.exceptions import StaleAttempt, TaskAlreadyFinished, TaskExpired, TaskNotFound
from tasks.registry import MemoryRegistry, Registry
from tests.helpers import wait_for


@pytest.fixture(params=[MemoryRegistry])
def registry(request: pytest.FixtureRequest) -> Registry:
    build: Callable[[], Registry] = request.param
    return build()


def new_entry(**fields: Any) -> TaskEntry:
    return TaskEntry(**{"kind": "task", "name": "sample_name", **fields})


def end(registry: Registry, entry: TaskEntry, **fields: Any) -> TaskEntry:
    """Bring a stored entry to its end."""
    registry.change(entry.id, TaskEntry.claimed)
    return registry.change(entry.id, lambda now: dataclasses.replace(now.completed(1, "done"), **fields))


def test_an_added_entry_can_be_got(registry: Registry) -> None:
    entry = new_entry()
    assert registry.add(entry) == entry
    assert registry.get(entry.id) == entry
    assert len(registry) == 1


def test_what_an_entry_holds_comes_back_as_it_was(registry: Registry) -> None:
    value = {"text": "naïve 🙂 \u2028", "list": [1, 2.5, None, True, {"deep": []}], "": -(2**53), "when": "2026-02-03"}
    entry = registry.add(new_entry(name="名前 🙂", input=value))
    ended = end(registry, entry, result=value)
    assert registry.get(entry.id) == ended
    assert (ended.name, ended.input, ended.result) == ("名前 🙂", value, value)


def test_an_unknown_id_is_not_found(registry: Registry) -> None:
    for access in (registry.get, lambda task_id: registry.change(task_id, TaskEntry.claimed)):
        with pytest.raises(TaskNotFound) as caught:
            access(uuid.uuid4())
        assert caught.type is TaskNotFound


def test_a_change_is_stored_and_returned(registry: Registry) -> None:
    entry = registry.add(new_entry())
    changed = registry.change(entry.id, TaskEntry.claimed)
    assert (changed.attempt, changed.version) == (1, 2)
    assert registry.get(entry.id) == changed


def test_a_transition_that_is_refused_changes_nothing(registry: Registry) -> None:
    entry = registry.add(new_entry())
    with pytest.raises(StaleAttempt):
        registry.change(entry.id, lambda now: now.completed(1, "too early"))
    assert registry.get(entry.id) == entry
    ended = end(registry, entry)
    with pytest.raises(TaskAlreadyFinished):
        registry.change(entry.id, TaskEntry.cancelled)
    assert registry.get(entry.id) == ended


def test_a_removed_entry_has_never_been(registry: Registry) -> None:
    entry = registry.add(new_entry())
    registry.remove(entry.id)
    registry.remove(entry.id)
    with pytest.raises(TaskNotFound) as caught:
        registry.get(entry.id)
    assert caught.type is TaskNotFound
    assert len(registry) == 0


def test_racing_changes_all_count(registry: Registry) -> None:
    entry = registry.add(new_entry())
    registry.change(entry.id, TaskEntry.claimed)
    start = threading.Barrier(8)

    def report(_: int) -> None:
        start.wait()
        for _ in range(50):
            registry.change(entry.id, lambda now: now.progressed(1, now.progress, "on the way"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(report, range(8)))
    assert registry.get(entry.id).version == 2 + 8 * 50


def test_of_many_racing_claims_one_wins(registry: Registry) -> None:
    entry = registry.add(new_entry())
    start = threading.Barrier(8)

    def claim(_: int) -> bool:
        start.wait()
        try:
            registry.change(entry.id, TaskEntry.claimed)
        except StaleAttempt:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_of_many_racing_ends_one_wins(registry: Registry) -> None:
    entry = registry.add(new_entry())
    registry.change(entry.id, TaskEntry.claimed)
    start = threading.Barrier(9)
    ends: list[Callable[[TaskEntry], TaskEntry]] = [
        TaskEntry.cancelled,
        lambda now: now.completed(1, "done"),
        lambda now: now.failed(1, TaskFailure("exception", "broken")),
    ]

    def finish(number: int) -> TaskEntry | None:
        start.wait()
        try:
            return registry.change(entry.id, ends[number % 3])
        except TaskAlreadyFinished:
            return None

    with ThreadPoolExecutor(9) as pool:
        [winner] = filter(None, pool.map(finish, range(9)))
    assert registry.get(entry.id) == winner


def test_an_ended_entry_expires_in_its_time(registry: Registry, settings: LazySettings) -> None:
    settings.TASK_RETENTION_SECONDS = 0.2
    entry = registry.add(new_entry())
    ended = end(registry, entry)
    assert ended.finished_at is not None
    assert ended.expires_at is not None
    assert (ended.expires_at - ended.finished_at).total_seconds() == 0.2
    with pytest.raises(TaskExpired):
        wait_for(lambda: registry.get(entry.id) is None)
    registry.purge()
    assert len(registry) == 0
    with pytest.raises(TaskExpired):
        registry.get(entry.id)
    with pytest.raises(TaskExpired):
        registry.change(entry.id, TaskEntry.cancelled)


def test_that_an_entry_expired_is_known_as_long_again_and_then_forgotten(
    registry: Registry, settings: LazySettings
) -> None:
    settings.TASK_RETENTION_SECONDS = 0.1
    entry = registry.add(new_entry())
    end(registry, entry)

    def error() -> type[TaskNotFound] | None:
        try:
            registry.get(entry.id)
        except TaskNotFound as not_found:
            return type(not_found)
        return None

    wait_for(lambda: error() is TaskExpired)
    wait_for(lambda: error() is TaskNotFound)
    registry.purge()
    assert error() is TaskNotFound


def test_past_the_limit_the_oldest_ended_entries_expire_and_live_ones_never(
    registry: Registry, settings: LazySettings
) -> None:
    settings.TASK_MAX_ENTRIES = 3
    live = [registry.add(new_entry()) for _ in range(10)]
    ended = [end(registry, registry.add(new_entry())) for _ in range(5)]
    registry.purge()
    assert len(registry) == 13
    for entry in ended[:2]:
        with pytest.raises(TaskExpired):
            registry.get(entry.id)
    assert [registry.get(entry.id).status for entry in ended[2:]] == [Status.COMPLETED] * 3
    assert [registry.get(entry.id) for entry in live] == live


def test_what_remembers_the_expired_is_bounded(registry: Registry, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 2
    ended = [end(registry, registry.add(new_entry())) for _ in range(6)]
    registry.purge()
    errors = []
    for entry in ended[:4]:
        with pytest.raises(TaskNotFound) as caught:
            registry.get(entry.id)
        errors.append(caught.type)
    assert errors == [TaskNotFound, TaskNotFound, TaskExpired, TaskExpired]


def test_a_purge_gives_each_file_of_a_dropped_entry_once(registry: Registry, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 1
    entries = [registry.add(new_entry()) for _ in range(3)]
    for number, entry in enumerate(entries[:2]):
        registry.change(entry.id, TaskEntry.claimed)
        registry.change(entry.id, methodcaller("storing", 1, f"file-{number}"))
        registry.change(entry.id, TaskEntry.cancelled)
    end(registry, entries[2])
    assert registry.purge() == ["file-0", "file-1"]
    assert registry.purge() == []
