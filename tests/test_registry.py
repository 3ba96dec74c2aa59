"""The contract of a registry. Add another implementation to the parameters of the fixture."""

import dataclasses
import itertools
import operator
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import methodcaller
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
from django.conf import LazySettings
from hypothesis import HealthCheck, given

from tasks.entry import Status, TaskEntry, TaskFailure
from tasks.exceptions import StaleAttempt, TaskAlreadyFinished, TaskExpired, TaskNotFound
from tasks.registry import Position, Registry
from tasks.registry.memory import MemoryRegistry
from tests import modes
from tests.helpers import wait_for


@pytest.fixture(params=[MemoryRegistry, *modes.DATABASE_REGISTRIES])
def registry(request: pytest.FixtureRequest) -> Iterator[Registry]:
    build: Callable[[], Registry] = request.param
    registry = build()
    yield registry
    registry.close()


def new_entry(**fields: Any) -> TaskEntry:
    return TaskEntry(**{"kind": "task", "name": "sample_name", **fields})


def end(registry: Registry, entry: TaskEntry, **fields: Any) -> TaskEntry:
    """Complete a stored entry."""
    registry.change(entry.id, TaskEntry.claimed)
    return registry.change(entry.id, lambda now: dataclasses.replace(now.completed(1, "done"), **fields))


def test_an_added_entry_can_be_read(registry: Registry) -> None:
    entry = new_entry()
    assert registry.add(entry) == entry
    assert registry.get(entry.id) == entry
    assert len(registry) == 1


def test_the_values_of_an_entry_are_returned_unchanged(registry: Registry) -> None:
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


def test_the_entry_that_the_caller_has_seen_may_be_outdated(registry: Registry) -> None:
    entry = registry.add(new_entry())
    claimed = registry.change(entry.id, TaskEntry.claimed, seen=entry)
    assert registry.get(entry.id) == claimed
    progressed = registry.change(entry.id, methodcaller("progressed", 1, 50, "half"), seen=entry.claimed())
    assert (progressed.version, progressed.progress) == (3, 50)
    with pytest.raises(StaleAttempt):
        registry.change(entry.id, TaskEntry.claimed, seen=entry)
    last = registry.change(entry.id, lambda now: now.completed(1, "done"), seen=claimed)
    assert (last.version, last.message) == (4, "half")
    assert registry.get(entry.id) == last


def test_a_removed_entry_is_not_known_as_expired(registry: Registry) -> None:
    entry = registry.add(new_entry())
    registry.remove(entry.id)
    registry.remove(entry.id)
    with pytest.raises(TaskNotFound) as caught:
        registry.get(entry.id)
    assert caught.type is TaskNotFound
    assert len(registry) == 0


def test_all_racing_changes_are_stored(registry: Registry) -> None:
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


def test_one_of_many_racing_claims_wins(registry: Registry) -> None:
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


def test_one_of_many_racing_ends_wins(registry: Registry) -> None:
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


def test_an_ended_entry_expires_after_its_retention(registry: Registry, settings: LazySettings) -> None:
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


