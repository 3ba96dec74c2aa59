"""Where the entries are kept: the promises of a data store, and the locked in-memory map that keeps them."""

import threading
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from tasks.entry import TaskEntry
from tasks.exceptions import TaskNotFound
from tasks.once import Once

Transition = Callable[[TaskEntry], TaskEntry]


class Registry(Protocol):
    """A data store of task entries, safe to call from any thread."""

    def add(self, entry: TaskEntry) -> TaskEntry:
        """Store a new entry and return what is now stored."""

    def get(self, task_id: UUID) -> TaskEntry:
        """The entry as it is now. Raises TaskNotFound."""

    def change(self, task_id: UUID, transition: Transition) -> TaskEntry:
        """Replace the entry by `transition(entry)`, atomically, and return it.

        Raises TaskNotFound, and whatever `transition` raises; the entry is then unchanged. `transition` is a
        method of TaskEntry: it computes, and neither waits nor calls the registry.
        """

    def remove(self, task_id: UUID) -> None:
        """Forget the entry; nothing happens where there is none."""


class MemoryRegistry:
    """A dictionary behind a lock, for one process. The lock is held for dictionary work only."""

    def __init__(self) -> None:
        self._entries: dict[UUID, TaskEntry] = {}
        self._lock = threading.Lock()

    def add(self, entry: TaskEntry) -> TaskEntry:
        with self._lock:
            self._entries[entry.id] = entry
        return entry

    def get(self, task_id: UUID) -> TaskEntry:
        # One dictionary look-up is atomic, and an entry never changes: a poll waits for nobody.
        entry = self._entries.get(task_id)
        if entry is None:
            raise TaskNotFound
        return entry

    def change(self, task_id: UUID, transition: Transition) -> TaskEntry:
        with self._lock:
            entry = self._entries.get(task_id)
            if entry is None:
                raise TaskNotFound
            changed = self._entries[task_id] = transition(entry)
        return changed

    def remove(self, task_id: UUID) -> None:
        with self._lock:
            self._entries.pop(task_id, None)


def _build_registry() -> Registry:
    return MemoryRegistry()


get_registry = Once(_build_registry)
