"""What a kind of task is: a name, a payload, and the function that does the work."""

import inspect
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers

from tasks.entry import TaskEntry
from tasks.job import Job
from tasks.json_value import as_json

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 50
# Some thirty years, which timers can still count.
_MOST_SECONDS = 1_000_000_000
_MOST_ATTEMPTS = 3


class NameField(serializers.CharField):
    """Text a person can read on one line; a number is no name."""

    default_error_messages = {
        "invalid": "Send a string.",
        "control": "Leave out control characters, line breaks and tabs among them.",
    }

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        if not data.isprintable() and any(unicodedata.category(character) == "Cc" for character in data):
            self.fail("control")
        return super().to_internal_value(data)


class TaskPayload(serializers.Serializer[Any]):
    """What a client sends to create a task. A kind adds fields of its own; they become the entry's `input`."""

    name = NameField(max_length=255, help_text="What to call the task; shown wherever the task is shown.")


@dataclass(frozen=True, kw_only=True)
class TaskKind:
    """A kind of task; `/create-<name>` and `/poll-<name>/<id>` follow from it.

    `name` is lower-case words joined by hyphens; entries are stored under it, so it outlives any renaming of the
    code. `process(job, payload)` does the work: `payload` is the entry's `input`, what it returns becomes the
    `result` (a JSON value), and an exception makes the task failed, with the exception's text for its client.

    A plain function runs in a thread, an `async def` on the event loop, and with `cpu_bound` a plain function
    runs in a process of its own. Raises ImproperlyConfigured for what cannot work.
    """

    name: str
    process: Callable[[Job, dict[str, Any]], Any]
    payload: type[TaskPayload] = TaskPayload
    cpu_bound: bool = False
    timeout: float | None = None
    """Seconds an attempt may take; it then fails with the code `timeout`. None: as long as it likes."""
    retries: int = 0
    """Further attempts after one that failed."""
    max_attempts: int | None = None
    """Attempts in all, those whose process was lost included. None: 3, or `retries` + 1 where that is more."""
    retry_delay: float = 1
    """Seconds before the second attempt; twice as long before each one after it, up to five minutes."""
    max_running: int | None = None
    """How many tasks of this kind may run at once; None: as many as their lane takes."""
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
        self._refuse_options_that_cannot_work()
        # One instance serves every request: validating leaves nothing behind in it.
        serializer = self.payload()
        object.__setattr__(self, "_serializer", serializer)
        object.__setattr__(self, "_takes_input", len(serializer.fields) > 1)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.process)

    @property
    def most_attempts(self) -> int:
        return max(_MOST_ATTEMPTS, self.retries + 1) if self.max_attempts is None else self.max_attempts

    def _refuse_options_that_cannot_work(self) -> None:
        wrong = (
            (not callable(self.process), "`process` must be a function that takes a job and a payload"),
            (self.cpu_bound and self.is_async, "`cpu_bound` takes a plain function, not an `async def`"),
            (
                self.timeout is not None and not 0 < self.timeout <= _MOST_SECONDS,
                f"`timeout` must be more than 0 and at most {_MOST_SECONDS:,} seconds",
            ),
            (self.retries < 0, "`retries` must be 0 or more"),
            (self.max_attempts is not None and self.max_attempts < 1, "`max_attempts` must be 1 or more"),
            (not 0 <= self.retry_delay < inf, "`retry_delay` must be 0 seconds or more"),
            (self.max_running is not None and self.max_running < 1, "`max_running` must be 1 or more"),
        )
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise ImproperlyConfigured(f"The kind {self.name!r} cannot work: {sentence}.")

    def new_entry(self, data: Any, idempotency_key: str = "") -> TaskEntry:
        """A pending entry for what a client sent. Raises rest_framework's ValidationError."""
        valid = self._serializer.run_validation(data)
        return TaskEntry(
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
            # A form can bring a NaN or a number past 64 bits, which the fields let through.
            raise serializers.ValidationError(f"Send values that JSON can hold ({error}).") from error
        return kept
