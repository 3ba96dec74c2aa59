"""Where the entries are kept: what a data store promises."""

import time
from collections.abc import Callable, Collection
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string

from tasks.entry import Status, TaskEntry
from tasks.exceptions import RegistryUnavailable
from tasks.once import Once
from tasks.watchers import Watchers

Transition = Callable[[TaskEntry], TaskEntry]
T = TypeVar("T")


class Position(NamedTuple):
    """Where an entry stands among all, which are in the order of their creation."""

    created_at: datetime
    id: UUID


class Registry(Protocol):
    """A data store of task entries, safe to call from any thread.

    An ended entry expires at its `expires_at`, and, oldest first, once there are more than TASK_MAX_ENTRIES of
    them. For TASK_RETENTION_SECONDS more its id is known to have expired. A live entry never expires.

    `watchers` are told of each entry that was added, changed or removed, after that.

    Where the registry `is_shared`, other processes have the same entries, which outlive this one. A pending task
    then is in the hands of the process that added, claimed or took it, for as long as that process beats.
    `cancels` are told of each task that any process cancelled; where it is not shared, of none.
    """

    watchers: Watchers
    cancels: Watchers
    is_shared: bool

    def add(self, entry: TaskEntry) -> TaskEntry:
        """Store a new entry and return it; or, where there is one with its idempotency key, return that one."""

    def get(self, task_id: UUID) -> TaskEntry:
        """The entry as it is now. Raises TaskNotFound, and its kind TaskExpired."""

    def change(self, task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        """Replace the entry by `transition(entry)`, atomically, and return it.

        `seen` is the entry as the caller knows it, which may spare a look at it and makes no other difference.

        Raises what `get` raises, and whatever `transition` raises; the entry is then unchanged. `transition` is
        a method of TaskEntry: it computes, and neither waits nor calls the registry.
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
        """Forget the entry as if it had never been; nothing happens where there is none."""

    def purge(self) -> list[str]:
        """Drop what has expired; return the result files of all that was dropped since the last purge."""

    def __len__(self) -> int:
        """How many entries there are, ended ones included."""

    def beat(self) -> None:
        """Say that this process lives. One that has not for TASK_LEASE_SECONDS loses its tasks to others."""

    def held(self) -> set[UUID]:
        """The pending tasks that are in the hands of this process."""

    def release(self, task_ids: Collection[UUID]) -> None:
        """Give waiting tasks out of this process's hands, for any to take."""

    def take(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        """Take at most `limit` waiting tasks of those kinds that are in nobody's hands and whose time has come."""

    def lost(self, limit: int, kinds: Collection[str]) -> list[TaskEntry]:
        """At most `limit` tasks of those kinds that are running, for all that their process tells, but it is gone."""

    def close(self) -> None:
        """Let go of what the registry holds, connections among it, and of all tasks in this process's hands."""


_INSIST_SECONDS = 0.5


def _build_registry() -> Registry:
    registry: Registry = import_string(settings.TASK_REGISTRY)()
    return registry


get_registry = Once(_build_registry)


def insist(do: Callable[[], T]) -> T:
    """What `do` returns, once the registry is available. For those who work: without it they cannot go on."""
    while True:
        try:
            return do()
        except RegistryUnavailable:
            time.sleep(_INSIST_SECONDS)
