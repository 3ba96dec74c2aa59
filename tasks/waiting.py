"""Waiting for changes of a task without polling."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Self
from uuid import UUID

from django.conf import settings

from tasks.entry import TaskEntry
from tasks.exceptions import TaskNotFound
from tasks.registry import get_registry
from tasks.utils.lazy import Lazy

# A subscription with so many unread changes misses further ones.
MAX_UNREAD = 1000

IsNews = Callable[[TaskEntry], bool]


class WaiterLimit:
    """At most `limit` requests may wait at the same time."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self.in_use = 0

    def acquire(self) -> bool:
        """Count one more; False where the limit is reached."""
        with self._lock:
            is_free = self.in_use < self._limit
            self.in_use += is_free
        return is_free

    def release(self) -> None:
        with self._lock:
            self.in_use -= 1


get_waiter_limit = Lazy(lambda: WaiterLimit(settings.TASK_MAX_WAITERS))


class Subscription:
    """Notices that a task has changed, or that any task has, until it is closed."""

    def __init__(self, task_id: UUID | None = None, *, limit: WaiterLimit | None = None) -> None:
        """`limit` is what this subscription counts in; closing it counts it out."""
        self._task_id = task_id
        self._limit = limit
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._unread: dict[UUID, None] = {}
        self._has_missed = False
        self._wake: Callable[[], object] | None = None
        self._is_open = True
        self._is_muted = False
        self._notifier = get_registry().notifier
        self.recheck_seconds = self._notifier.recheck_seconds
        self._notifier.subscribe(self._notice, task_id)

    @classmethod
    def within_limit(cls, task_id: UUID | None = None) -> Self | None:
        """A subscription that counts as one of TASK_MAX_WAITERS; None where that limit is reached."""
        limit = get_waiter_limit()
        return cls(task_id, limit=limit) if limit.acquire() else None

    def close(self) -> None:
        """End the subscription; a second call changes nothing."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if was_open:
            self._notifier.unsubscribe(self._notice, self._task_id)
            if self._limit is not None:
                self._limit.release()

    def wait(self, seconds: float) -> bool:
        """Wait for an unread change, `seconds` at most; False where none came."""
        return self._changed.wait(seconds)

    def wake_by(self, wake: Callable[[], object]) -> None:
        """Call `wake` at each change, from any thread, and now if there is an unread one."""
        self._wake = wake
        if self._changed.is_set():
            wake()

    def mute(self) -> None:
        """Let no change end a wait until the next `read`."""
        self._is_muted = True
        self._changed.clear()

    def read(self) -> list[UUID] | None:
        """The tasks that have changed since the last call, each once; None where some of them were missed."""
        self._is_muted = False
        self._changed.clear()
        with self._lock:
            unread, self._unread = self._unread, {}
            has_missed, self._has_missed = self._has_missed, False
        return None if has_missed else list(unread)

    def _notice(self, task_id: UUID | None) -> None:
        with self._lock:
            if task_id is not None and (task_id in self._unread or len(self._unread) < MAX_UNREAD):
                self._unread[task_id] = None
            else:
                self._has_missed = True
        if self._is_muted:
            return
        self._changed.set()
        if self._wake is not None:
            self._wake()


def until(subscription: Subscription, task_id: UUID, is_news: IsNews, seconds: float) -> Iterator[float]:
    """Wait until `is_news` is true of the entry, `seconds` at most.

    Yields how long to wait for the next change; the iterating code does the waiting, in a thread or on an event loop.
    """
    deadline = time.monotonic() + seconds
    while True:
        subscription.read()
        try:
            entry = get_registry().get(task_id)
        except TaskNotFound:
            return
        left = deadline - time.monotonic()
        if is_news(entry) or left <= 0:
            return
        yield min(left, subscription.recheck_seconds)
