"""What the code of a kind receives: its task, and the ways to report on it."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import methodcaller
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks.entry import TaskEntry
from tasks.exceptions import ATTEMPT_OVER, RegistryUnavailable, StaleAttempt, TaskNotFound
from tasks.registry import Transition, get_registry, retry_until_available
from tasks.utils.event_loop import is_on_event_loop
from tasks.utils.json_value import readable
from tasks.utils.lazy import Lazy
from tasks.utils.timer import Timer

# A task's progress changes its entry no more often than this.
PROGRESS_SECONDS = 0.05
_MESSAGE_LENGTH = 200
_RETRY_SECONDS = 1

Progress = tuple[int, str]

# Guards the progress that jobs have not reported yet; one for all, since a job must be light.
_lock = threading.Lock()
_get_timer = Lazy(lambda: Timer("tasks-progress"))


class Job:
    """One attempt at one task, as its code sees it: the same in a thread, on the event loop and in a process."""

    __slots__ = ("_checked_at", "_is_over", "_kind", "_reported_at", "_unreported", "attempt", "id", "name")

    def __init__(self, entry: TaskEntry) -> None:
        self.id: UUID = entry.id
        self.name: str = entry.name
        self.attempt: int = entry.attempt
        self._kind = entry.kind
        self._reported_at = -PROGRESS_SECONDS
        self._unreported: Progress | None = None
        self._checked_at = -PROGRESS_SECONDS
        self._is_over = False

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is already over: the task was cancelled, timed out, or restarted elsewhere."""
        if self._is_over or (get_registry().does_io and not self._may_read()):
            return self._is_over
        try:
            self._is_over = get_registry().get(self.id).is_stale(self.attempt)
        except TaskNotFound:
            self._is_over = True
        except RegistryUnavailable:
            pass  # nobody can know
        return self._is_over

    def _may_read(self) -> bool:
        """Reading from a database takes time: not too often, then, and never on an event loop."""
        now = time.monotonic()
        if is_on_event_loop() or now < self._checked_at + PROGRESS_SECONDS:
            return False
        self._checked_at = now
        return True

    def check(self) -> None:
        """Raise StaleAttempt once the attempt is over, so that the code ends here."""
        if self.cancelled:
            raise StaleAttempt

    def progress(self, percent: float, message: str = "") -> None:
        """Show in the entry how far the work is: 0 to 100, never backwards, with a short message.

        The first report and the last of a rapid series are shown, and about 20 a second between them. Raises
        StaleAttempt once the attempt is over.
        """
        self.check()
        report = int(percent), readable(message, _MESSAGE_LENGTH)
        with _lock:
            is_scheduled = self._unreported is not None
            self._unreported = report if self._unreported is None else (max(self._unreported[0], report[0]), report[1])
            wait = self._reported_at + PROGRESS_SECONDS - time.monotonic()
        if is_scheduled:
            return
        if wait <= 0 and not (get_registry().does_io and is_on_event_loop()):
            self._while_it_runs(self._flush)
        else:
            _get_timer().call_later(max(wait, 0), self.close)

    def save_file(self, content: str | bytes, suffix: str) -> str:
        """Store the task's result file as `<kind>_<id><suffix>`, replacing an earlier one; return that name.

        The entry shows it as `file_path` once the task is completed. `suffix` begins with a dot, as in ".json".
        Raises StaleAttempt once the attempt is over.
        """
        self.check()
        file_name = f"{self._kind}_{self.id}{suffix}"
        # Recorded before it is written: whatever happens to this process, the file can be found and deleted.
        with_file = methodcaller("with_file", self.attempt, file_name)
        self._while_it_runs(lambda: retry_until_available(lambda: self._report(with_file)))
        stored = default_storage.save(file_name, ContentFile(content))
        if stored != file_name:
            default_storage.delete(stored)
            raise OSError(f"The storage saved {file_name} as {stored}; configure it to overwrite files.")
        return file_name

    def close(self) -> None:
        """Report the progress that was not reported yet. For the runner, once the code has returned."""
        try:
            self._flush()
        except ATTEMPT_OVER:
            self._is_over = True

    def _while_it_runs(self, report: Callable[[], None]) -> None:
        try:
            report()
        except ATTEMPT_OVER as over:
            self._is_over = True
            raise StaleAttempt from over

    def _flush(self) -> None:
        with _lock:
            unreported = self._unreported
            self._reported_at = time.monotonic()
        if unreported is None:
            return
        try:
            self._report_progress(unreported)
        except RegistryUnavailable:
            _get_timer().call_later(_RETRY_SECONDS, self.close)
            return
        # It counts as unreported until it is reported, so that no end overtakes it; by now there may be a newer one.
        with _lock:
            if self._unreported is unreported:
                self._unreported = None
                return
        _get_timer().call_later(PROGRESS_SECONDS, self.close)

    def _report_progress(self, progress: Progress) -> None:
        def newest(entry: TaskEntry) -> TaskEntry:
            # Another thread may report meanwhile, and its progress is newer.
            now = self._unreported
            return entry if now is None else entry.progressed(self.attempt, *now)

        self._report(newest)

    def _report(self, transition: Transition) -> None:
        registry = get_registry()
        if registry.does_io and is_on_event_loop():
            # Django refuses to use a database on an event loop.
            with ThreadPoolExecutor(1, "tasks-job") as helper:
                helper.submit(registry.change, self.id, transition).result()
        else:
            registry.change(self.id, transition)


class RemoteJob(Job):
    """A job in a process of its own, which is killed when the attempt is over."""

    __slots__ = ("_remote_report",)

    def __init__(self, entry: TaskEntry, report: Callable[[Transition], None]) -> None:
        """`report` makes the change where the registry is, and raises StaleAttempt where it was refused."""
        super().__init__(entry)
        self._remote_report = report

    @property
    def cancelled(self) -> bool:
        return False

    def _report_progress(self, progress: Progress) -> None:
        self._report(methodcaller("progressed", self.attempt, *progress))

    def _report(self, transition: Transition) -> None:
        self._remote_report(transition)
