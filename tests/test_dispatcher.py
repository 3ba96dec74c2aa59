"""The contract of a dispatcher. Add another implementation to the parameters of the fixture."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import LazySettings

from tasks.dispatch import Dispatcher
from tasks.dispatch.immediate import ImmediateDispatcher
from tasks.dispatch.threads import ThreadDispatcher
from tasks.entry import Status, TaskEntry
from tasks.exceptions import DispatcherFull
from tasks.kinds import get_kinds
from tasks.registry import get_registry
from tests import kinds, modes
from tests.helpers import wait_for


@pytest.fixture(params=[ThreadDispatcher, ImmediateDispatcher])
def dispatcher(request: pytest.FixtureRequest) -> Iterator[Dispatcher]:
    build: Callable[[], Dispatcher] = request.param
    dispatcher = build()
    yield dispatcher
    kinds.gate.set()
    dispatcher.drain(timeout=0)


@pytest.fixture
def thread_dispatcher() -> Iterator[ThreadDispatcher]:
    dispatcher = ThreadDispatcher()
    yield dispatcher
    kinds.gate.set()
    dispatcher.drain(timeout=0)


def stored(kind: str, **fields: Any) -> TaskEntry:
    return get_registry().add(get_kinds()[kind].new_entry({"name": "sample_name", **fields}))


def delayed_by(seconds: float, entry: TaskEntry) -> TaskEntry:
    return dataclasses.replace(entry, run_after=datetime.now(UTC) + timedelta(seconds=seconds))


def ended(entry: TaskEntry) -> TaskEntry:
    wait_for(lambda: get_registry().get(entry.id).ended)
    return get_registry().get(entry.id)


def is_started(entry: TaskEntry) -> bool:
    return get_registry().get(entry.id).started_at is not None


@pytest.mark.parametrize("kind", ["thread", "async", "process", "task", "echo", "prime-count"])
def test_a_dispatched_task_runs_to_its_end(dispatcher: Dispatcher, kind: str) -> None:
    entry = stored(kind, **({"limit": 100} if kind == "prime-count" else {}))
    dispatcher.dispatch(entry)
    assert ended(entry).status is Status.COMPLETED


@pytest.mark.parametrize("kind", ["thread-retry", "async-retry", "process-retry"])
def test_every_attempt_is_made(dispatcher: Dispatcher, kind: str) -> None:
    entry = stored(kind, do="fail-until", times=3)
    dispatcher.dispatch(entry)
    assert (ended(entry).status, ended(entry).attempt) == (Status.COMPLETED, 3)


def test_a_task_that_was_cancelled_before_its_dispatch_is_not_run(dispatcher: Dispatcher) -> None:
    entry = stored("thread")
    cancelled = get_registry().change(entry.id, TaskEntry.cancelled)
    dispatcher.dispatch(entry)
    after = stored("thread")
    dispatcher.dispatch(after)
    assert ended(after).status is Status.COMPLETED
    assert get_registry().get(entry.id) == cancelled


def test_a_removed_task_does_not_affect_the_next_one(dispatcher: Dispatcher) -> None:
    entry = stored("thread")
    get_registry().remove(entry.id)
    dispatcher.dispatch(entry)
    after = stored("thread")
    dispatcher.dispatch(after)
    assert ended(after).status is Status.COMPLETED


def test_a_cancel_of_an_ended_task_changes_nothing(dispatcher: Dispatcher) -> None:
    entry = stored("thread")
    dispatcher.dispatch(entry)
    last = ended(entry)
    dispatcher.cancel(last)
    assert get_registry().get(entry.id) == last


def test_a_drain_with_nothing_to_wait_for_returns_immediately(dispatcher: Dispatcher) -> None:
    entry = stored("thread")
    dispatcher.dispatch(entry)
    ended(entry)
    assert dispatcher.drain(timeout=10)
    assert dispatcher.drain(timeout=10)


# Further promises of a dispatcher that works in the background


def test_a_delayed_task_waits_without_a_slot(thread_dispatcher: ThreadDispatcher) -> None:
    entry = stored("thread")
    thread_dispatcher.dispatch(delayed_by(0.1, entry))
    assert thread_dispatcher.counts()["threads"] == (0, 0, 0)
    last = ended(entry)
    assert last.finished_at is not None
    assert (last.finished_at - last.created_at).total_seconds() >= 0.1


def test_a_delayed_task_that_is_cancelled_is_not_run(thread_dispatcher: ThreadDispatcher) -> None:
    entry = stored("thread")
    thread_dispatcher.dispatch(delayed_by(0.05, entry))
    cancelled = get_registry().change(entry.id, TaskEntry.cancelled)
    thread_dispatcher.cancel(cancelled)
    after = stored("thread")
    thread_dispatcher.dispatch(delayed_by(0.1, after))
    ended(after)
    assert get_registry().get(entry.id) == cancelled


def test_a_drain_refuses_new_tasks(thread_dispatcher: ThreadDispatcher) -> None:
    thread_dispatcher.drain(timeout=0)
    for seconds in (0, 1):
        with pytest.raises(DispatcherFull, match="stopping"):
            thread_dispatcher.dispatch(delayed_by(seconds, stored("thread")))


def test_a_drain_lets_running_tasks_end(thread_dispatcher: ThreadDispatcher) -> None:
    entries = [stored("thread", do="check", seconds=0.2), stored("async", do="sleep", seconds=0.2), stored("process")]
    for entry in entries:
        thread_dispatcher.dispatch(entry)
    wait_for(lambda: all(is_started(entry) for entry in entries))
    assert thread_dispatcher.drain(timeout=10)
    assert {get_registry().get(entry.id).status for entry in entries} == {Status.COMPLETED}


@modes.alone
def test_a_drain_interrupts_waiting_tasks_and_those_that_run_too_long(thread_dispatcher: ThreadDispatcher) -> None:
    running = [stored(f"{lane}-single", do="sleep", seconds=20) for lane in ("thread", "async", "process")]
    waiting = [stored(f"{lane}-single") for lane in ("thread", "async", "process")]
    delayed = stored("thread")
    for entry in running + waiting:
        thread_dispatcher.dispatch(entry)
    thread_dispatcher.dispatch(delayed_by(60, delayed))
    wait_for(lambda: all(is_started(entry) for entry in running))
    assert not thread_dispatcher.drain(timeout=0.1)
    for entry in [*running, *waiting, delayed]:
        last = get_registry().get(entry.id)
        assert last.status is Status.FAILED
        assert last.error is not None
        assert last.error.code == "interrupted"
    assert [get_registry().get(entry.id).attempt for entry in [*waiting, delayed]] == [0] * 4


def test_a_coroutine_that_is_interrupted_by_a_drain_can_clean_up(thread_dispatcher: ThreadDispatcher) -> None:
    entry = stored("async", do="tidy", seconds=20)
    thread_dispatcher.dispatch(entry)
    wait_for(lambda: get_registry().get(entry.id).message)
    assert not thread_dispatcher.drain(timeout=0)
    assert kinds.tidied.wait(5)


@modes.alone
def test_a_drain_does_not_wait_for_threads_that_nothing_can_stop(settings: LazySettings) -> None:
    settings.TASK_THREADS = 1
    dispatcher = ThreadDispatcher()
    orphan, running = (stored("thread", do="sleep", seconds=20) for _ in range(2))
    dispatcher.dispatch(orphan)
    wait_for(lambda: is_started(orphan))
    dispatcher.cancel(get_registry().change(orphan.id, TaskEntry.cancelled))
    dispatcher.dispatch(running)
    wait_for(lambda: is_started(running))
    begin = time.monotonic()
    assert not dispatcher.drain(timeout=0)
    assert time.monotonic() - begin < 3
    assert get_registry().get(running.id).ended


@modes.alone
def test_an_attempt_that_fails_during_a_drain_is_not_retried(thread_dispatcher: ThreadDispatcher) -> None:
    entry = stored("thread-late-retry", do="fail-at-gate")
    thread_dispatcher.dispatch(entry)
    wait_for(lambda: is_started(entry))
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(thread_dispatcher.drain, timeout=10)
        wait_for(lambda: is_stopping(thread_dispatcher))
        kinds.gate.set()
        assert drained.result()
    error = get_registry().get(entry.id).error
    assert error is not None
    assert error.code == "interrupted"


def is_stopping(dispatcher: ThreadDispatcher) -> bool:
    entry = stored("thread")
    try:
        dispatcher.dispatch(entry)
    except DispatcherFull:
        return True
    return False
