"""The tables: the entries, the ids of expired ones, and the processes that own tasks."""

import uuid

from django.db import models
from django.db.models import Q

_PENDING = Q(status="pending")


class Task(models.Model):
    """An entry, and which process owns it. `tasks.entry.TaskEntry` says what the fields mean.

    `input`, `result` and `error` are JSON as text, so that what is read is exactly what was written.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    kind = models.TextField()
    name = models.TextField()
    input = models.TextField()
    status = models.TextField()
    file_name = models.TextField()
    progress = models.SmallIntegerField()
    message = models.TextField()
    result = models.TextField()
    error = models.TextField()
    attempt = models.IntegerField()
    version = models.IntegerField()
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    run_after = models.DateTimeField(null=True)
    idempotency_key = models.TextField(null=True, unique=True)  # noqa: DJ001 - a unique column can have any number of nulls
    owner_id = models.UUIDField(null=True, help_text="The process that owns the pending task.")
    available_at = models.DateTimeField(null=True, help_text="From when on any process may acquire the waiting task.")

    class Meta:
        indexes = [
            models.Index(fields=["created_at", "id"], name="tasks_created"),
            models.Index(fields=["kind", "created_at", "id"], name="tasks_kind"),
            models.Index(fields=["status", "created_at", "id"], name="tasks_status"),
            models.Index(fields=["expires_at"], name="tasks_expires", condition=Q(expires_at__isnull=False)),
            models.Index(fields=["owner_id"], name="tasks_owned", condition=_PENDING & Q(owner_id__isnull=False)),
            models.Index(
                fields=["available_at"],
                name="tasks_available",
                condition=_PENDING & Q(started_at=None, owner_id__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Expired(models.Model):
    """A task that was dropped, and when."""

    id = models.UUIDField(primary_key=True, editable=False)
    expired_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)


class Process(models.Model):
    """A process that owns tasks until its lease expires; each heartbeat renews it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    lease_expires_at = models.DateTimeField()

    def __str__(self) -> str:
        return str(self.id)
