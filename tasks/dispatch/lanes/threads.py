"""Plain functions, each in a thread of a bounded pool."""

import itertools
import threading
from typing import Any
from uuid import UUID

from tasks.dispatch import runner
from tasks.dispatch.lanes.base import Lane
from tasks.dispatch.lanes.run import Run
from tasks.dispatch.runner import Outcome
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull
from tasks.job import Job

_NO_THREAD_RETRY_AFTER = 10
_SHUT_DOWN_SECONDS = 5


class ThreadWorker:
    """Runs the code of one task after the other; each thread of a lane has one."""

    def prepare(self) -> None:
        """Get ready for the next task, before it is claimed."""

    def call(self, run: Run, entry: TaskEntry) -> Outcome:
        return runner.call(entry, Job(entry))

    def close(self) -> None:
        """Free what the worker uses."""


class ThreadLane(Lane):
    """A thread starts when there is work and none is idle. One whose task was orphaned ends after it."""

    thread_name = "tasks-thread"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._work_ready = threading.Condition(self._lock)
        self._threads = 0
        self._idle_threads = 0
        self._numbers = itertools.count(1)

    def close(self) -> list[UUID]:
        with self._lock:
            self._idle_threads = 0
            self._work_ready.notify_all()
            return super().close()

    def shut_down(self) -> None:
        """Wait until the threads have ended, except those that nothing can stop."""
        with self._ended:
            self._ended.wait_for(lambda: self._threads <= self._unstoppable(), _SHUT_DOWN_SECONDS)

    def _unstoppable(self) -> int:
        return self._orphaned + (len(self._running) if self.can_orphan else 0)

    def _new_worker(self) -> ThreadWorker:
        return ThreadWorker()

    def _must_wake(self) -> bool:
        if self._has_next():
            if self._idle_threads:
                self._idle_threads -= 1
                self._work_ready.notify()
            elif self._threads < self._slots + self._orphaned:
                self._threads += 1
                return True
        return False

    def _wake(self) -> None:
        name = f"{self.thread_name}-{next(self._numbers)}"
        try:
            threading.Thread(target=self._work, name=name, daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
            with self._lock:
                self._threads -= 1
                if self._threads:
                    return  # one of those will come to the task
            raise DispatcherFull(_NO_THREAD_RETRY_AFTER) from error

    def _work(self) -> None:
        worker = self._new_worker()
        try:
            while (run := self._next(worker)) and self._attempt(run, worker):
                pass
        finally:
            worker.close()
            with self._lock:
                self._threads -= 1
                self._ended.notify_all()

    def _next(self, worker: ThreadWorker) -> Run | None:
        """Wait for work; None once the lane is closed."""
        if not self._closed:
            worker.prepare()
        with self._lock:
            while (run := self._begin()) is None and not self._closed:
                self._idle_threads += 1
                self._work_ready.wait()  # the notifying thread has counted one idle thread less
            return run

    def _attempt(self, run: Run, worker: ThreadWorker) -> bool:
        """Run one task; False where it was orphaned meanwhile, so that another thread has its slot."""
        try:
            entry = self._claim(run)
            if entry is not None:
                self._settle(run, entry, worker.call(run, entry))
        finally:
            kept = self._finish(run)
        return kept
