"""The locked in-memory map: the registry of one process."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from uuid import UUID

from django.conf import settings

from tasks.entry import Status, TaskEntry
from tasks.registry import Position, Transition, retention, unexpired
from tasks.registry.notifier import Notifier

# Positions of dropped entries that do not matter.
_MAX_STALE = 1000


class MemoryRegistry:
    """A dictionary behind a lock, for one process. The lock guards dictionary work only."""

    does_io = False
    leases = None

    def __init__(self) -> None:
        self.notifier = Notifier()
        self._lock = threading.Lock()
        self._entries: dict[UUID, TaskEntry] = {}
        self._by_key: dict[str, UUID] = {}
        # Sorted; some may be of entries that were dropped.
        self._positions: list[Position] = []
        # In the order in which they ended, which is the order in which they expire.
        self._ended: OrderedDict[UUID, datetime] = OrderedDict()
        # What has expired, and when; as many as there may be ended entries.
        self._expired: OrderedDict[UUID, datetime] = OrderedDict()
        self._dropped_files: list[str] = []

    def add(self, entry: TaskEntry) -> TaskEntry:
        with self._lock:
            if entry.idempotency_key:
                first = self._first_of(entry)
                if first is not entry:
                    return first
            self._entries[entry.id] = entry
            # Nearly always the newest, so that this is an append.
            insort(self._positions, Position(entry.created_at, entry.id))
        self.notifier.notify(entry.id)
        return entry

    def get(self, task_id: UUID) -> TaskEntry:
        # One dictionary look-up is atomic, and an entry never changes: a poll waits for no lock.
        entry = self._entries.get(task_id)
        if entry is not None and entry.expires_at is None:
            return entry
        return unexpired(entry, self._expired.get(task_id) if entry is None else entry.expires_at)

    def change(self, task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        with self._lock:
            changed = self._entries[task_id] = transition(self.get(task_id))
            if changed.expires_at is not None:
                self._ended[task_id] = changed.expires_at
                self._drop_expired()
        self.notifier.notify(task_id)
        return changed

    def page(
        self,
        limit: int,
        *,
        kind: str | None = None,
        status: Status | None = None,
        before: Position | None = None,
        after: Position | None = None,
    ) -> list[TaskEntry]:
        with self._lock:
            if after is not None:
                positions = self._positions[bisect_right(self._positions, after) :]
            else:
                end = len(self._positions) if before is None else bisect_left(self._positions, before)
                positions = self._positions[:end]
        if after is None:
            positions.reverse()
        found = list(islice(self._select(positions, kind, status), limit))
        return found if after is None else found[::-1]

    def remove(self, task_id: UUID) -> None:
        with self._lock:
            if task_id in self._entries:
                self._drop(task_id)
            self._ended.pop(task_id, None)
        self.notifier.notify(task_id)

    def purge(self) -> list[str]:
        with self._lock:
            self._drop_expired()
            files, self._dropped_files = self._dropped_files, []
        return files

    def __len__(self) -> int:
        return len(self._entries)

    def close(self) -> None:
        self.notifier.close()

    def _drop_expired(self) -> None:
        """Each entry is dropped once, so that this costs each end the same."""
        now, limit = _now(), settings.TASK_MAX_ENTRIES
        while self._ended and (len(self._ended) > limit or next(iter(self._ended.values())) <= now):
            task_id, expires_at = self._ended.popitem(last=False)
            self._expired[task_id] = min(expires_at, now)
            self._drop(task_id)
        forgotten = now - retention()
        while self._expired and (len(self._expired) > limit or next(iter(self._expired.values())) <= forgotten):
            self._expired.popitem(last=False)

    def _drop(self, task_id: UUID) -> None:
        entry = self._entries.pop(task_id)
        self._by_key.pop(entry.idempotency_key, None)
        if entry.file_name:
            self._dropped_files.append(entry.file_name)
        if len(self._positions) > 2 * len(self._entries) + _MAX_STALE:
            self._positions = [position for position in self._positions if position.id in self._entries]

    def _first_of(self, entry: TaskEntry) -> TaskEntry:
        """The entry with the same key, which is this one where there was none that has not expired."""
        self._drop_expired()
        return self._entries.get(self._by_key.setdefault(entry.idempotency_key, entry.id), entry)

    def _select(self, positions: list[Position], kind: str | None, status: Status | None) -> Iterator[TaskEntry]:
        now = _now()
        for position in positions:
            entry = self._entries.get(position.id)
            if (
                entry is not None
                and kind in {None, entry.kind}
                and status in {None, entry.status}
                and (entry.expires_at is None or now < entry.expires_at)
            ):
                yield entry


def _now() -> datetime:
    return datetime.now(UTC)
