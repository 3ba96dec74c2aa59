"""The promises of a subscription and of the waiter limit that no request can show."""

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
    """Use a registry that notifies of each change before it returns."""
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
def subscription_to_all() -> Iterator[Subscription]:
    subscription = Subscription.within_limit()
    assert subscription is not None
    yield subscription
    subscription.close()


def change(entry: TaskEntry) -> None:
    """Make a change that leaves the entry as it is."""
    get_registry().change(entry.id, lambda now: now)


def test_a_wait_ends_immediately_while_a_change_is_unread(subscription: Subscription, entry: TaskEntry) -> None:
    assert not subscription.wait(0)
    change(entry)
    assert subscription.wait(0)
    assert subscription.wait(0)
    assert subscription.read() == [entry.id]
    assert not subscription.wait(0)
    assert subscription.read() == []


def test_a_change_before_the_subscription_is_not_noticed(entry: TaskEntry) -> None:
    change(entry)
    subscription = Subscription(entry.id)
    assert not subscription.wait(0)
    assert subscription.read() == []


def test_a_change_of_another_task_is_not_noticed(subscription: Subscription) -> None:
    change(added())
    assert not subscription.wait(0)


def test_each_changed_task_is_read_once_in_the_order_of_its_first_change(
    subscription_to_all: Subscription,
) -> None:
    entries = [added() for _ in range(3)]
    for entry in (*entries[::-1], *entries):
        change(entry)
    assert subscription_to_all.read() == [entry.id for entry in entries]


def test_the_number_of_unread_changes_is_bounded(
    subscription_to_all: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_UNREAD", 3)
    entries = [added() for _ in range(5)]
    assert subscription_to_all.read() is None
    for _ in range(5):
        change(entries[4])
    assert subscription_to_all.read() == [entries[4].id]


def test_a_muted_subscription_ends_no_wait_and_misses_no_change(
    subscription_to_all: Subscription, entry: TaskEntry
) -> None:
    change(entry)
    subscription_to_all.mute()
    other = added()
    assert not subscription_to_all.wait(0)
    assert subscription_to_all.read() == [entry.id, other.id]
    change(entry)
    assert subscription_to_all.wait(0)
    assert subscription_to_all.read() == [entry.id]


def test_a_subscription_calls_its_wake_function_unless_it_is_muted(
    subscription: Subscription, entry: TaskEntry
) -> None:
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


def test_an_unread_change_calls_a_new_wake_function_immediately(subscription: Subscription, entry: TaskEntry) -> None:
    change(entry)
    woken: list[str] = []
    subscription.wake_by(lambda: woken.append("up"))
    assert woken == ["up"]


def test_a_closed_subscription_notices_nothing(entry: TaskEntry) -> None:
    for task_id in (entry.id, None):
        subscription = Subscription.within_limit(task_id)
        assert subscription is not None
        subscription.close()
        change(entry)
        assert not subscription.wait(0)


def test_a_subscription_that_is_closed_twice_is_counted_out_once(settings: LazySettings) -> None:
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


def test_a_subscription_beyond_the_limit_is_not_registered(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 1
    with ThreadPoolExecutor(8) as pool:
        subscriptions = [
            subscription
            for subscription in pool.map(lambda _: Subscription.within_limit(), range(100))
            if subscription is not None
        ]
    assert len(subscriptions) == 1
    assert get_waiter_limit().in_use == 1
    subscriptions[0].close()
    assert get_registry().notifier._callbacks == {}  # noqa: SLF001 - nothing public shows it


def test_the_waiter_limit_is_never_exceeded() -> None:
    limit = WaiterLimit(5)
    in_use = []
    start = threading.Barrier(8)

    def acquire_and_release(_: int) -> int:
        start.wait()
        acquired = 0
        for _ in range(2000):
            if limit.acquire():
                acquired += 1
                in_use.append(limit.in_use)
                limit.release()
        return acquired

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(acquire_and_release, range(8))) == len(in_use)
    assert max(in_use) <= 5
    assert limit.in_use == 0


def test_a_change_during_a_read_is_not_missed(subscription: Subscription, entry: TaskEntry) -> None:
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


def test_a_subscription_that_does_not_count_as_a_waiter_releases_nothing(entry: TaskEntry) -> None:
    counted = Subscription.within_limit(entry.id)
    assert counted is not None
    uncounted = Subscription(entry.id)
    uncounted.close()
    uncounted.close()
    assert get_waiter_limit().in_use == 1
    counted.close()
    assert get_waiter_limit().in_use == 0
