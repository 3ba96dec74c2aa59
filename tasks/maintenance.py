"""What keeps a running service in order: expired entries go with their files, lost work is found and done."""

import logging
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.files.storage import default_storage

from tasks import runner
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import RegistryUnavailable, TaskNotFound
from tasks.kinds import get_kinds
from tasks.once import Once
from tasks.registry import get_registry

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 1
_BEATS = 4
# So many lost tasks are taken over at a time, so that others take some, too.
_BATCH = 100
_LOST = TaskFailure("lost", "The process that ran the task is gone, and it had no attempt left.")
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


def rescue(accept: Callable[[TaskEntry], None], most: int) -> None:
    """Hand over what nobody is about to do, `most` tasks at most: what a process has left, or none has begun."""
    registry, kinds = get_registry(), get_kinds()
    while most > 0:
        lost = registry.lost(min(most, _BATCH), kinds)
        for entry in lost:
            again = runner.lose(entry, _LOST)
            if again is not None and not again.ended:
                accept(again)
        waiting = registry.take(min(most, _BATCH), kinds)
        for entry in waiting:
            accept(entry)
        most -= len(lost) + len(waiting)
        if len(lost) < _BATCH and len(waiting) < _BATCH:
            return


class Custody:
    """Compares the tasks in this process with those that the registry says are in its hands.

    They differ for good where the answer to a change was lost on its way, or where this process slept so long that
    others took its tasks. So what differs at two looks is no chance.
    """

    def __init__(self) -> None:
        self._forgotten: set[UUID] = set()
        self._gone: set[UUID] = set()

    def compare(self, here: set[UUID]) -> tuple[set[UUID], set[UUID]]:
        """The tasks that this process has and does not know of, and those that are here and no longer its own."""
        held = get_registry().held()
        forgotten, gone = held - here, here - held
        both = forgotten & self._forgotten, gone & self._gone
        self._forgotten, self._gone = forgotten, gone
        return both

    def beat(self, here: set[UUID], accept: Callable[[TaskEntry], None], stop: Callable[[UUID], None]) -> None:
        """Say that this process lives, hand over what it had forgotten, and stop what is no longer its own."""
        get_registry().beat()
        forgotten, gone = self.compare(here)
        for task_id in forgotten:
            take_up(task_id, accept)
        for task_id in gone:
            stop(task_id)


def take_up(task_id: UUID, accept: Callable[[TaskEntry], None]) -> None:
    """Hand over a task that this process has and does not know of; an attempt at it that had begun is lost."""
    try:
        entry: TaskEntry | None = get_registry().get(task_id)
    except TaskNotFound:
        return
    if entry is not None and entry.started_at is not None:
        entry = runner.lose(entry, _LOST)
    if entry is not None and not entry.ended:
        accept(entry)


def heartbeat(beat: Callable[[], None]) -> "Repeater":
    """Calls `beat` so often in each lease that some may be missed."""
    return Repeater("tasks-heartbeat", settings.TASK_LEASE_SECONDS / _BEATS, beat)


class Repeater:
    """Does its work each `seconds`, in a thread of that name, from `start` to `stop`."""

    def __init__(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._is_away = False
        self._stopped = threading.Event()
        self._start = Once(lambda: threading.Thread(target=self._run, name=name, daemon=True).start())

    def start(self) -> None:
        """Start, once; a second call changes nothing."""
        self._start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while True:
            self._try()
            if self._stopped.wait(self._seconds):
                return

    def _try(self) -> None:
        # The storage, or the database, may be out of reach for a while.
        try:
            self._work()
        except RegistryUnavailable as error:
            if not self._is_away:
                logger.warning("%s: %s It is tried again.", self._name, error)
            self._is_away = True
        except Exception:
            logger.exception("%s failed, and goes on", self._name)
        else:
            self._is_away = False
