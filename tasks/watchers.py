"""Who is to be told that a task has changed."""

import threading
from collections.abc import Callable
from uuid import UUID

Notify = Callable[[UUID | None], object]


class Watchers:
    """Tells each watcher of a task, and each watcher of all tasks. Safe to call from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # What is in here is replaced and never changed, so that it can be read without the lock.
        self._of: dict[UUID | None, tuple[Notify, ...]] = {}

    def add(self, notify: Notify, task_id: UUID | None = None) -> None:
        """`notify` is called with the id of each task that has changed, or of that one task; it must not wait.

        It is called with None where changes of any tasks may have been missed.
        """
        with self._lock:
            self._of[task_id] = (*self._of.get(task_id, ()), notify)

    def remove(self, notify: Notify, task_id: UUID | None = None) -> None:
        with self._lock:
            left = tuple(other for other in self._of.pop(task_id, ()) if other != notify)
            if left:
                self._of[task_id] = left

    def tell(self, task_id: UUID) -> None:
        if self._of:
            for notify in (*self._of.get(task_id, ()), *self._of.get(None, ())):
                notify(task_id)

    def tell_all(self) -> None:
        """Changes may have been missed: whoever watches has to look again."""
        with self._lock:
            told = list(self._of.values())
        for notifies in told:
            for notify in notifies:
                notify(None)
