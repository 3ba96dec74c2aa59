"""Who is notified when a task changes."""

import threading
from collections.abc import Callable
from math import inf
from uuid import UUID

Callback = Callable[[UUID | None], object]


class Notifier:
    """Notifies the subscribers of a task, and those of all tasks. Safe to call from any thread."""

    recheck_seconds = inf
    """A change may be missed, so a subscriber should look for itself this often; infinite where none is missed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # What is in here is replaced and never changed, so that it can be read without the lock.
        self._callbacks: dict[UUID | None, tuple[Callback, ...]] = {}

    def subscribe(self, callback: Callback, task_id: UUID | None = None) -> None:
        """Call `callback` with the id of each task that changes, or of that one task; it must not block.

        It is called with None where changes of any tasks may have been missed.
        """
        with self._lock:
            self._callbacks[task_id] = (*self._callbacks.get(task_id, ()), callback)

    def unsubscribe(self, callback: Callback, task_id: UUID | None = None) -> None:
        with self._lock:
            left = tuple(other for other in self._callbacks.pop(task_id, ()) if other != callback)
            if left:
                self._callbacks[task_id] = left

    def notify(self, task_id: UUID) -> None:
        if self._callbacks:
            for callback in (*self._callbacks.get(task_id, ()), *self._callbacks.get(None, ())):
                callback(task_id)

    def notify_all(self) -> None:
        """Notify every subscriber that it may have missed changes, and has to look again."""
        with self._lock:
            subscribed = list(self._callbacks.values())
        for callbacks in subscribed:
            for callback in callbacks:
                callback(None)

    def close(self) -> None:
        """Notify every subscriber for the last time."""
        self.notify_all()
        with self._lock:
            self._callbacks.clear()
