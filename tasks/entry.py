"""The task entry and its state machine: which state may follow which is decided here alone."""

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
    by one with each change. `input` and `result` hold JSON values. `idempotency_key` is empty where the client
    gave none. `due_at` is when the next attempt may begin, None where at once.
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
    due_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.status is not Status.PENDING

    @property
    def due_in(self) -> float:
        """Seconds until the next attempt may begin; 0 where it may now."""
        return 0 if self.due_at is None else max((self.due_at - _now()).total_seconds(), 0)

    @property
    def age(self) -> float:
        """Seconds since the attempt began, or since the task was created where none has."""
        return (_now() - (self.started_at or self.created_at)).total_seconds()

    @property
    def file_path(self) -> str:
        """Where this server serves the result file; empty until the task is completed, and if it has none."""
        return f"files/{self.file_name}" if self.file_name and self.status is Status.COMPLETED else ""

    def asks_the_same(self, other: Self) -> bool:
        """Whether both entries were created by the same payload for the same kind."""
        return _payload(self) == _payload(other)

    def claimed(self) -> Self:
        """A worker begins the next attempt. Raises StaleAttempt where one is running already."""
        self._require_pending()
        if self.started_at is not None:
            raise StaleAttempt
        return self._next(attempt=self.attempt + 1, started_at=_now(), due_at=None)

    def storing(self, attempt: int, file_name: str) -> Self:
        """The running attempt is about to write its result file."""
        self._require_running(attempt)
        return self if file_name == self.file_name else self._next(file_name=file_name)

    def progressed(self, attempt: int, percent: int, message: str) -> Self:
        """The running attempt is `percent` of the way; a lower number than before leaves it where it was."""
        self._require_running(attempt)
        return self._next(progress=max(self.progress, min(percent, 100)), message=message)

    def completed(self, attempt: int, result: Any) -> Self:
        self._require_running(attempt)
        return self._end(Status.COMPLETED, progress=100, result=result, error=None)

    def failed(self, attempt: int, error: TaskFailure) -> Self:
        """The attempt failed and no other follows."""
        self._require_running(attempt)
        return self._end(Status.FAILED, error=error)

    def given_up(self, error: TaskFailure) -> Self:
        """No attempt follows, whether the task waits or runs."""
        self._require_pending()
        return self._end(Status.FAILED, error=error)

    def cancelled(self) -> Self:
        self._require_pending()
        return self._end(Status.CANCELLED)

    def retrying(self, attempt: int, error: TaskFailure, delay: float) -> Self:
        """The attempt failed and another follows in `delay` seconds; its error can be read until that one ends."""
        self._require_running(attempt)
        return self._next(started_at=None, error=error, due_at=_now() + timedelta(seconds=delay))

    def _end(self, status: Status, **changes: Any) -> Self:
        now = _now()
        expires_at = now + timedelta(seconds=settings.TASK_RETENTION_SECONDS)
        return self._next(status=status, finished_at=now, expires_at=expires_at, due_at=None, **changes)

    def over(self, attempt: int) -> bool:
        """Whether that attempt no longer counts: the task ended, or another attempt took its place."""
        return self.ended or self.attempt != attempt or self.started_at is None

    def _next(self, **changes: Any) -> Self:
        return replace(self, version=self.version + 1, **changes)

    def _require_pending(self) -> None:
        if self.ended:
            raise TaskAlreadyFinished

    def _require_running(self, attempt: int) -> None:
        self._require_pending()
        if self.over(attempt):
            raise StaleAttempt


def _payload(entry: TaskEntry) -> str:
    # As JSON, where 1, 1.0 and true are three values.
    return json.dumps([entry.kind, entry.name, entry.input], sort_keys=True)
