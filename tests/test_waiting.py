"""What a watcher and the places of those who wait promise, as far as no request can show it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.conf import LazySettings

from tasks import waiting
from tasks.entry import TaskEntry
from tasks.memory import MemoryRegistry
from tasks.registry import get_registry
from tasks.waiting import Places, Watcher, get_places


def added() -> TaskEntry:
    return get_registry().add(TaskEntry(kind="task", name="sample_name"))


@pytest.fixture(autouse=True)
def _in_memory() -> None:
    """A registry that tells of each change before it returns."""
    get_registry.use(MemoryRegistry())


@pytest.fixture
def entry() -> TaskEntry:
    return added()


@pytest.fixture
def watcher(entry: TaskEntry) -> Iterator[Watcher]:
    watcher = Watcher.of(entry.id)
    assert watcher is not None
    yield watcher
    watcher.close()


@pytest.fixture
def watcher_of_all() -> Iterator[Watcher]:
    watcher = Watcher.of()
    assert watcher is not None
    yield watcher
    watcher.close()


def change(entry: TaskEntry) -> None:
    """Make a change that leaves the task as it is."""
    get_registry().change(entry.id, lambda now: now)


def test_a_wait_ends_with_a_change_until_that_is_read(watcher: Watcher, entry: TaskEntry) -> None:
    assert not watcher.wait(0)
    change(entry)
    assert watcher.wait(0)
    assert watcher.wait(0)
    assert watcher.read() == [entry.id]
    assert not watcher.wait(0)
    assert watcher.read() == []


def test_what_changed_before_is_no_news(entry: TaskEntry) -> None:
    change(entry)
    watcher = Watcher(entry.id)
    assert not watcher.wait(0)
    assert watcher.read() == []


def test_other_tasks_are_no_news(watcher: Watcher) -> None:
    change(added())
    assert not watcher.wait(0)


def test_each_task_that_has_changed_is_read_once_and_in_the_order_of_its_first_change(watcher_of_all: Watcher) -> None:
    entries = [added() for _ in range(3)]
    for entry in (*entries[::-1], *entries):
        change(entry)
    assert watcher_of_all.read() == [entry.id for entry in entries]


def test_no_more_is_kept_than_can_be_told(watcher_of_all: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MOST_UNREAD", 3)
    entries = [added() for _ in range(5)]
    assert watcher_of_all.read() is None
    for _ in range(5):
        change(entries[4])
    assert watcher_of_all.read() == [entries[4].id]


def test_while_it_is_mute_no_change_ends_a_wait_but_none_is_lost(watcher_of_all: Watcher, entry: TaskEntry) -> None:
    change(entry)
    watcher_of_all.mute()
    other = added()
    assert not watcher_of_all.wait(0)
    assert watcher_of_all.read() == [entry.id, other.id]
    change(entry)
    assert watcher_of_all.wait(0)
    assert watcher_of_all.read() == [entry.id]


def test_whoever_cannot_wait_in_a_thread_is_woken(watcher: Watcher, entry: TaskEntry) -> None:
    woken: list[str] = []
    watcher.wake_by(lambda: woken.append("up"))
    assert woken == []
    change(entry)
    assert len(woken) == 1
    watcher.mute()
    change(entry)
    assert len(woken) == 1
    watcher.read()
    change(entry)
    assert len(woken) == 2


def test_what_changed_before_it_can_be_woken_wakes_it_at_once(watcher: Watcher, entry: TaskEntry) -> None:
    change(entry)
    woken: list[str] = []
    watcher.wake_by(lambda: woken.append("up"))
    assert woken == ["up"]


def test_once_it_is_closed_it_hears_nothing(entry: TaskEntry) -> None:
    for task_id in (entry.id, None):
        watcher = Watcher.of(task_id)
        assert watcher is not None
        watcher.close()
        change(entry)
        assert not watcher.wait(0)


def test_a_place_is_given_back_once(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 2
    first, second = Watcher.of(), Watcher.of(UUID(int=1))
    assert first is not None
    assert second is not None
    assert Watcher.of() is None
    first.close()
    first.close()
    assert get_places().taken == 1
    third = Watcher.of()
    assert third is not None
    assert Watcher.of() is None
    third.close()
    second.close()
    assert get_places().taken == 0


def test_without_a_place_nobody_listens(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 1
    with ThreadPoolExecutor(8) as pool:
        watchers = [watcher for watcher in pool.map(lambda _: Watcher.of(), range(100)) if watcher is not None]
    assert len(watchers) == 1
    assert get_places().taken == 1
    watchers[0].close()
    assert get_registry().watchers._of == {}  # noqa: SLF001 - nobody else could tell


def test_there_are_never_more_than_there_are_places() -> None:
    places = Places(5)
    most = []
    start = threading.Barrier(8)

    def come_and_go(_: int) -> int:
        start.wait()
        taken = 0
        for _ in range(2000):
            if places.take():
                taken += 1
                most.append(places.taken)
                places.give_back()
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == len(most)
    assert max(most) <= 5
    assert places.taken == 0


def test_news_that_comes_while_the_last_is_read_is_not_missed(watcher: Watcher, entry: TaskEntry) -> None:
    other = added()
    of_other = Watcher(other.id)

    def answer() -> None:
        for _ in range(500):
            assert watcher.wait(20)
            watcher.read()
            change(other)

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer)
        for _ in range(500):
            change(entry)
            assert of_other.wait(20)
            of_other.read()
        answering.result()
