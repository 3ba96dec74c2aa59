"""Where the entries are kept: the promises of a data store, and the locked in-memory map that keeps them."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from django.conf import settings

from tasks.entry import TaskEntry
from tasks.exceptions import TaskExpired, TaskNotFound
from tasks.once import Once

Transition = Callable[[TaskEntry], TaskEntry]


class Registry(Protocol):
    """A data store of task entries, safe to call from any thread.

    An ended entry expires at its `expires_at`, and, oldest first, once there are more than TASK_MAX_ENTRIES of
    them. For TASK_RETENTION_SECONDS more its id is known to have expired. A live entry never expires.
    """

    def add(self, entry: TaskEntry) -> TaskEntry:
        """Store a new entry and return what is now stored."""

    def get(self, task_id: UUID) -> TaskEntry:
        """The entry as it is now. Raises TaskNotFound, and its kind TaskExpired."""

    def change(self, task_id: UUID, transition: Transition) -> TaskEntry:
        """Replace the entry by `transition(entry)`, atomically, and return it.

        Raises what `get` raises, and whatever `transition` raises; the entry is then unchanged. `transition` is
        a method of TaskEntry: it computes, and neither waits nor calls the registry.
        """

    def remove(self, task_id: UUID) -> None:
        """Forget the entry as if it had never been; nothing happens where there is none."""

    def purge(self) -> list[str]:
        """Drop what has expired; return the result files of all that was dropped since the last purge."""

    def __len__(self) -> int:
        """How many entries there are, ended ones included."""


class MemoryRegistry:
    """A dictionary behind a lock, for one process. The lock is held for dictionary work only."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[UUID, TaskEntry] = {}
        # In the order in which they ended, which is the order in which they expire.
        self._ended: OrderedDict[UUID, datetime] = OrderedDict()
        # What has expired, and when; as many as there may be ended entries.
        self._expired: OrderedDict[UUID, datetime] = OrderedDict()
        self._dropped_files: list[str] = []

    def add(self, entry: TaskEntry) -> TaskEntry:
        with self._lock:
            self._entries[entry.id] = entry
        return entry

    def get(self, task_id: UUID) -> TaskEntry:
        # One dictionary look-up is atomic, and an entry never changes: a poll waits for nobody.
        entry = self._entries.get(task_id)
        expired_at = self._expired.get(task_id) if entry is None else entry.expires_at
        if expired_at is None:
            if entry is None:
                raise TaskNotFound
            return entry
        now = _now()
        if entry is not None and now < expired_at:
            return entry
        raise TaskExpired if now < expired_at + _retention() else TaskNotFound

    def change(self, task_id: UUID, transition: Transition) -> TaskEntry:
        with self._lock:
            changed = self._entries[task_id] = transition(self.get(task_id))
            if changed.expires_at is not None:
                self._ended[task_id] = changed.expires_at
                self._drop_expired()
        return changed

    def remove(self, task_id: UUID) -> None:
        with self._lock:
            self._entries.pop(task_id, None)
            self._ended.pop(task_id, None)

    def purge(self) -> list[str]:
        with self._lock:
            self._drop_expired()
            files, self._dropped_files = self._dropped_files, []
        return files

    def __len__(self) -> int:
        return len(self._entries)

    def _drop_expired(self) -> None:
        """Each entry is dropped once, so that this costs each end the same."""
        now, most = _now(), settings.TASK_MAX_ENTRIES
        while self._ended and (len(self._ended) > most or next(iter(self._ended.values())) <= now):
            task_id, expires_at = self._ended.popitem(last=False)
            self._expired[task_id] = min(expires_at, now)
            entry = self._entries.pop(task_id)
            if entry.file_name:
                self._dropped_files.append(entry.file_name)
        forgotten = now - _retention()
        while self._expired and (len(self._expired) > most or next(iter(self._expired.values())) <= forgotten):
            self._expired.popitem(last=False)


def _now() -> datetime:
    return datetime.now(UTC)


def _retention() -> timedelta:
    return timedelta(seconds=settings.TASK_RETENTION_SECONDS)


def _build_registry() -> Registry:
    return MemoryRegistry()


get_registry = Once(_build_registry)
