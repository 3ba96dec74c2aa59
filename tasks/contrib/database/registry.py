"""The registry in a database: what the in-memory one promises, for any number of processes."""

import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from tasks.contrib.database.models import Expired, Holder, Task
from tasks.contrib.database.rows import FIELDS, columns, entry_of, insert, select, update
from tasks.contrib.database.signals import Signals
from tasks.entry import Status, TaskEntry
from tasks.exceptions import RegistryUnavailable, TaskError, TaskExpired, TaskNotFound
from tasks.once import Once
from tasks.registry import Position, Transition
from tasks.watchers import Watchers

# So many rows are dropped in one transaction.
_BATCH = 1000
# A message to the broker that nobody acted on is sent again after this, then when the task is twice as old, but at
# least each minute.
_PUBLISHED_AGAIN_SECONDS = 15
_MOST_UNPUBLISHED_SECONDS = 60
# How long the row of a process that is gone is kept.
_HOLDER_DAYS = 1
_PENDING = Status.PENDING.value


class DatabaseRegistry:
    """A row for each entry. A change is a compare-and-set on the row's version, so that nothing is ever locked.

    Times that tell whether a process lives are the database's own, since machines do not agree on theirs. Each
    method raises RegistryUnavailable where the database cannot be reached; a change may then have been made or not.
    """

    is_shared = True

    def __init__(self) -> None:
        self._id = uuid.uuid4()
        self._signals = Signals()
        self.watchers: Watchers = self._signals.changes
        self.cancels: Watchers = self._signals.cancels
        self._enlist = Once(self.beat)
        # With a broker the waiting tasks are in its hands, and not in those of a process.
        self._has_broker = bool(settings.CELERY_BROKER_URL)

    def add(self, entry: TaskEntry) -> TaskEntry:
        row = columns(entry) | self._custody(entry)
        with _reached():
            if entry.idempotency_key:
                first = _first_with_key(Task(**row))
                if first.id != entry.id:
                    return first
            else:
                insert(row)
        self._signals.say(entry.id, entry.status)
        return entry

    def get(self, task_id: UUID) -> TaskEntry:
        with _reached():
            entry = select(task_id)
            if entry is not None:
                expired_at = entry.expires_at
            else:
                expired_at = Expired.objects.filter(id=task_id).values_list("expired_at", flat=True).first()
        if expired_at is None:
            if entry is None:
                raise TaskNotFound
            return entry
        now = _now()
        if entry is not None and now < expired_at:
            return entry
        raise TaskExpired if now < expired_at + _retention() else TaskNotFound

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
            with _reached():
                is_made = update(task_id, entry.version, changes | self._custody(changed))
            if is_made:
                self._signals.say(task_id, changed.status)
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
        rows = Task.objects.filter(Q(expires_at=None) | Q(expires_at__gt=_now()))
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
        with _reached():
            found = [entry_of(row) for row in rows.values_list(*FIELDS)[:limit]]
        return found if after is None else found[::-1]

    def remove(self, task_id: UUID) -> None:
        with _reached():
            Task.objects.filter(id=task_id).delete()
        self._signals.say(task_id, "removed")

    def purge(self) -> list[str]:
        files: list[str] = []
        with _reached():
            _expire_past_the_limit()
            while True:
                dropped = _drop_expired()
                files += [file_name for file_name in dropped if file_name]
                if len(dropped) < _BATCH:
                    break
            _forget_expired()
            Holder.objects.filter(beat_until__lt=Now() - timedelta(days=_HOLDER_DAYS)).delete()
        return files

    def __len__(self) -> int:
        with _reached():
            return Task.objects.count()

    def beat(self) -> None:
        with _reached():
            until = Now() + timedelta(seconds=settings.TASK_LEASE_SECONDS)
            if not Holder.objects.filter(id=self._id).update(beat_until=until):
                holder = Holder(id=self._id, beat_until=until)
                Holder.objects.bulk_create(
                    [holder], update_conflicts=True, unique_fields=["id"], update_fields=["beat_until"]
                )

    def held(self) -> set[UUID]:
        with _reached():
            return set(Task.objects.filter(status=_PENDING, held_by=self._id).values_list("id", flat=True))

    def release(self, task_ids: Collection[UUID]) -> None:
        with _reached():
            for some in _batches(task_ids):
                Task.objects.filter(id__in=some, held_by=self._id, status=_PENDING, started_at=None).update(
                    held_by=None
                )

    def take(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        if not self._has_broker:
            self._enlist()
        waiting = Task.objects.filter(status=_PENDING, started_at=None, kind__in=kinds, take_at__lte=Now())
        with _reached():
            taken = self._take(waiting.filter(held_by=None), limit)
            if len(taken) < limit:
                taken += self._take(self._of_the_dead(waiting), limit - len(taken))
        return taken

    def lost(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        running = Task.objects.filter(status=_PENDING, started_at__isnull=False, kind__in=kinds)
        with _reached():
            rows = self._of_the_dead(running).values_list(*FIELDS)[:limit]
            return [entry_of(row) for row in rows]

    def close(self) -> None:
        self._signals.close()
        with _reached():
            Holder.objects.filter(id=self._id).delete()

    def _custody(self, entry: TaskEntry) -> dict[str, Any]:
        """In whose hands the entry is once it is as given."""
        if entry.ended:
            return {"held_by": None, "take_at": None}
        if entry.started_at is not None:
            self._enlist()
            return {"held_by": self._id, "take_at": None}
        due_at = entry.due_at or _now()
        if self._has_broker:
            return {"held_by": None, "take_at": due_at + timedelta(seconds=_PUBLISHED_AGAIN_SECONDS)}
        self._enlist()
        return {"held_by": self._id, "take_at": due_at}

    def _of_the_dead(self, tasks: "QuerySet[Task]") -> "QuerySet[Task]":
        """Those in the hands of a process that is gone."""
        alive = Holder.objects.filter(id=OuterRef("held_by"), beat_until__gt=Now())
        return tasks.filter(~Exists(alive), held_by__isnull=False).exclude(held_by=self._id)

    def _take(self, waiting: "QuerySet[Task]", limit: int) -> list[TaskEntry]:
        with transaction.atomic():
            rows = waiting.select_for_update(skip_locked=True).order_by("take_at").values_list(*FIELDS)[:limit]
            entries = [entry_of(row) for row in rows]
            if not self._has_broker:
                Task.objects.filter(id__in=[entry.id for entry in entries]).update(held_by=self._id)
                return entries
            now = _now()
            for entry in entries:
                age = (now - entry.created_at).total_seconds()
                later = timedelta(seconds=min(max(age, _PUBLISHED_AGAIN_SECONDS), _MOST_UNPUBLISHED_SECONDS))
                Task.objects.filter(id=entry.id).update(held_by=None, take_at=now + later)
        return entries


@contextmanager
def _reached() -> Iterator[None]:
    """Raises RegistryUnavailable where the database cannot be reached; gives the connection back to the pool."""
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if not connection.in_atomic_block:
            connection.close()
        raise RegistryUnavailable from error
    finally:
        # Whoever runs the code of a kind would else keep one of the few for as long as that takes.
        if connection.settings_dict["CONN_MAX_AGE"] == 0 and not connection.in_atomic_block:
            connection.close()


def _first_with_key(row: Task) -> TaskEntry:
    """The entry that has the key of the row, which is stored where there is none that has not expired."""
    with_key = Task.objects.filter(idempotency_key=row.idempotency_key)
    while True:
        Task.objects.bulk_create([row], ignore_conflicts=True)
        found = with_key.values_list(*FIELDS).first()
        if found is not None:
            first = entry_of(found)
            if first.expires_at is None or _now() < first.expires_at:
                return first
            with_key.filter(id=first.id).update(idempotency_key=None)


def _expire_past_the_limit() -> None:
    now = _now()
    kept = Task.objects.filter(expires_at__gt=now).order_by("-expires_at")
    most = settings.TASK_MAX_ENTRIES
    while rows := list(kept.values_list("id", "expires_at")[most : most + _BATCH]):
        # All by the same, so that their order stays.
        sooner = (rows[0][1] or now) - now
        Task.objects.filter(id__in=[task_id for task_id, _ in rows]).update(expires_at=F("expires_at") - sooner)


def _drop_expired() -> list[str]:
    """The file names of a batch of expired entries, which are gone."""
    with transaction.atomic():
        expired = Task.objects.filter(expires_at__lte=_now()).order_by("expires_at")
        rows = list(expired.select_for_update(skip_locked=True).values_list("id", "expires_at", "file_name")[:_BATCH])
        Expired.objects.bulk_create(
            [Expired(id=task_id, expired_at=expired_at or _now()) for task_id, expired_at, _ in rows],
            ignore_conflicts=True,
        )
        Task.objects.filter(id__in=[task_id for task_id, _, _ in rows]).delete()
    return [file_name for _, _, file_name in rows]


def _forget_expired() -> None:
    Expired.objects.filter(expired_at__lte=_now() - _retention()).delete()
    most = settings.TASK_MAX_ENTRIES
    while ids := list(Expired.objects.order_by("-expired_at").values_list("id", flat=True)[most : most + _BATCH]):
        Expired.objects.filter(id__in=ids).delete()


def _batches(task_ids: Collection[UUID]) -> Iterator[list[UUID]]:
    ids = list(task_ids)
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _now() -> datetime:
    return datetime.now(UTC)


def _retention() -> timedelta:
    return timedelta(seconds=settings.TASK_RETENTION_SECONDS)
