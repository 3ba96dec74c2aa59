"""The task entry and its state machine, which alone decides which state may follow which."""

import enum
import json
import uuid
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from django.conf import settings

from tasks.exceptions import StaleAttempt, TaskAlreadyFinished


class Status(enum.StrEnum):
    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """Why an attempt failed: a stable code for programs, a sentence for people."""

    code: str
    detail: str


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEntry:
    """One task, at one moment. A method that changes it returns the next entry and leaves this one as it is.

    `started_at` is None while the task waits for a worker. `attempt` counts the claims so far. `version` grows
    by one with each change. `input` and `result` are JSON values. `idempotency_key` is empty where the client
    gave none. `run_after` is when the next attempt may begin; None means immediately.
    """

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    kind: str
    name: str
    input: dict[str, Any] = field(default_factory=dict)
    status: Status = Status.PENDING
    file_name: str = ""
    progress: int = 0
    message: str = ""
    result: Any = None
    error: TaskFailure | None = None
    attempt: int = 0
    version: int = 1
    created_at: datetime = field(default_factory=_now)
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str = ""
    run_after: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status is not Status.PENDING

    @property
    def delay(self) -> float:
        """Seconds until the next attempt may begin; 0 where it may now."""
        return 0 if self.run_after is None else max((self.run_after - _now()).total_seconds(), 0)

    @property
    def seconds_in_state(self) -> float:
        """Seconds since the current attempt began, or since the task was created while none runs."""
        return (_now() - (self.started_at or self.created_at)).total_seconds()

    @property
    def file_path(self) -> str:
        """Where this server serves the result file; empty until the task is completed, and if it has none."""
        return f"files/{self.file_name}" if self.file_name and self.status is Status.COMPLETED else ""

    def same_request(self, other: Self) -> bool:
        """Whether both entries were created from the same payload for the same kind."""
        return _payload(self) == _payload(other)

    def claimed(self) -> Self:
        """The next attempt begins. Raises StaleAttempt where one is already running."""
        self._require_pending()
        if self.started_at is not None:
            raise StaleAttempt
        return self._next(attempt=self.attempt + 1, started_at=_now(), run_after=None)

    def with_file(self, attempt: int, file_name: str) -> Self:
        """The running attempt is about to write its result file, of that name."""
        self._require_running(attempt)
        return self if file_name == self.file_name else self._next(file_name=file_name)

    def progressed(self, attempt: int, percent: int, message: str) -> Self:
        """The running attempt is `percent` of the way; a lower number than before is ignored."""
        self._require_running(attempt)
        return self._next(progress=max(self.progress, min(percent, 100)), message=message)

    def completed(self, attempt: int, result: Any) -> Self:
        self._require_running(attempt)
        return self._end(Status.COMPLETED, progress=100, result=result, error=None)

    def failed(self, attempt: int, error: TaskFailure) -> Self:
        """The attempt failed, and no other follows."""
        self._require_running(attempt)
        return self._end(Status.FAILED, error=error)

    def aborted(self, error: TaskFailure) -> Self:
        """The task failed without a further attempt, whether it was waiting or running."""
        self._require_pending()
        return self._end(Status.FAILED, error=error)

    def cancelled(self) -> Self:
        self._require_pending()
        return self._end(Status.CANCELLED)

    def retrying(self, attempt: int, error: TaskFailure, delay: float) -> Self:
        """The attempt failed and another follows in `delay` seconds; `error` stays until that one ends."""
        self._require_running(attempt)
        return self._next(started_at=None, error=error, run_after=_now() + timedelta(seconds=delay))

    def _end(self, status: Status, **changes: Any) -> Self:
        now = _now()
        expires_at = now + timedelta(seconds=settings.TASK_RETENTION_SECONDS)
        return self._next(status=status, finished_at=now, expires_at=expires_at, run_after=None, **changes)

    def is_stale(self, attempt: int) -> bool:
        """Whether that attempt no longer counts: the task has ended, or another attempt has replaced it."""
        return self.ended or self.attempt != attempt or self.started_at is None

    def _next(self, **changes: Any) -> Self:
        return replace(self, version=self.version + 1, **changes)

    def _require_pending(self) -> None:
        if self.ended:
            raise TaskAlreadyFinished

    def _require_running(self, attempt: int) -> None:
        self._require_pending()
        if self.is_stale(attempt):
            raise StaleAttempt


def _payload(entry: TaskEntry) -> str:
    # As JSON, where 1, 1.0 and true are three values.
    return json.dumps([entry.kind, entry.name, entry.input], sort_keys=True)
