"""Where the work of a ThreadDispatcher runs."""

import logging
import threading
from collections import deque
from uuid import UUID

from tasks import runner
from tasks.exceptions import DispatcherFull

logger = logging.getLogger(__name__)

_RETRY_AFTER_SECONDS = 5


class ThreadLane:
    """A bounded pool of threads behind a bounded queue. A thread starts when there is work and no thread is free."""

    def __init__(self, *, threads: int, queue_limit: int) -> None:
        self._limit = threads
        self._queue_limit = queue_limit
        self._queue: deque[UUID] = deque()
        self._changed = threading.Condition()
        self._threads = 0
        self._free = 0
        self._closed = False

    def submit(self, task_id: UUID) -> None:
        """Take the task, now or when a thread is free. Raises DispatcherFull where the queue is full."""
        with self._changed:
            starts = self._free <= len(self._queue) and self._threads < self._limit
            if self._closed or (not starts and len(self._queue) - self._free >= self._queue_limit):
                raise DispatcherFull(_RETRY_AFTER_SECONDS)
            self._queue.append(task_id)
            if starts:
                self._threads += 1
                self._free += 1  # from now on, so that what it will take does not count as waiting
                threading.Thread(target=self._work, name=f"tasks-thread-{self._threads}", daemon=True).start()
            else:
                self._changed.notify()

    def close(self) -> None:
        """Take no more; the threads end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_idle(self, timeout: float) -> bool:
        """Wait until every thread has ended after `close`; False where `timeout` seconds were not enough."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._threads, timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed)
                self._free -= 1
                if not self._queue:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                task_id = self._queue.popleft()
            runner.run(task_id)
            with self._changed:
                self._free += 1
