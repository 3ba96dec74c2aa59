"""Where the entries are kept: what a data store promises."""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from tasks.entry import Status, TaskEntry
from tasks.exceptions import RegistryUnavailable, TaskExpired, TaskNotFound
from tasks.registry.notifier import Notifier
from tasks.utils.lazy import Lazy

Transition = Callable[[TaskEntry], TaskEntry]
T = TypeVar("T")

_RETRY_SECONDS = 0.5


class Position(NamedTuple):
    """Where an entry stands among all, which are in the order of their creation."""

    created_at: datetime
    id: UUID


class Leases(Protocol):
    """Which process owns which pending task, where several processes share a registry.

    The process that added, claimed or acquired a task owns it, until the task ends or the process releases it. A
    process that sends no heartbeat for TASK_LEASE_SECONDS no longer owns them: others take them over.
    """

    @property
    def cancellations(self) -> Notifier:
        """Notifies of each task that any process cancelled."""

    def heartbeat(self) -> None:
        """Renew the lease of this process."""

    def owned_ids(self) -> set[UUID]:
        """The pending tasks that this process owns."""

    def release(self, task_ids: Collection[UUID]) -> None:
        """Release waiting tasks that this process owns, for any process to acquire."""

    def acquire(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        """Acquire at most `limit` waiting tasks of those kinds that are available and no live process owns."""

    def stalled(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        """At most `limit` running tasks of those kinds whose process has stopped sending heartbeats."""


class Registry(Protocol):
    """A data store of task entries, safe to call from any thread.

    An ended entry expires at its `expires_at`, and, oldest first, once there are more than TASK_MAX_ENTRIES of
    them. For TASK_RETENTION_SECONDS more, `get` raises TaskExpired for its id. A pending entry never expires.
    """

    @property
    def notifier(self) -> Notifier:
        """Notifies of each entry that was added, changed or removed, after that."""

    @property
    def does_io(self) -> bool:
        """Whether a call may wait for a disk or for a network, so that no event loop may make it."""

    @property
    def leases(self) -> Leases | None:
        """Present where other processes share the entries, which then outlive this one, and take over tasks."""

    def add(self, entry: TaskEntry) -> TaskEntry:
        """Store a new entry and return it; or, where there is one with its idempotency key, return that one."""

    def get(self, task_id: UUID) -> TaskEntry:
        """The entry as it is now. Raises TaskNotFound, and its subclass TaskExpired."""

    def change(self, task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        """Replace the entry by `transition(entry)`, atomically, and return it.

        `seen` is the entry as the caller knows it. It may save a read and makes no other difference.

        Raises what `get` raises, and whatever `transition` raises; the entry is then unchanged. `transition` is
        a method of TaskEntry: it computes, and neither blocks nor calls the registry.
        """

    def page(
        self,
        limit: int,
        *,
        kind: str | None = None,
        status: Status | None = None,
        before: Position | None = None,
        after: Position | None = None,
    ) -> list[TaskEntry]:
        """The newest `limit` entries of that kind and status, newest first.

        With `before`, those that were created next before that position; with `after`, those next after it.
        """

    def remove(self, task_id: UUID) -> None:
        """Remove the entry as if it had never been; nothing happens where there is none."""

    def purge(self) -> list[str]:
        """Drop what has expired; return the result files of all that was dropped since the last purge."""

    def __len__(self) -> int:
        """How many entries there are, ended ones included."""

    def close(self) -> None:
        """Stop notifying, and free what this process uses of the registry: connections, and its lease."""


def _build_registry() -> Registry:
    backend = settings.TASK_REGISTRY
    registry: Registry = import_string(backend["BACKEND"])(**backend.get("OPTIONS", {}))
    return registry


get_registry = Lazy(_build_registry)


def unexpired(entry: TaskEntry | None, expired_at: datetime | None) -> TaskEntry:
    """The entry, unless it has expired: the rule that every registry's `get` follows.

    `expired_at` is when the entry expires, or when the one that was dropped did; None where neither is known. Raises
    TaskExpired for TASK_RETENTION_SECONDS after that, and TaskNotFound from then on.
    """
    if expired_at is None:
        if entry is None:
            raise TaskNotFound
        return entry
    now = datetime.now(UTC)
    if entry is not None and now < expired_at:
        return entry
    raise TaskExpired if now < expired_at + retention() else TaskNotFound


def retention() -> timedelta:
    """How long an ended entry is kept, and how long after that its id is known to have expired."""
    return timedelta(seconds=settings.TASK_RETENTION_SECONDS)


def retry_until_available(function: Callable[[], T]) -> T:
    """Call `function` until the registry is available, and return what it returns. For workers, not for requests."""
    while True:
        try:
            return function()
        except RegistryUnavailable:
            time.sleep(_RETRY_SECONDS)
