"""A kind of task: a name, a payload, and the function that does the work."""

import inspect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any
from uuid import UUID, uuid4

from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers

from tasks.entry import TaskEntry
from tasks.job import Job
from tasks.utils.json_value import as_json

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 50
# About thirty years, which timers can still represent.
_MAX_SECONDS = 1_000_000_000
_MAX_ATTEMPTS = 3

# The paths of every kind's pair begin with these.
CREATE_PREFIX, POLL_PREFIX = "create-", "poll-"


class NameField(serializers.CharField):
    """Text on one line; a number is not converted."""

    default_error_messages = {
        "invalid": "Send a string.",
        "control": "Remove control characters, such as line breaks and tabs.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not data.isprintable() and any(unicodedata.category(character) == "Cc" for character in data):
            self.fail("control")
        return super().to_internal_value(data)


class TaskPayload(serializers.Serializer[Any]):
    """The payload of a create. A kind adds its own fields, which become the entry's `input`."""

    name = NameField(max_length=255, help_text="The name of the task, for people.")


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A kind of task, with the endpoints `/create-<name>` and `/poll-<name>/<id>`.

    `name` is lower-case words joined by hyphens; entries are stored under it, so it stays when the code is renamed.
    `process(job, payload)` does the work. `payload` is the entry's `input`. The returned value becomes the `result`
    (a JSON value), and an exception makes the task `failed`, with the exception's text for its client.

    A plain function runs in a thread, an `async def` on the event loop, and with `cpu_bound` a plain function
    runs in a process of its own. Raises ImproperlyConfigured for what cannot work.
    """

    name: str
    process: Callable[[Job, dict[str, Any]], Any]
    payload: type[TaskPayload] = TaskPayload
    cpu_bound: bool = False
    timeout: float | None = None
    """Seconds an attempt may take; it then fails with the code `timeout`. None: no limit."""
    retries: int = 0
    """Further attempts after a failed one."""
    max_attempts: int | None = None
    """All attempts, including those whose process died. None: 3, or `retries` + 1 where that is more."""
    retry_delay: float = 1
    """Seconds before the second attempt, doubled before each one after it, up to five minutes."""
    max_running: int | None = None
    """How many tasks of this kind may run at once; None: as many as their lane has slots."""
    is_async: bool = field(init=False, repr=False, compare=False)
    """Whether `process` is an `async def`."""
    _serializer: TaskPayload = field(init=False, repr=False, compare=False)
    _takes_input: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or len(self.name) > _NAME_LENGTH or not _NAME.fullmatch(self.name):
            raise ImproperlyConfigured(
                f"{self.name!r} cannot name a kind of task: use lower-case words joined by hyphens, "
                f"as in 'prime-count', {_NAME_LENGTH} characters at most."
            )
        if not (isinstance(self.payload, type) and issubclass(self.payload, TaskPayload)):
            raise ImproperlyConfigured(
                f"The payload of the kind {self.name!r} must be a class that extends tasks.kinds.base.TaskPayload."
            )
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.process))
        self._refuse_options_that_cannot_work()
        # One instance serves every request, since validation keeps no state in it.
        serializer = self.payload()
        object.__setattr__(self, "_serializer", serializer)
        object.__setattr__(self, "_takes_input", len(serializer.fields) > 1)

    @property
    def create_path(self) -> str:
        """The path of the create endpoint, relative to the root of the service."""
        return f"{CREATE_PREFIX}{self.name}"

    def poll_path(self, task_id: UUID | str) -> str:
        """The path of the poll endpoint of a task, relative to the root of the service."""
        return f"{POLL_PREFIX}{self.name}/{task_id}"

    @property
    def effective_max_attempts(self) -> int:
        return max(_MAX_ATTEMPTS, self.retries + 1) if self.max_attempts is None else self.max_attempts

    def _refuse_options_that_cannot_work(self) -> None:
        wrong = (
            (not callable(self.process), "`process` must be a function that takes a job and a payload"),
            (self.cpu_bound and self.is_async, "`cpu_bound` takes a plain function, not an `async def`"),
            (
                self.timeout is not None and not 0 < self.timeout <= _MAX_SECONDS,
                f"`timeout` must be more than 0 and at most {_MAX_SECONDS:,} seconds",
            ),
            (self.retries < 0, "`retries` must be 0 or more"),
            (self.max_attempts is not None and self.max_attempts < 1, "`max_attempts` must be 1 or more"),
            (not 0 <= self.retry_delay < inf, "`retry_delay` must be 0 seconds or more"),
            (self.max_running is not None and self.max_running < 1, "`max_running` must be 1 or more"),
        )
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise ImproperlyConfigured(f"The kind {self.name!r} cannot work: {sentence}.")

    def new_entry(self, data: Any, *, task_id: UUID | None = None, idempotency_key: str = "") -> TaskEntry:
        """A pending entry for the payload that a client sent. Raises rest_framework's ValidationError."""
        valid = self._serializer.run_validation(data)
        return TaskEntry(
            id=task_id or uuid4(),
            kind=self.name,
            name=valid["name"],
            input=self._input(valid) if self._takes_input else {},
            idempotency_key=idempotency_key,
        )

    def _input(self, valid: dict[str, Any]) -> dict[str, Any]:
        values = self._serializer.to_representation(valid)
        del values["name"]
        try:
            kept: dict[str, Any] = as_json(values)
        except (TypeError, ValueError) as error:
            # A form can contain a NaN or a number past 64 bits, which the fields accept.
            raise serializers.ValidationError(f"Send values that JSON can represent ({error}).") from error
        return kept
