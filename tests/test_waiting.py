"""What a subscription and the places of those who wait promise, as far as no request can show it."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.conf import LazySettings

from tasks import waiting
from tasks.entry import TaskEntry
from tasks.registry import get_registry
from tasks.registry.memory import MemoryRegistry
from tasks.waiting import Subscription, WaiterLimit, get_waiter_limit


def added() -> TaskEntry:
    return get_registry().add(TaskEntry(kind="task", name="sample_name"))


@pytest.fixture(autouse=True)
def _in_memory() -> None:
    """A registry that tells of each change before it returns."""
    get_registry.override(MemoryRegistry())


@pytest.fixture
def entry() -> TaskEntry:
    return added()


@pytest.fixture
def subscription(entry: TaskEntry) -> Iterator[Subscription]:
    subscription = Subscription.within_limit(entry.id)
    assert subscription is not None
    yield subscription
    subscription.close()


@pytest.fixture
def watcher_of_all() -> Iterator[Subscription]:
    subscription = Subscription.within_limit()
    assert subscription is not None
    yield subscription
    subscription.close()


def change(entry: TaskEntry) -> None:
    """Make a change that leaves the task as it is."""
    get_registry().change(entry.id, lambda now: now)


def test_a_wait_ends_with_a_change_until_that_is_read(subscription: Subscription, entry: TaskEntry) -> None:
    assert not subscription.wait(0)
    change(entry)
    assert subscription.wait(0)
    assert subscription.wait(0)
    assert subscription.read() == [entry.id]
    assert not subscription.wait(0)
    assert subscription.read() == []


def test_what_changed_before_is_no_news(entry: TaskEntry) -> None:
    change(entry)
    subscription = Subscription(entry.id)
    assert not subscription.wait(0)
    assert subscription.read() == []


def test_other_tasks_are_no_news(subscription: Subscription) -> None:
    change(added())
    assert not subscription.wait(0)


def test_each_task_that_has_changed_is_read_once_and_in_the_order_of_its_first_change(
    watcher_of_all: Subscription,
) -> None:
    entries = [added() for _ in range(3)]
    for entry in (*entries[::-1], *entries):
        change(entry)
    assert watcher_of_all.read() == [entry.id for entry in entries]


def test_no_more_is_kept_than_can_be_told(watcher_of_all: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "MAX_UNREAD", 3)
    entries = [added() for _ in range(5)]
    assert watcher_of_all.read() is None
    for _ in range(5):
        change(entries[4])
    assert watcher_of_all.read() == [entries[4].id]


def test_while_it_is_mute_no_change_ends_a_wait_but_none_is_lost(
    watcher_of_all: Subscription, entry: TaskEntry
) -> None:
    change(entry)
    watcher_of_all.mute()
    other = added()
    assert not watcher_of_all.wait(0)
    assert watcher_of_all.read() == [entry.id, other.id]
    change(entry)
    assert watcher_of_all.wait(0)
    assert watcher_of_all.read() == [entry.id]


def test_whoever_cannot_wait_in_a_thread_is_woken(subscription: Subscription, entry: TaskEntry) -> None:
    woken: list[str] = []
    subscription.wake_by(lambda: woken.append("up"))
    assert woken == []
    change(entry)
    assert len(woken) == 1
    subscription.mute()
    change(entry)
    assert len(woken) == 1
    subscription.read()
    change(entry)
    assert len(woken) == 2


def test_what_changed_before_it_can_be_woken_wakes_it_at_once(subscription: Subscription, entry: TaskEntry) -> None:
    change(entry)
    woken: list[str] = []
    subscription.wake_by(lambda: woken.append("up"))
    assert woken == ["up"]


def test_once_it_is_closed_it_hears_nothing(entry: TaskEntry) -> None:
    for task_id in (entry.id, None):
        subscription = Subscription.within_limit(task_id)
        assert subscription is not None
        subscription.close()
        change(entry)
        assert not subscription.wait(0)


def test_a_place_is_given_back_once(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 2
    first, second = Subscription.within_limit(), Subscription.within_limit(UUID(int=1))
    assert first is not None
    assert second is not None
    assert Subscription.within_limit() is None
    first.close()
    first.close()
    assert get_waiter_limit().in_use == 1
    third = Subscription.within_limit()
    assert third is not None
    assert Subscription.within_limit() is None
    third.close()
    second.close()
    assert get_waiter_limit().in_use == 0


def test_without_a_place_nobody_listens(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 1
    with ThreadPoolExecutor(8) as pool:
        notifier = [
            subscription
            for subscription in pool.map(lambda _: Subscription.within_limit(), range(100))
            if subscription is not None
        ]
    assert len(notifier) == 1
    assert get_waiter_limit().in_use == 1
    notifier[0].close()
    assert get_registry().notifier._callbacks == {}  # noqa: SLF001 - nobody else could tell


def test_there_are_never_more_than_there_are_places() -> None:
    places = WaiterLimit(5)
    most = []
    start = threading.Barrier(8)

    def come_and_go(_: int) -> int:
        start.wait()
        taken = 0
        for _ in range(2000):
            if places.acquire():
                taken += 1
                most.append(places.in_use)
                places.release()
        return taken

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(come_and_go, range(8))) == len(most)
    assert max(most) <= 5
    assert places.in_use == 0


def test_news_that_comes_while_the_last_is_read_is_not_missed(subscription: Subscription, entry: TaskEntry) -> None:
    other = added()
    of_other = Subscription(other.id)

    def answer() -> None:
        for _ in range(500):
            assert subscription.wait(20)
            subscription.read()
            change(other)

    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer)
        for _ in range(500):
            change(entry)
            assert of_other.wait(20)
            of_other.read()
        answering.result()
