"""What all lanes share: a bounded queue before a bounded number of places, timeouts, and how work is stopped."""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from tasks import runner
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import DispatcherFull, DispatcherStopping
from tasks.kinds import get_kinds
from tasks.lanes.aside import Do
from tasks.lanes.backlog import Backlog
from tasks.runner import Outcome
from tasks.timer import Call, Timer

_MAX_RETRY_AFTER = 60
# The part that a kind's latest run has in its mean run time.
_LATEST_SHARE = 0.2


@dataclass(eq=False, slots=True)
class Run:
    """A task that has a place in a lane.

    `work` is what its lane interrupts to stop it. `deadline` is the call that comes when its time is over.
    `next_attempt` is the entry of a task that is to be tried again once this run has given up its place. One that
    `is_stopped` has ended in the registry.
    """

    task_id: UUID
    kind: str
    began: float
    work: Any = None
    deadline: Call | None = None
    next_attempt: TaskEntry | None = None
    is_stopped: bool = False


class LaneCounts(NamedTuple):
    """Tasks that wait, tasks that have a place, and ended tasks whose code goes on all the same."""

    waiting: int
    running: int
    lost: int


class Lane(ABC):
    """Runs tasks in its places; a subclass says what a place is.

    A task whose attempt is over loses its place at once where the lane `abandons` such work: its code may hold on
    to a thread, and is then counted as lost. There are never more lost ones than places; past that, a place is
    free only when its code has returned.
    """

    abandons = True

    def __init__(
        self, *, places: int, queue_limit: int, timer: Timer, again: Callable[[TaskEntry], None], aside: Do
    ) -> None:
        """`again` gets the entry of each task that is to be tried again; `aside` does what may wait for a database."""
        self._aside = aside
        self._places = places
        self._queue_limit = queue_limit
        self._timer = timer
        self._again = again
        self._lock = threading.RLock()
        self._ended = threading.Condition(self._lock)
        self._backlog = Backlog()
        self._running: dict[UUID, Run] = {}
        self._running_of: Counter[str] = Counter()
        self._lost = 0
        self._mean_seconds: dict[str, float] = {}
        self._closed = False

    def submit(self, entry: TaskEntry, *, accepted: bool = False) -> None:
        """Take the task, now or when a place is free; one that was `accepted` before is never refused for space.

        Raises DispatcherFull, and its kind DispatcherStopping after `close`.
        """
        with self._lock:
            if self._closed:
                raise DispatcherStopping(_MAX_RETRY_AFTER)
            free = self._places - len(self._running)
            if not accepted and len(self._backlog) >= self._queue_limit + free:
                raise DispatcherFull(self._retry_after(entry.kind))
            self._backlog.push(entry.kind, entry.id)
            wakes = self._must_wake()
        if wakes:
            self._wake()

    def stop(self, task_id: UUID) -> None:
        """Stop the work on a task that has ended in the registry, and free its place."""
        with self._lock:
            self._backlog.discard(task_id)
            run = self._running.get(task_id)
        if run is not None:
            self._stop_run(run)

    def seconds_left(self, entry: TaskEntry) -> float:
        """How long the task may still take, going by its place in the queue and by how long its kind's tasks took."""
        kind, now = entry.kind, time.monotonic()
        with self._lock:
            mean = self._mean_seconds.get(kind, 1)
            run = self._running.get(entry.id)
            if run is not None:
                # The longer it has taken too long, the longer it will.
                return abs(mean - (now - run.began))
            return mean * (1 + self._backlog.ahead_of(kind, entry.id) / self._width(kind))

    def close(self) -> list[UUID]:
        """Take no more, and return the tasks that still waited, which will not be run."""
        with self._lock:
            self._closed = True
            return self._backlog.clear()

    def ids(self) -> list[UUID]:
        """All tasks that wait or have a place."""
        with self._lock:
            return [*self._backlog.ids(), *self._running]

    def running(self) -> list[UUID]:
        with self._lock:
            return list(self._running)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no task has a place; False where `timeout` seconds were not enough."""
        with self._ended:
            return self._ended.wait_for(lambda: not self._running, timeout)

    @abstractmethod
    def shut_down(self) -> None:
        """End what the lane runs on, after `close`, whatever still runs there."""

    def counts(self) -> LaneCounts:
        with self._lock:
            return LaneCounts(len(self._backlog), len(self._running), self._lost)

    @abstractmethod
    def _must_wake(self) -> bool:
        """Whether `_wake` has to be called so that the tasks whose turn it is are begun. Called with the lock held."""

    @abstractmethod
    def _wake(self) -> None:
        """Start or wake what begins tasks. Called without the lock, since it waits for the system."""

    @abstractmethod
    def _interrupt(self, work: Any) -> None:
        """Stop the `work` of a run without waiting for it. Called with the lock held."""

    def _has_next(self) -> bool:
        return len(self._running) < self._places and self._backlog.next_kind(self._may_run) is not None

    def _begin(self) -> Run | None:
        """Give a place to the task whose turn it is; None where there is none. Called with the lock held."""
        kind = self._backlog.next_kind(self._may_run) if len(self._running) < self._places else None
        if kind is None:
            return None
        run = Run(self._backlog.pop(kind), kind, time.monotonic())
        self._running[run.task_id] = run
        self._running_of[kind] += 1
        return run

    def _finish(self, run: Run) -> bool:
        """Free the place of a run whose code has returned; False where it had lost its place before."""
        with self._lock:
            run.work = None
            kept = self._running.get(run.task_id) is run
            if kept:
                self._free_place(run)
            else:
                self._lost -= 1
        self._try_again(run)
        return kept

    def _free_place(self, run: Run) -> None:
        del self._running[run.task_id]
        self._running_of[run.kind] -= 1
        seconds = time.monotonic() - run.began
        mean = self._mean_seconds.get(run.kind, seconds)
        self._mean_seconds[run.kind] = mean + _LATEST_SHARE * (seconds - mean)
        self._ended.notify_all()

    def _may_run(self, kind: str) -> bool:
        most = get_kinds()[kind].max_running
        return most is None or self._running_of[kind] < most

    def _stop_run(self, run: Run) -> None:
        with self._lock:
            run.is_stopped = True
            if run.work is not None:
                self._interrupt(run.work)
            if not self.abandons or self._lost >= self._places or self._running.get(run.task_id) is not run:
                return
            self._lost += 1
            self._free_place(run)
            wakes = self._must_wake()
        if wakes:
            self._wake()

    def _claim(self, run: Run) -> TaskEntry | None:
        """Claim the task of a run; from then on its time is limited."""
        entry = runner.claim(run.task_id)
        seconds = get_kinds()[run.kind].timeout
        if entry is not None and seconds is not None:
            run.deadline = self._timer.call_later(seconds, lambda: self._aside(self._time_out, run, entry, seconds))
        return entry

    def _time_out(self, run: Run, entry: TaskEntry, seconds: float) -> None:
        error = TaskFailure("timeout", f"The attempt took longer than {seconds:g} seconds.")
        settled = runner.settle(entry, Outcome(error=error))
        if settled is None:
            return
        if not settled.ended:
            run.next_attempt = settled
        self._stop_run(run)
        self._try_again(run)

    def _try_again(self, run: Run) -> None:
        """Hand over the next attempt, once, as soon as the run has given up its place."""
        with self._lock:
            if self._running.get(run.task_id) is run:
                return
            entry, run.next_attempt = run.next_attempt, None
        if entry is not None:
            self._again(entry)

    def _settle(self, run: Run, entry: TaskEntry, outcome: Outcome) -> None:
        if run.deadline is not None:
            run.deadline.cancel()
        settled = runner.settle(entry, outcome)
        if settled is not None and not settled.ended:
            run.next_attempt = settled

    def _retry_after(self, kind: str) -> int:
        """Whole seconds until what waits now has been begun, going by how long the kind's tasks take."""
        seconds = len(self._backlog) * self._mean_seconds.get(kind, 1) / self._width(kind)
        return max(1, min(math.ceil(seconds), _MAX_RETRY_AFTER))

    def _width(self, kind: str) -> int:
        return min(self._places, get_kinds()[kind].max_running or self._places)
