"""Crash points: a process kills itself between two steps of a task, once per task.

The name of a task selects its crash point. The service needs no hooks: the crash points wrap the registry, which is a
setting, and use the signals of Celery.
"""

import os
import signal
from pathlib import Path
from threading import Timer
from typing import Any
from uuid import UUID

from celery.signals import after_task_publish, before_task_publish

from faults.effects import note
from tasks.contrib.database.registry import DatabaseRegistry
from tasks.entry import TaskEntry
from tasks.registry import Transition, get_registry

STORED = "after the row is stored"
UNPUBLISHED = "before the publish"
PUBLISHED = "after the publish"
UNFINISHED = "after the effect, before the finish"
FINISHED = "after the finish, before the ack"
_BATCH_SECONDS = 0.05


class CrashPointRegistry(DatabaseRegistry):
    """The database registry of the service, with crash points for the tasks that are named after one."""

    def add(self, entry: TaskEntry) -> TaskEntry:
        stored = super().add(entry)
        _die(STORED, stored)
        return stored

    def change(self, task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        def with_crash_point(entry: TaskEntry) -> TaskEntry:
            changed = transition(entry)
            if changed.ended:
                _die(UNFINISHED, changed)
            return changed

        changed = super().change(task_id, with_crash_point, seen)
        if changed.ended:
            _die(FINISHED, changed)
        return changed


@before_task_publish.connect
def _before_publish(headers: dict[str, Any], **_: Any) -> None:
    _die(UNPUBLISHED, get_registry().get(UUID(headers["id"])))


@after_task_publish.connect
def _after_publish(headers: dict[str, Any], **_: Any) -> None:
    # Celery sends the signal before the message leaves with its batch.
    Timer(_BATCH_SECONDS, lambda: _die(PUBLISHED, get_registry().get(UUID(headers["id"])))).start()


def _die(crash_point: str, entry: TaskEntry) -> None:
    if not entry.name.startswith(crash_point):
        return
    try:
        Path(os.environ["FAULTS_DIED"], str(entry.id)).touch(exist_ok=False)
    except FileExistsError:
        return
    note("killed", str(entry.id), entry.attempt)
    os.kill(os.getpid(), signal.SIGKILL)
