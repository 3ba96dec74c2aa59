"""Expired entries are dropped, and their files are deleted, along with files that no entry knows."""

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from django.core.files.storage import default_storage

from tasks.exceptions import RegistryUnavailable, TaskNotFound
from tasks.registry import get_registry, retention
from tasks.utils.periodic import PeriodicThread

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1
_LEFTOVER_SECONDS = 3600
_RESULT_FILE = re.compile(r"[a-z0-9-]+_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\..+")


def retention_thread() -> PeriodicThread:
    """Sweeps every second; at the start and every hour it also looks for left-over files."""
    return PeriodicThread("tasks-retention", SWEEP_SECONDS, _Retention().run, outage=RegistryUnavailable)


class _Retention:
    def __init__(self) -> None:
        self._leftovers_at = 0.0

    def run(self) -> None:
        sweep()
        if time.monotonic() >= self._leftovers_at:
            # Set first, so that a storage that cannot be listed is not tried every second.
            self._leftovers_at = time.monotonic() + _LEFTOVER_SECONDS
            try:
                delete_leftover_files()
            except RegistryUnavailable:
                self._leftovers_at = 0
                raise


def sweep() -> None:
    """Drop what has expired, and delete the result files of all that was dropped."""
    for file_name in get_registry().purge():
        _try(file_name, default_storage.delete)


def delete_leftover_files() -> None:
    """Delete the result files that no entry knows and that are older than TASK_RETENTION_SECONDS.

    An earlier process left them, or they could not be deleted with their entry.
    """
    try:
        _, names = default_storage.listdir("")
    except FileNotFoundError:
        return
    oldest = datetime.now(UTC) - retention()
    for name in names:
        if match := _RESULT_FILE.fullmatch(name):
            _try(name, partial(_delete_leftover, task_id=UUID(match[1]), oldest=oldest))


def _delete_leftover(name: str, *, task_id: UUID, oldest: datetime) -> None:
    if default_storage.get_modified_time(name) >= oldest:
        return
    try:
        get_registry().get(task_id)
    except TaskNotFound:
        default_storage.delete(name)


def _try(file_name: str, delete: Callable[[str], None]) -> None:
    """Delete one file; an error of the storage concerns this file alone."""
    try:
        delete(file_name)
    except RegistryUnavailable:
        raise
    except FileNotFoundError:
        pass  # another process has deleted it
    except Exception as error:  # noqa: BLE001 - each storage has its own
        logger.warning("The result file %s could not be deleted, and will be retried: %s", file_name, error)
