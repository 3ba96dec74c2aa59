"""Waiting for news of a task, without asking again and again."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Self
from uuid import UUID

from django.conf import settings

from tasks.entry import TaskEntry
from tasks.exceptions import TaskNotFound
from tasks.once import Once
from tasks.registry import get_registry

# A watcher of all tasks that has so many changes to read has missed the others.
MOST_UNREAD = 1000

# A process that was killed may not have told of its last change, so that whoever waits looks for itself, too.
LOOK_SECONDS = 5

IsNews = Callable[[TaskEntry], bool]


class Places:
    """At most `limit` may wait at once."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self.taken = 0

    def take(self) -> bool:
        """Take a place; False where all are taken."""
        with self._lock:
            is_free = self.taken < self._limit
            self.taken += is_free
        return is_free

    def give_back(self) -> None:
        with self._lock:
            self.taken -= 1


get_places = Once(lambda: Places(settings.TASK_MAX_WAITERS))


class Watcher:
    """Notices that a task has changed, or that any has, from its making until it is closed."""

    def __init__(self, task_id: UUID | None = None) -> None:
        self._task_id = task_id
        self._changed = threading.Event()
        self._lock = threading.Lock()
        self._unread: dict[UUID, None] = {}
        self._has_missed = False
        self._wake: Callable[[], object] | None = None
        self._is_open = True
        self._is_muted = False
        self._watchers = get_registry().watchers
        self._watchers.add(self._notice, task_id)

    @classmethod
    def of(cls, task_id: UUID | None = None) -> Self | None:
        """A watcher that takes one of the places for those who wait; None where all are taken."""
        return cls(task_id) if get_places().take() else None

    def close(self) -> None:
        """Give back the place, once."""
        with self._lock:
            was_open, self._is_open = self._is_open, False
        if was_open:
            self._watchers.remove(self._notice, self._task_id)
            get_places().give_back()

    def wait(self, seconds: float) -> bool:
        """Wait for a change that was not read yet, `seconds` at most; False where none came."""
        return self._changed.wait(seconds)

    def wake_by(self, wake: Callable[[], object]) -> None:
        """Call `wake` at each change, from whatever thread, and now if there is one that was not read yet."""
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
            if task_id is not None and (task_id in self._unread or len(self._unread) < MOST_UNREAD):
                self._unread[task_id] = None
            else:
                self._has_missed = True
        if self._is_muted:
            return
        self._changed.set()
        if self._wake is not None:
            self._wake()


def until(watcher: Watcher, task_id: UUID, is_news: IsNews, seconds: float) -> Iterator[float]:
    """Wait until `is_news` holds for the entry, `seconds` at most.

    Yields how long to wait for the next change; whoever iterates waits, in whatever way it can.
    """
    deadline = time.monotonic() + seconds
    while True:
        watcher.read()
        try:
            entry = get_registry().get(task_id)
        except TaskNotFound:
            return
        left = deadline - time.monotonic()
        if is_news(entry) or left <= 0:
            return
        yield min(left, LOOK_SECONDS) if get_registry().is_shared else left
