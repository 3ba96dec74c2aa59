"""Which process owns which pending task, as columns of its row."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from tasks.contrib.database.access import database_access
from tasks.contrib.database.models import Process, Task
from tasks.contrib.database.rows import FIELDS, entry_of
from tasks.entry import Status, TaskEntry
from tasks.registry.notifier import Notifier
from tasks.utils.lazy import RunOnce

_BATCH = 1000
_PENDING = Status.PENDING.value
_UNOWNED = {"owner_id": None, "available_at": None}


class DatabaseLeases:
    """Each process is a row that says until when its lease lasts, by the clock of the database.

    With `redelivery_seconds`, a pair of numbers, a message broker delivers the waiting tasks, and no process owns
    them. A task that nobody claims is available for another delivery after the first number of seconds, then once
    it is twice as old, and no later than the second number of seconds after the last delivery.
    """

    def __init__(
        self, process_id: UUID, cancellations: Notifier, redelivery_seconds: tuple[float, float] | None
    ) -> None:
        self.cancellations = cancellations
        self._id = process_id
        self._redelivery = redelivery_seconds
        self._register = RunOnce(self.heartbeat)

    def heartbeat(self) -> None:
        with database_access():
            expires_at = Now() + timedelta(seconds=settings.TASK_LEASE_SECONDS)
            if not Process.objects.filter(id=self._id).update(lease_expires_at=expires_at):
                process = Process(id=self._id, lease_expires_at=expires_at)
                Process.objects.bulk_create(
                    [process], update_conflicts=True, unique_fields=["id"], update_fields=["lease_expires_at"]
                )

    def owned_ids(self) -> set[UUID]:
        with database_access():
            return set(Task.objects.filter(status=_PENDING, owner_id=self._id).values_list("id", flat=True))

    def release(self, task_ids: Collection[UUID]) -> None:
        with database_access():
            for batch in _batches(task_ids):
                owned = Task.objects.filter(id__in=batch, owner_id=self._id, status=_PENDING, started_at=None)
                owned.update(owner_id=None)

    def acquire(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        if self._redelivery is None:
            self._register()
        waiting = Task.objects.filter(status=_PENDING, started_at=None, kind__in=kinds, available_at__lte=Now())
        with database_access():
            acquired = self._acquire(waiting.filter(owner_id=None), limit)
            if len(acquired) < limit:
                acquired += self._acquire(self._of_dead_processes(waiting), limit - len(acquired))
        return acquired

    def stalled(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        running = Task.objects.filter(status=_PENDING, started_at__isnull=False, kind__in=kinds)
        with database_access():
            rows = self._of_dead_processes(running).values_list(*FIELDS)[:limit]
            return [entry_of(row) for row in rows]

    def columns(self, entry: TaskEntry) -> dict[str, Any]:
        """Who owns the entry once it is as given, and from when on any process may acquire it."""
        if entry.ended:
            return _UNOWNED
        if entry.started_at is not None:
            self._register()
            return {"owner_id": self._id, "available_at": None}
        run_after = entry.run_after or datetime.now(UTC)
        if self._redelivery is not None:
            return {"owner_id": None, "available_at": run_after + timedelta(seconds=self._redelivery[0])}
        self._register()
        return {"owner_id": self._id, "available_at": run_after}

    def close(self) -> None:
        """End the lease of this process."""
        with database_access():
            Process.objects.filter(id=self._id).delete()

    def _of_dead_processes(self, tasks: "QuerySet[Task]") -> "QuerySet[Task]":
        alive = Process.objects.filter(id=OuterRef("owner_id"), lease_expires_at__gt=Now())
        return tasks.filter(~Exists(alive), owner_id__isnull=False).exclude(owner_id=self._id)

    def _acquire(self, waiting: "QuerySet[Task]", limit: int) -> list[TaskEntry]:
        with transaction.atomic():
            rows = waiting.select_for_update(skip_locked=True).order_by("available_at").values_list(*FIELDS)[:limit]
            entries = [entry_of(row) for row in rows]
            if self._redelivery is None:
                Task.objects.filter(id__in=[entry.id for entry in entries]).update(owner_id=self._id)
                return entries
            first, at_most = self._redelivery
            now = datetime.now(UTC)
            for entry in entries:
                age = (now - entry.created_at).total_seconds()
                again_at = now + timedelta(seconds=min(max(age, first), at_most))
                Task.objects.filter(id=entry.id).update(owner_id=None, available_at=again_at)
        return entries


def _batches(task_ids: Collection[UUID]) -> Iterator[list[UUID]]:
    ids = list(task_ids)
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
