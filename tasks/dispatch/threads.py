"""The thread-based dispatcher."""

import logging
import math
import threading
import time
from contextlib import suppress
from uuid import UUID

from django.conf import settings

from tasks.dispatch import LaneCounts, runner
from tasks.dispatch.lanes import AsyncLane, Lane, Offload, ProcessLane, ThreadLane, inline
from tasks.dispatch.recovery import LeaseKeeper, recovery_thread
from tasks.dispatch.retention import retention_thread
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import DispatcherFull, DispatcherStopping, RegistryUnavailable, TaskNotFound
from tasks.kinds import get_kinds
from tasks.registry import Leases, get_registry
from tasks.utils.lazy import RunOnce
from tasks.utils.periodic import PeriodicThread
from tasks.utils.timer import Call, Timer

logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER = 30
_INTERRUPTED = TaskFailure("interrupted", "The server was stopped before the task ended. Create it again.")
_RELEASED = TaskFailure("interrupted", "The server that ran the task was stopped before the task ended.")


class ThreadDispatcher:
    """Runs tasks in this process and in its child processes; each kind has its lane.

    No thread starts before the first dispatch, so that a server may fork before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timer = Timer("tasks-timer")
        self._leases = get_registry().leases
        # The periodic work: each part of it goes on while another fails.
        self._services: list[PeriodicThread | LeaseKeeper] = [retention_thread()]
        if self._leases is not None:
            self._services.append(LeaseKeeper(self._leases, self._local_ids, self._resume, self._stop))
            self._services.append(recovery_thread(self._leases, self._resume, self._room))
        self._start = RunOnce(self._start_services)
        self.is_stopping = False
        # Tasks that wait for their next attempt, as many as may wait in a lane.
        self._delayed: dict[UUID, Call] = {}
        self._offload = Offload() if get_registry().does_io else None
        options = {
            "queue_limit": settings.TASK_QUEUE_LIMIT,
            "timer": self._timer,
            "retry": self._schedule_retry,
            "offload": self._offload or inline,
        }
        self._lanes: dict[str, Lane] = {
            "threads": ThreadLane(slots=settings.TASK_THREADS, **options),
            "async": AsyncLane(slots=settings.TASK_ASYNC_LIMIT, **options),
            "processes": ProcessLane(slots=settings.TASK_PROCESSES, **options),
        }
        self._lane_by_kind = {
            name: self._lanes["async" if kind.is_async else "processes" if kind.cpu_bound else "threads"]
            for name, kind in get_kinds().items()
        }

    def start(self) -> None:
        self._start()

    def dispatch(self, entry: TaskEntry) -> None:
        self._submit(entry)
        self._start()

    def cancel(self, entry: TaskEntry) -> None:
        with self._lock:
            delayed = self._delayed.pop(entry.id, None)
        if delayed is not None:
            delayed.cancel()
        self._lane_by_kind[entry.kind].stop(entry.id)

    def retry_after(self, entry: TaskEntry) -> int:
        if delayed := self._delayed.get(entry.id):
            seconds = delayed.when - time.monotonic()
        else:
            seconds = self._lane_by_kind[entry.kind].seconds_left(entry)
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
        for lane in lanes:
            lane.shut_down()
        self._timer.clear()
        for service in self._services:
            service.stop()
        if self._offload is not None:
            self._offload.close()
        return idle and not waiting

    def counts(self) -> dict[str, LaneCounts]:
        return {name: lane.counts() for name, lane in self._lanes.items()}

    def _start_services(self) -> None:
        for service in self._services:
            service.start()

    def _submit(self, entry: TaskEntry, *, force: bool = False) -> None:
        """Run the task once its delay is over; with `force` it is never refused for lack of room in its lane."""
        if seconds := entry.delay:
            self._delay(entry, seconds)
        else:
            self._lane_by_kind[entry.kind].submit(entry, force=force)

    def _schedule_retry(self, entry: TaskEntry) -> None:
        """Run the next attempt of a task after its delay; where there is no room for that, its failure is final."""
        try:
            self._delay(entry, entry.delay)
        except DispatcherStopping:
            self._give_up([entry.id])
        except DispatcherFull:
            if self._leases is not None:
                self._give_up([entry.id])
            elif entry.error is not None:
                runner.abort(entry.id, entry.error)

    def _delay(self, entry: TaskEntry, seconds: float) -> None:
        with self._lock:
            if self.is_stopping:
                raise DispatcherStopping(1)
            if len(self._delayed) >= settings.TASK_QUEUE_LIMIT:
                raise DispatcherFull(math.ceil(seconds))
            self._delayed[entry.id] = self._timer.call_later(seconds, lambda: self._requeue(entry))

    def _requeue(self, entry: TaskEntry) -> None:
        with self._lock:
            if self._delayed.pop(entry.id, None) is None:
                return  # it was cancelled, or the stop began, at this very moment
        try:
            self._lane_by_kind[entry.kind].submit(entry, force=True)
        except DispatcherStopping:
            self._give_up([entry.id])

    def _resume(self, entry: TaskEntry) -> None:
        """Run a task that was accepted by another process, or before this one began."""
        try:
            self._submit(entry, force=True)
        except DispatcherFull:
            self._give_up([entry.id])

    def _stop(self, task_id: UUID) -> None:
        for lane in self._lanes.values():
            lane.stop(task_id)

    def _give_up(self, task_ids: list[UUID]) -> None:
        """Release the tasks for other processes; where there are none, end them."""
        if self._leases is None:
            for task_id in task_ids:
                runner.abort(task_id, _INTERRUPTED)
            return
        try:
            _release(self._leases, task_ids)
        except RegistryUnavailable:
            logger.warning("The database is away: other processes take over this one's tasks when its lease expires")

    def _local_ids(self) -> set[UUID]:
        """All tasks that wait or run in this process."""
        with self._lock:
            local = set(self._delayed)
        for lane in self._lanes.values():
            local.update(lane.ids())
        return local

    def _room(self) -> int:
        """How many tasks of other processes this one may take over now."""
        if self.is_stopping:
            return 0
        return settings.TASK_QUEUE_LIMIT - max(count.waiting for count in self.counts().values())


def _release(leases: Leases, task_ids: list[UUID]) -> None:
    for task_id in task_ids:
        with suppress(TaskNotFound):
            entry = get_registry().get(task_id)
            if entry.started_at is not None and not entry.ended:
                runner.abandon(entry, _RELEASED)
    leases.release(task_ids)
