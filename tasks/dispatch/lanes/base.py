"""What all lanes share: a bounded queue in front of a bounded number of slots, timeouts, and how work is stopped."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tasks.dispatch import LaneCounts, runner
from tasks.dispatch.lanes.backlog import Backlog
from tasks.dispatch.lanes.offload import Submit
from tasks.dispatch.lanes.run import Run, RunTimes
from tasks.dispatch.runner import Outcome
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull, DispatcherStopping
from tasks.kinds import get_kinds
from tasks.utils.timer import Timer

_MAX_RETRY_AFTER = 60


class Lane(ABC):
    """Runs tasks in its slots; a subclass defines what a slot is.

    Where the code of a stopped task may go on (`can_orphan`), the task frees its slot immediately, and its code is
    counted as orphaned until it returns. There are never more orphans than slots; beyond that, a slot is free only
    once its code has returned.
    """

    can_orphan = True

    def __init__(
        self, *, slots: int, queue_limit: int, timer: Timer, retry: Callable[[TaskEntry], None], offload: Submit
    ) -> None:
        """`retry` gets the entry of each task that is to be retried; `offload` calls what may wait for a database."""
        self._offload = offload
        self._slots = slots
        self._queue_limit = queue_limit
        self._timer = timer
        self._retry = retry
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._backlog = Backlog()
        self._running: dict[UUID, Run] = {}
        self._running_of: Counter[str] = Counter()
        self._orphaned = 0
        self._run_times = RunTimes()
        self._closed = False

    def submit(self, entry: TaskEntry, *, force: bool = False) -> None:
        """Run the task, now or when a slot is free; with `force` it is never refused for lack of room.

        Raises DispatcherFull, and its subclass DispatcherStopping after `close`.
        """
        with self._lock:
            if self._closed:
                raise DispatcherStopping(_MAX_RETRY_AFTER)
            free = self._slots - len(self._running)
            if not force and len(self._backlog) >= self._queue_limit + free:
                raise DispatcherFull(self._retry_after(entry.kind))
            self._backlog.push(entry.kind, entry.id)
            wakes = self._must_wake()
        if wakes:
            self._wake()

    def stop(self, task_id: UUID) -> None:
        """Stop the work on a task that has ended in the registry, and free its slot."""
        with self._lock:
            self._backlog.discard(task_id)
            run = self._running.get(task_id)
        if run is not None:
            self._stop_run(run)

    def seconds_left(self, entry: TaskEntry) -> float:
        """How long the task may still take, judging by its place in the queue and by its kind's run times."""
        kind = entry.kind
        with self._lock:
            mean = self._run_times.mean(kind)
            if run := self._running.get(entry.id):
                # A task that has taken longer than the mean is expected to take as long again.
                return abs(mean - (time.monotonic() - run.began))
            return mean * (1 + self._backlog.ahead_of(kind, entry.id) / self._slots_of(kind))

    def close(self) -> list[UUID]:
        """Refuse further tasks, and return those that still waited, which will not be run."""
        with self._lock:
            self._closed = True
            return self._backlog.clear()

    def ids(self) -> list[UUID]:
        """All tasks that wait or run."""
        with self._lock:
            return [*self._backlog.ids(), *self._running]

    def running(self) -> list[UUID]:
        with self._lock:
            return list(self._running)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no task runs; False where `timeout` seconds were not enough."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._running, timeout)

    @abstractmethod
    def shut_down(self) -> None:
        """End the threads, the loop or the processes of the lane, after `close`."""

    def counts(self) -> LaneCounts:
        with self._lock:
            return LaneCounts(len(self._backlog), len(self._running), self._orphaned)

    @abstractmethod
    def _must_wake(self) -> bool:
        """Whether `_wake` has to be called so that the tasks whose turn it is begin. Called with the lock."""

    @abstractmethod
    def _wake(self) -> None:
        """Start or wake whatever begins tasks. Called without the lock, since it waits for the system."""

    def _has_next(self) -> bool:
        return len(self._running) < self._slots and self._backlog.next_kind(self._may_run) is not None

    def _begin(self) -> Run | None:
        """Give a slot to the task whose turn it is; None where there is none. Called with the lock."""
        kind = self._backlog.next_kind(self._may_run) if len(self._running) < self._slots else None
        if kind is None:
            return None
        task_id = self._backlog.pop(kind)
        run = self._running[task_id] = Run(task_id, kind, time.monotonic())
        self._running_of[kind] += 1
        return run

    def _interrupt(self, work: Any) -> None:
        """Stop the `work` of a run without waiting for it. For lanes whose runs have some. Called with the lock."""
        raise NotImplementedError

    def _set_work(self, run: Run, work: Any | None) -> None:
        """From now on a stop interrupts `work`; one that came before has found nothing to interrupt."""
        with self._lock:
            run.work = work
            if work is not None and run.is_stopped:
                self._interrupt(work)

    def _finish(self, run: Run) -> bool:
        """Free the slot of a run whose code has returned; False where it was orphaned before."""
        with self._lock:
            run.work = None
            kept = self._running.get(run.task_id) is run
            if kept:
                self._free_slot(run)
            else:
                self._orphaned -= 1
        self._hand_over(run)
        return kept

    def _free_slot(self, run: Run) -> None:
        del self._running[run.task_id]
        self._running_of[run.kind] -= 1
        self._run_times.add(run.kind, time.monotonic() - run.began)
        self._ended.notify_all()

    def _may_run(self, kind: str) -> bool:
        limit = get_kinds()[kind].max_running
        return limit is None or self._running_of[kind] < limit

    def _stop_run(self, run: Run) -> None:
        with self._lock:
            run.is_stopped = True
            if run.work is not None:
                self._interrupt(run.work)
            if not self.can_orphan or self._orphaned >= self._slots or self._running.get(run.task_id) is not run:
                return
            self._orphaned += 1
            self._free_slot(run)
            wakes = self._must_wake()
        if wakes:
            self._wake()

    def _claim(self, run: Run) -> TaskEntry | None:
        """Claim the task of a run; from then on its time is limited."""
        entry = runner.claim(run.task_id)
        seconds = get_kinds()[run.kind].timeout
        if entry is not None and seconds is not None:
            run.deadline = self._timer.call_later(seconds, lambda: self._offload(self._time_out, run, entry, seconds))
        return entry

    def _time_out(self, run: Run, entry: TaskEntry, seconds: float) -> None:
        settled = runner.settle(entry, runner.timeout_outcome(seconds))
        if settled is not None:
            run.next_attempt = None if settled.ended else settled
            self._stop_run(run)
            self._hand_over(run)

    def _hand_over(self, run: Run) -> None:
        """Hand over the next attempt, once, as soon as the run has freed its slot."""
        with self._lock:
            if self._running.get(run.task_id) is run:
                return
            entry, run.next_attempt = run.next_attempt, None
        if entry is not None:
            self._retry(entry)

    def _settle(self, run: Run, entry: TaskEntry, outcome: Outcome) -> None:
        if run.deadline is not None:
            run.deadline.cancel()
        settled = runner.settle(entry, outcome)
        if settled is not None and not settled.ended:
            run.next_attempt = settled

    def _retry_after(self, kind: str) -> int:
        """Whole seconds until the tasks that wait now have begun, judging by the kind's run times."""
        seconds = len(self._backlog) * self._run_times.mean(kind) / self._slots_of(kind)
        return max(1, min(math.ceil(seconds), _MAX_RETRY_AFTER))

    def _slots_of(self, kind: str) -> int:
        return min(self._slots, get_kinds()[kind].max_running or self._slots)
