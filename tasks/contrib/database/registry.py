"""The registry in a database: what the in-memory one promises, for any number of processes."""

import uuid
from datetime import UTC, datetime
from uuid import UUID

from django.db.models import Q

from tasks.contrib.database import expiry
from tasks.contrib.database.access import database_access
from tasks.contrib.database.leases import DatabaseLeases
from tasks.contrib.database.models import Expired, Task
from tasks.contrib.database.notifier import ChangeNotifier
from tasks.contrib.database.rows import FIELDS, columns, entry_of, insert, select, update
from tasks.entry import Status, TaskEntry
from tasks.exceptions import TaskError
from tasks.registry import Position, Transition, unexpired
from tasks.registry.notifier import Notifier


class DatabaseRegistry:
    """A row for each entry. A change is a compare-and-set on the row's version, so that no row is ever locked.

    Each method raises RegistryUnavailable where the database cannot be reached; a change may then have been made or
    not. `redelivery_seconds` is that of DatabaseLeases.
    """

    does_io = True

    def __init__(self, redelivery_seconds: tuple[float, float] | None = None) -> None:
        self._changes = ChangeNotifier()
        self.notifier: Notifier = self._changes.notifier
        self.leases = DatabaseLeases(uuid.uuid4(), self._changes.cancellations, redelivery_seconds)

    def add(self, entry: TaskEntry) -> TaskEntry:
        row = columns(entry) | self.leases.columns(entry)
        with database_access():
            if entry.idempotency_key:
                first = _first_with_key(Task(**row))
                if first.id != entry.id:
                    return first
            else:
                insert(row)
        self._changes.publish(entry.id, entry.status)
        return entry

    def get(self, task_id: UUID) -> TaskEntry:
        with database_access():
            entry = select(task_id)
            if entry is not None:
                expired_at = entry.expires_at
            else:
                expired_at = Expired.objects.filter(id=task_id).values_list("expired_at", flat=True).first()
        return unexpired(entry, expired_at)

    def change(self, task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        while True:
            entry, is_current = seen or self.get(task_id), seen is None
            seen = None
            try:
                changed = transition(entry)
            except TaskError:
                if is_current:
                    raise
                continue
            if changed is entry:
                return entry
            before, after = columns(entry), columns(changed)
            changes = {name: value for name, value in after.items() if value != before[name]}
            changes |= self.leases.columns(changed)
            with database_access():
                is_made = update(task_id, entry.version, changes)
            if is_made:
                self._changes.publish(task_id, changed.status)
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
        rows = Task.objects.filter(Q(expires_at=None) | Q(expires_at__gt=datetime.now(UTC)))
        if kind is not None:
            rows = rows.filter(kind=kind)
        if status is not None:
            rows = rows.filter(status=status.value)
        if after is not None:
            rows = rows.filter(created_at__gte=after.created_at).exclude(created_at=after.created_at, id__lte=after.id)
            rows = rows.order_by("created_at", "id")
        else:
            if before is not None:
                rows = rows.filter(created_at__lte=before.created_at).exclude(
                    created_at=before.created_at, id__gte=before.id
                )
            rows = rows.order_by("-created_at", "-id")
        with database_access():
            found = [entry_of(row) for row in rows.values_list(*FIELDS)[:limit]]
        return found if after is None else found[::-1]

    def remove(self, task_id: UUID) -> None:
        with database_access():
            Task.objects.filter(id=task_id).delete()
        self._changes.publish(task_id, "removed")

    def purge(self) -> list[str]:
        with database_access():
            return expiry.purge()

    def __len__(self) -> int:
        with database_access():
            return Task.objects.count()

    def close(self) -> None:
        self._changes.close()
        self.leases.close()


def _first_with_key(row: Task) -> TaskEntry:
    """The entry that has the key of the row, which is stored where there is none that has not expired."""
    with_key = Task.objects.filter(idempotency_key=row.idempotency_key)
    while True:
        Task.objects.bulk_create([row], ignore_conflicts=True)
        found = with_key.values_list(*FIELDS).first()
        if found is not None:
            first = entry_of(found)
            if first.expires_at is None or datetime.now(UTC) < first.expires_at:
                return first
            with_key.filter(id=first.id).update(idempotency_key=None)
