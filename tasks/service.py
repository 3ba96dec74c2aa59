"""Create, read and cancel tasks: what views, commands and a project's own code call. It knows nothing of HTTP."""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from tasks.dispatch import get_dispatcher, runner
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull, IdempotencyKeyReused, TaskNotFound
from tasks.kinds.base import TaskKind
from tasks.registry import get_registry

# Without leases a task that the dispatcher refuses is removed. The lock keeps a second create with the same key from
# being answered with that task in between. Where there are leases such a task stays, and the unique key decides.
_keyed_creates = threading.Lock()
_no_lock = nullcontext()


def create(kind: TaskKind, payload: Any, *, idempotency_key: str = "", task_id: UUID | None = None) -> TaskEntry:
    """Store a task and hand it to the dispatcher; return its entry, without waiting for a worker.

    Where an earlier create had the same `idempotency_key` and the same payload, return the entry of that one; its id
    then differs from `task_id`. Nothing is stored where it raises rest_framework's ValidationError, for a payload
    that the kind does not accept; IdempotencyKeyReused, for another payload; DispatcherFull, and its subclass
    DispatcherStopping. It raises RegistryUnavailable where the task may have been stored or not.
    """
    entry = kind.new_entry(payload, task_id=task_id, idempotency_key=idempotency_key)
    with _lock(entry):
        stored = get_registry().add(entry)
        if stored is entry:
            return _dispatch(entry)
    if not stored.same_request(entry):
        raise IdempotencyKeyReused
    return stored


def get(kind: TaskKind, task_id: UUID) -> TaskEntry:
    """The entry of a task of that kind, as it is now. Raises TaskNotFound, and its subclass TaskExpired."""
    entry = get_registry().get(task_id)
    if entry.kind != kind.name:
        raise TaskNotFound
    return entry


def cancel(kind: TaskKind, task_id: UUID) -> TaskEntry:
    """End a task as `cancelled`, then stop its work; return its entry.

    Raises what `get` raises, and TaskAlreadyFinished. The end is written first and is final: whatever the work still
    returns is dropped.
    """
    entry = runner.end(get(kind, task_id).id, TaskEntry.cancelled)
    get_dispatcher().cancel(entry)
    return entry


def _lock(entry: TaskEntry) -> AbstractContextManager[object]:
    return _keyed_creates if entry.idempotency_key and get_registry().leases is None else _no_lock


def _dispatch(entry: TaskEntry) -> TaskEntry:
    registry = get_registry()
    try:
        get_dispatcher().dispatch(entry)
    except DispatcherFull:
        if entry.idempotency_key and registry.leases is not None:
            # Another process may already have answered with this task, so it has to be run by one.
            registry.leases.release([entry.id])
        else:
            registry.remove(entry.id)
            raise
    return entry
