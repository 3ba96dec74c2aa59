"""Who gets the work done: the promises of a dispatcher, and the thread-based one."""

import logging
import math
import threading
import time
from contextlib import suppress
from typing import Protocol
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from tasks import runner
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import DispatcherFull, DispatcherStopping, RegistryUnavailable, TaskNotFound
from tasks.kinds import get_kinds
from tasks.lanes import Aside, AsyncLane, Lane, LaneCounts, ProcessLane, ThreadLane, at_once
from tasks.maintenance import SWEEP_SECONDS, Custody, Repeater, delete_orphans, heartbeat, rescue, sweep
from tasks.once import Once
from tasks.registry import get_registry
from tasks.timer import Call, Timer

logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER = 30
_INTERRUPTED = TaskFailure("interrupted", "The server was stopped before the task had ended; create it again.")
_LEFT = TaskFailure("interrupted", "The server that ran the task was stopped before it had ended.")


class Dispatcher(Protocol):
    """Runs tasks without the caller, who hands it the stored entry; it needs no more than the id and the kind."""

    is_stopping: bool
    """Whether it takes no more tasks."""

    def start(self) -> None:
        """Look after what needs it from now on, and not only from the first task: call it in a process that serves."""

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

        What still waits, and what runs even then, is `failed` with the code `interrupted`; or, where the registry is
        shared, left to other processes and to the next start. False where there was such a task.
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
        self._tidy = Once(delete_orphans)
        self._upkeep = [Repeater("tasks-sweeper", SWEEP_SECONDS, self._look_after)]
        self._is_shared = get_registry().is_shared
        if self._is_shared:
            self._custody = Custody()
            self._upkeep.append(heartbeat(self._beat))
        self._start = Once(self._start_upkeep)
        self.is_stopping = False
        # Tasks that wait for their next attempt, as many as may wait in a lane.
        self._delayed: dict[UUID, Call] = {}
        self._aside = Aside() if self._is_shared else None
        shared = {
            "queue_limit": settings.TASK_QUEUE_LIMIT,
            "timer": self._timer,
            "again": self._again,
            "aside": self._aside or at_once,
        }
        self._lanes: dict[str, Lane] = {
            "threads": ThreadLane(places=settings.TASK_THREADS, **shared),
            "async": AsyncLane(places=settings.TASK_ASYNC_LIMIT, **shared),
            "processes": ProcessLane(places=settings.TASK_PROCESSES, **shared),
        }

    def start(self) -> None:
        self._start()

    def dispatch(self, entry: TaskEntry, delay: float = 0) -> None:
        if delay:
            self._delay(entry, delay)
        else:
            self._lane_of(entry).submit(entry)
        self._start()

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
            self.is_stopping = True
            delayed, self._delayed = self._delayed, {}
        for call in delayed.values():
            call.cancel()
        waiting = [task_id for lane in lanes for task_id in lane.close()] + list(delayed)
        self._give_up(waiting)
        idle = all(lane.wait_idle(max(deadline - time.monotonic(), 0)) for lane in lanes)
        for lane in lanes:
            running = lane.running()
            self._give_up(running)
            for task_id in running:
                lane.stop(task_id)
            lane.shut_down()
        self._timer.clear()
        for repeater in self._upkeep:
            repeater.stop()
        get_registry().cancels.remove(self._stop)
        if self._aside is not None:
            self._aside.close()
        return idle and not waiting

    def counts(self) -> dict[str, LaneCounts]:
        return {name: lane.counts() for name, lane in self._lanes.items()}

    def _lane_of(self, entry: TaskEntry) -> Lane:
        kind = get_kinds()[entry.kind]
        return self._lanes["async" if kind.is_async else "processes" if kind.cpu_bound else "threads"]

    def _again(self, entry: TaskEntry) -> None:
        """Give a task whose attempt failed its next one; where there is no room for that, the failure stands."""
        try:
            self._delay(entry, entry.due_in)
        except DispatcherStopping:
            self._give_up([entry.id])
        except DispatcherFull:
            if self._is_shared:
                self._give_up([entry.id])
            elif entry.error is not None:
                runner.fail(entry.id, entry.error)

    def _delay(self, entry: TaskEntry, seconds: float) -> None:
        with self._lock:
            if self.is_stopping:
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
            self._give_up([entry.id])

    def _give_up(self, task_ids: list[UUID]) -> None:
        """End the tasks; or, where there may be others to do them, leave them to those."""
        if not self._is_shared:
            for task_id in task_ids:
                runner.fail(task_id, _INTERRUPTED)
            return
        registry = get_registry()
        try:
            for task_id in task_ids:
                with suppress(TaskNotFound):
                    entry = registry.get(task_id)
                    if entry.started_at is not None and not entry.ended:
                        runner.lose(entry, _LEFT)
            registry.release(task_ids)
        except RegistryUnavailable:
            logger.warning("The database is away: what this process had is left to others when its lease is over")

    # What looks after the tasks of all processes.

    def _start_upkeep(self) -> None:
        if self._is_shared:
            get_registry().cancels.add(self._stop)
        for repeater in self._upkeep:
            repeater.start()

    def _look_after(self) -> None:
        self._tidy()
        sweep()
        if self._is_shared and not self.is_stopping:
            rescue(self._accept, settings.TASK_QUEUE_LIMIT - max(count.waiting for count in self.counts().values()))

    def _beat(self) -> None:
        with self._lock:
            here = set(self._delayed)
        for lane in self._lanes.values():
            here.update(lane.ids())
        self._custody.beat(here, self._accept, self._stop)

    def _accept(self, entry: TaskEntry) -> None:
        """Run a task that was accepted by another process, or before this one began."""
        try:
            if entry.due_in:
                self._delay(entry, entry.due_in)
            else:
                self._lane_of(entry).submit(entry, accepted=True)
        except DispatcherFull:
            self._give_up([entry.id])

    def _stop(self, task_id: UUID | None) -> None:
        """Stop the work on a task that was cancelled elsewhere. Called by the registry, so it must not wait."""
        if task_id is not None:
            for lane in self._lanes.values():
                lane.stop(task_id)


class ImmediateDispatcher:
    """Runs each task, all its attempts, before `dispatch` returns: for tests of a kind."""

    is_stopping = False

    def start(self) -> None:
        """There is nothing to look after."""

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
    dispatcher: Dispatcher = import_string(settings.TASK_DISPATCHER)()
    return dispatcher


get_dispatcher = Once(_build_dispatcher)
