"""Rows that have expired: dropped in batches, with their ids kept for as long again."""

from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from tasks.contrib.database.models import Expired, Process, Task
from tasks.registry import retention

# So many rows are dropped in one transaction.
_BATCH = 1000
# How long the row of a process that is gone is kept.
_PROCESS_DAYS = 1


def purge() -> list[str]:
    """Drop all rows that are past their time; return the files of the entries among them."""
    _expire_past_the_limit()
    files: list[str] = []
    while True:
        dropped = _drop_expired()
        files += [file_name for file_name in dropped if file_name]
        if len(dropped) < _BATCH:
            break
    _forget_expired()
    Process.objects.filter(lease_expires_at__lt=Now() - timedelta(days=_PROCESS_DAYS)).delete()
    return files


def _expire_past_the_limit() -> None:
    now = datetime.now(UTC)
    kept = Task.objects.filter(expires_at__gt=now).order_by("-expires_at")
    limit = settings.TASK_MAX_ENTRIES
    while rows := list(kept.values_list("id", "expires_at")[limit : limit + _BATCH]):
        # All by the same, so that their order stays.
        sooner = (rows[0][1] or now) - now
        Task.objects.filter(id__in=[task_id for task_id, _ in rows]).update(expires_at=F("expires_at") - sooner)


def _drop_expired() -> list[str]:
    """The file names of a batch of expired entries, which are gone."""
    now = datetime.now(UTC)
    with transaction.atomic():
        expired = Task.objects.filter(expires_at__lte=now).order_by("expires_at")
        rows = list(expired.select_for_update(skip_locked=True).values_list("id", "expires_at", "file_name")[:_BATCH])
        Expired.objects.bulk_create(
            [Expired(id=task_id, expired_at=expired_at or now) for task_id, expired_at, _ in rows],
            ignore_conflicts=True,
        )
        Task.objects.filter(id__in=[task_id for task_id, _, _ in rows]).delete()
    return [file_name for _, _, file_name in rows]


def _forget_expired() -> None:
    Expired.objects.filter(expired_at__lte=datetime.now(UTC) - retention()).delete()
    limit = settings.TASK_MAX_ENTRIES
    while ids := list(Expired.objects.order_by("-expired_at").values_list("id", flat=True)[limit : limit + _BATCH]):
        Expired.objects.filter(id__in=ids).delete()