def test_an_expired_entry_is_known_as_expired_for_as_long_again_and_then_forgotten(
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


def test_the_oldest_ended_entries_expire_past_the_limit_and_pending_ones_never_do(
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


def test_the_record_of_expired_entries_is_bounded(registry: Registry, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 2
    ended = [end(registry, registry.add(new_entry())) for _ in range(6)]
    registry.purge()
    errors = []
    for entry in ended[:4]:
        with pytest.raises(TaskNotFound) as caught:
            registry.get(entry.id)
        errors.append(caught.type)
    assert errors == [TaskNotFound, TaskNotFound, TaskExpired, TaskExpired]


def test_a_purge_returns_each_file_of_a_dropped_entry_once(registry: Registry, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 1
    entries = [registry.add(new_entry()) for _ in range(3)]
    for number, entry in enumerate(entries[:2]):
        registry.change(entry.id, TaskEntry.claimed)
        registry.change(entry.id, methodcaller("with_file", 1, f"file-{number}"))
        registry.change(entry.id, TaskEntry.cancelled)
    end(registry, entries[2])
    assert sorted(registry.purge()) == ["file-0", "file-1"]
    assert registry.purge() == []


# Keys


def test_the_first_of_several_entries_with_one_key_is_kept(registry: Registry) -> None:
    first = registry.add(new_entry(idempotency_key="key"))
    second = new_entry(name="other", idempotency_key="key")
    assert registry.add(second) == first
    with pytest.raises(TaskNotFound):
        registry.get(second.id)
    claimed = registry.change(first.id, TaskEntry.claimed)
    assert registry.add(second) == claimed
    assert len(registry) == 1


def test_entries_without_a_key_or_with_different_keys_are_all_kept(registry: Registry) -> None:
    entries = [new_entry(idempotency_key=key) for key in ("", "", "key", "Key", "key ")]
    assert [registry.add(entry) for entry in entries] == entries
    assert len(registry) == 5


def test_one_of_many_racing_entries_with_one_key_is_kept(registry: Registry) -> None:
    start = threading.Barrier(8)

    def add(_: int) -> tuple[TaskEntry, TaskEntry]:
        entry = new_entry(idempotency_key="key")
        start.wait()
        return entry, registry.add(entry)

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, range(8)))
    (winner,) = [entry for entry, kept in added if kept == entry]
    assert {kept.id for _, kept in added} == {winner.id}
    assert len(registry) == 1


def test_a_key_is_removed_with_its_entry(registry: Registry, settings: LazySettings) -> None:
    def add_with_key() -> TaskEntry:
        entry = new_entry(idempotency_key="key")
        assert registry.add(entry) == entry
        return entry

    registry.remove(add_with_key().id)
    expired = add_with_key()
    end(registry, expired, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    settings.TASK_MAX_ENTRIES = 1
    dropped = add_with_key()
    end(registry, dropped)
    end(registry, registry.add(new_entry()))
    registry.purge()
    last = add_with_key()
    assert registry.add(new_entry(idempotency_key="key")) == last
    registry.remove(dropped.id)  # already dropped, so nothing else is removed
    assert registry.add(new_entry(idempotency_key="key")) == last


# Pages

START = datetime(2026, 1, 2, tzinfo=UTC)
FATES = ("pending", "claimed", "completed", "failed", "cancelled", "expired", "removed")


def apply_fate(registry: Registry, entry: TaskEntry, fate: str) -> None:
    if fate == "completed":
        end(registry, entry)
    elif fate == "claimed":
        registry.change(entry.id, TaskEntry.claimed)
    elif fate == "failed":
        registry.change(entry.id, methodcaller("aborted", TaskFailure("exception", "broken")))
    elif fate == "cancelled":
        registry.change(entry.id, TaskEntry.cancelled)
    elif fate == "expired":
        registry.change(entry.id, lambda now: dataclasses.replace(now.cancelled(), expires_at=START))
    elif fate == "removed":
        registry.remove(entry.id)


def position(entry: TaskEntry) -> Position:
    return Position(entry.created_at, entry.id)


moments = st.integers(0, 4).map(lambda milliseconds: START + timedelta(milliseconds=milliseconds))
numbers = st.integers(1, 2**62)
entries = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), moments, numbers, st.sampled_from(FATES)),
    max_size=12,
    unique_by=lambda drawn: drawn[2],
)
examples = itertools.count(1)


@given(drawn=entries, data=st.data())
@hypothesis.settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_a_page_matches_that_of_a_plain_list(registry: Registry, drawn: list[Any], data: st.DataObject) -> None:
    # No id is used twice, not even in another example.
    prefix = next(examples) << 64
    model = []
    for kind, created_at, number, fate in drawn:
        entry = registry.add(new_entry(kind=kind, created_at=created_at, id=uuid.UUID(int=prefix | number)))
        apply_fate(registry, entry, fate)
        if fate not in {"expired", "removed"}:
            model.append(registry.get(entry.id))
    model.sort(key=position)
    any_position = st.tuples(moments, numbers)
    positions = st.one_of(any_position, *(st.just((created_at, number)) for _, created_at, number, _ in drawn))
    try:
        for _ in range(5):
            assert_pages(
                registry, model, data, positions.map(lambda at: Position(at[0], uuid.UUID(int=prefix | at[1])))
            )
    finally:
        for _, _, number, _ in drawn:
            registry.remove(uuid.UUID(int=prefix | number))


def assert_pages(
    registry: Registry, model: list[TaskEntry], data: st.DataObject, positions: st.SearchStrategy[Position]
) -> None:
    """Check some pages against the `model`, which is in the order of creation."""
    limit = data.draw(st.integers(1, 14))
    kind = data.draw(st.sampled_from([None, "a", "b", "c"]))
    status = data.draw(st.sampled_from([None, *Status]))
    boundary = data.draw(positions)
    wanted = [entry for entry in model if kind in {None, entry.kind} and status in {None, entry.status}]
    older = [entry for entry in wanted if position(entry) < boundary]
    newer = [entry for entry in wanted if position(entry) > boundary]
    assert registry.page(limit, kind=kind, status=status) == wanted[::-1][:limit]
    assert registry.page(limit, kind=kind, status=status, before=boundary) == older[::-1][:limit]
    assert registry.page(limit, kind=kind, status=status, after=boundary) == newer[:limit][::-1]


