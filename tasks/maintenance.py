"""What keeps a running service in order: expired entries go, and their files with them."""

import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage

from tasks.exceptions import TaskNotFound
from tasks.once import Once
from tasks.registry import get_registry

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1
_RESULT_FILE = re.compile(r"[a-z0-9-]+_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\..+")


def sweep() -> None:
    """Drop what has expired, and delete the result files of all that was dropped."""
    for file_name in get_registry().purge():
        default_storage.delete(file_name)


def delete_orphans() -> None:
    """Delete the result files that an earlier process left and no entry knows, once they are past retention."""
    try:
        _, names = default_storage.listdir("")
    except FileNotFoundError:
        return
    oldest = datetime.now(UTC) - timedelta(seconds=settings.TASK_RETENTION_SECONDS)
    for name in names:
        match = _RESULT_FILE.fullmatch(name)
        if match and not _is_known(UUID(match[1])) and default_storage.get_modified_time(name) < oldest:
            default_storage.delete(name)


def _is_known(task_id: UUID) -> bool:
    try:
        get_registry().get(task_id)
    except TaskNotFound:
        return False
    return True


class Sweeper:
    """Sweeps each second, in a thread of its own, from `start` to `stop`."""

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._start = Once(lambda: threading.Thread(target=self._run, name="tasks-sweeper", daemon=True).start())

    def start(self) -> None:
        """Start, once; a second call changes nothing."""
        self._start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        self._try(delete_orphans)
        while not self._stopped.wait(SWEEP_SECONDS):
            self._try(sweep)

    def _try(self, work: Callable[[], None]) -> None:
        # The storage may be out of reach for a while; the next sweep tries the next files.
        try:
            work()
        except Exception:
            logger.exception("A sweep failed")
