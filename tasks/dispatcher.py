"""Who gets the work done: the promises of a dispatcher, and the thread-based one."""

import math
import threading
import time
from typing import Protocol
from uuid import UUID

from django.conf import settings

from tasks import runner
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import DispatcherFull, DispatcherStopping
from tasks.kinds import get_kinds
from tasks.lanes import AsyncLane, Lane, LaneCounts, ProcessLane, ThreadLane
from tasks.maintenance import Sweeper
from tasks.once import Once
from tasks.timer import Call, Timer

_MAX_RETRY_AFTER = 30
_INTERRUPTED = TaskFailure("interrupted", "The server was stopped before the task had ended; create it again.")


class Dispatcher(Protocol):
    """Runs tasks without the caller, who hands it the stored entry; it needs no more than the id and the kind."""

    def dispatch(self, entry: TaskEntry, delay: float = 0) -> None:
        """See to it that the task is run, after `delay` seconds. Never waits for a worker.

        Raises DispatcherFull where no more tasks may wait, and its kind DispatcherStopping after `drain`.
        """

    def cancel(self, entry: TaskEntry) -> None:
        """Stop the work on a task that has ended in the registry, as far as it can be stopped."""

    def retry_after(self, entry: TaskEntry) -> int:
        """In how many whole seconds a poll of the pending task may have news: from 1 to 30."""

    def drain(self, timeout: float) -> bool:
        """Take no more tasks, and give the running ones `timeout` seconds to end.

        What still waits, and what runs even then, is `failed` with the code `interrupted`. False where there
        was such a task.
        """

    def counts(self) -> dict[str, LaneCounts]:
        """What each lane holds, by its name."""


class ThreadDispatcher:
    """Runs tasks in this process and in its child processes; each kind has its lane.

    Nothing starts before the first dispatch, so that a server may fork before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer = Timer("tasks-timer")
        self._sweeper = Sweeper()
        self._stopping = False
        # Tasks that wait for their next attempt, as many as may wait in a lane.
        self._delayed: dict[UUID, Call] = {}
        shared = {"queue_limit": settings.TASK_QUEUE_LIMIT, "timer": self._timer, "again": self._again}
        self._lanes: dict[str, Lane] = {
            "threads": ThreadLane(places=settings.TASK_THREADS, **shared),
            "async": AsyncLane(places=settings.TASK_ASYNC_LIMIT, **shared),
            "processes": ProcessLane(places=settings.TASK_PROCESSES, **shared),
        }

    def dispatch(self, entry: TaskEntry, delay: float = 0) -> None:
        if delay:
            self._delay(entry, delay)
        else:
            self._lane_of(entry).submit(entry)
        self._sweeper.start()

    def cancel(self, entry: TaskEntry) -> None:
        with self._lock:
            delayed = self._delayed.pop(entry.id, None)
        if delayed is not None:
            delayed.cancel()
        self._lane_of(entry).stop(entry.id)

    def retry_after(self, entry: TaskEntry) -> int:
        delayed = self._delayed.get(entry.id)
        seconds = self._lane_of(entry).seconds_left(entry) if delayed is None else delayed.when - time.monotonic()
        return max(1, min(round(seconds), _MAX_RETRY_AFTER))

    def drain(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        lanes = self._lanes.values()
        with self._lock:
            self._stopping = True
            delayed, self._delayed = self._delayed, {}
        for call in delayed.values():
            call.cancel()
        waiting = [task_id for lane in lanes for task_id in lane.close()] + list(delayed)
        self._interrupt(waiting)
        idle = all(lane.wait_idle(max(deadline - time.monotonic(), 0)) for lane in lanes)
        for lane in lanes:
            running = lane.running()
            self._interrupt(running)
            for task_id in running:
                lane.stop(task_id)
            lane.shut_down()
        self._timer.clear()
        self._sweeper.stop()
        return idle and not waiting

    def counts(self) -> dict[str, LaneCounts]:
        return {name: lane.counts() for name, lane in self._lanes.items()}

    def _lane_of(self, entry: TaskEntry) -> Lane:
        kind = get_kinds()[entry.kind]
        return self._lanes["async" if kind.is_async else "processes" if kind.cpu_bound else "threads"]

    def _again(self, entry: TaskEntry) -> None:
        """Give a task whose attempt failed its next one; where there is no room for that, the failure stands."""
        try:
            self._delay(entry, runner.retry_delay(entry))
        except DispatcherStopping:
            self._interrupt([entry.id])
        except DispatcherFull:
            if entry.error is not None:
                runner.fail(entry.id, entry.error)

    def _delay(self, entry: TaskEntry, seconds: float) -> None:
        with self._lock:
            if self._stopping:
                raise DispatcherStopping(1)
            if len(self._delayed) >= settings.TASK_QUEUE_LIMIT:
                raise DispatcherFull(math.ceil(seconds))
            self._delayed[entry.id] = self._timer.call_later(seconds, lambda: self._readmit(entry))

    def _readmit(self, entry: TaskEntry) -> None:
        with self._lock:
            if self._delayed.pop(entry.id, None) is None:
                return  # cancelled, or stopping, in this very moment
        try:
            self._lane_of(entry).submit(entry, accepted=True)
        except DispatcherStopping:
            self._interrupt([entry.id])

    def _interrupt(self, task_ids: list[UUID]) -> None:
        for task_id in task_ids:
            runner.fail(task_id, _INTERRUPTED)


class ImmediateDispatcher:
    """Runs each task, all its attempts, before `dispatch` returns: for tests of a kind."""

    def dispatch(self, entry: TaskEntry, delay: float = 0) -> None:
        while (settled := runner.run(entry.id)) is not None and not settled.ended:
            pass

    def cancel(self, entry: TaskEntry) -> None:
        """Nothing runs by then."""

    def retry_after(self, entry: TaskEntry) -> int:
        return 1

    def drain(self, timeout: float) -> bool:
        return True

    def counts(self) -> dict[str, LaneCounts]:
        return {}


def _build_dispatcher() -> Dispatcher:
    return ThreadDispatcher()


get_dispatcher = Once(_build_dispatcher)