def test_pages_stay_correct_after_many_entries_were_removed(registry: Registry) -> None:
    entries = [registry.add(new_entry()) for _ in range(3000)]
    for entry in entries[:1400] + entries[1600:]:
        registry.remove(entry.id)
    kept = entries[1400:1600]
    assert registry.page(5000) == kept[::-1]
    assert registry.page(10, before=position(entries[1500])) == entries[1490:1500][::-1]
    assert registry.page(10, after=position(entries[0])) == kept[:10][::-1]
    assert registry.page(10, before=position(entries[2999])) == kept[-10:][::-1]


# Notifier


def version(registry: Registry, task_id: uuid.UUID | None) -> int | None:
    if task_id is None:
        return None  # the registry is closed
    try:
        return registry.get(task_id).version
    except TaskNotFound:
        return None


def test_subscribers_are_notified_of_each_change_after_it_can_be_read(registry: Registry) -> None:
    entry, other = new_entry(), new_entry()
    of_one: list[int | None] = []
    of_all: list[tuple[uuid.UUID | None, int | None]] = []
    registry.notifier.subscribe(lambda task_id: of_one.append(version(registry, task_id)), entry.id)
    registry.notifier.subscribe(lambda task_id: of_all.append((task_id, version(registry, task_id))))
    steps: list[Callable[[], object]] = [
        lambda: registry.add(entry),
        lambda: registry.change(entry.id, TaskEntry.claimed),
        lambda: registry.change(entry.id, methodcaller("progressed", 1, 50, "on the way")),
        lambda: registry.remove(entry.id),
    ]
    seen: list[int | None] = [1, 2, 3, None]
    for number, step in enumerate(steps, 1):
        step()
        wait_for(partial(operator.eq, of_one, seen[:number]))
        wait_for(partial(operator.eq, of_all, [(entry.id, version) for version in seen[:number]]))
    registry.add(other)
    wait_for(lambda: of_all[4:] == [(other.id, 1)])
    assert of_one == seen


def test_a_refused_change_notifies_nobody(registry: Registry) -> None:
    entry = registry.add(new_entry(idempotency_key="key"))
    notified: list[uuid.UUID | None] = []
    registry.notifier.subscribe(notified.append)
    registry.notifier.subscribe(notified.append, entry.id)
    with pytest.raises(StaleAttempt):
        registry.change(entry.id, lambda now: now.completed(1, "too early"))
    registry.add(new_entry(idempotency_key="key"))
    last = registry.add(new_entry())
    wait_for(lambda: last.id in notified)
    assert notified == [last.id]


def test_an_unsubscribed_callback_is_not_called_again(registry: Registry) -> None:
    entry = registry.add(new_entry())
    notified: dict[str, list[uuid.UUID | None]] = {"one": [], "other": [], "all": [], "rest": []}
    callbacks = {name: ids.append for name, ids in notified.items()}
    for name in ("one", "other"):
        registry.notifier.subscribe(callbacks[name], entry.id)
    for name in ("all", "rest"):
        registry.notifier.subscribe(callbacks[name])
    registry.change(entry.id, TaskEntry.claimed)
    wait_for(lambda: all(notified.values()))
    registry.notifier.unsubscribe(callbacks["one"], entry.id)
    registry.notifier.unsubscribe(callbacks["one"], entry.id)
    registry.notifier.unsubscribe(callbacks["all"], entry.id)  # it is not subscribed to this task
    registry.notifier.unsubscribe(callbacks["all"])
    registry.change(entry.id, TaskEntry.cancelled)
    wait_for(lambda: len(notified["other"]) == len(notified["rest"]) == 2)
    assert notified == {"one": [entry.id], "other": [entry.id] * 2, "all": [entry.id], "rest": [entry.id] * 2}


def test_a_subscriber_is_notified_while_others_subscribe_and_unsubscribe(registry: Registry) -> None:
    entry = registry.add(new_entry())
    registry.change(entry.id, TaskEntry.claimed)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            registry.change(entry.id, methodcaller("progressed", 1, 1, "on the way"))

    def subscribe(number: int) -> None:
        for _ in range(30):
            is_notified = threading.Event()

            def callback(_: object, is_notified: threading.Event = is_notified) -> None:
                is_notified.set()

            task_id = entry.id if number % 2 else None
            registry.notifier.subscribe(callback, task_id)
            assert is_notified.wait(20)
            registry.notifier.unsubscribe(callback, task_id)

    with ThreadPoolExecutor(9) as pool:
        changing = pool.submit(change)
        try:
            list(pool.map(subscribe, range(8)))
        finally:
            stop.set()
        changing.result()
