"""Entries as rows, and back."""

import dataclasses
from typing import Any

import orjson

from tasks.entry import Status, TaskEntry, TaskFailure

_NO_JSON = ""
FIELDS = tuple(field.name for field in dataclasses.fields(TaskEntry))


def columns(entry: TaskEntry) -> dict[str, Any]:
    """The values of the entry's columns."""
    values = {name: getattr(entry, name) for name in FIELDS}
    values["status"] = entry.status.value
    values["idempotency_key"] = entry.idempotency_key or None
    values["input"] = orjson.dumps(entry.input).decode()
    values["result"] = orjson.dumps(entry.result).decode()
    values["error"] = _NO_JSON if entry.error is None else orjson.dumps(entry.error).decode()
    return values


def entry_of(row: tuple[Any, ...]) -> TaskEntry:
    """The entry of a row that has FIELDS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["status"] = Status(values["status"])
    values["idempotency_key"] = values["idempotency_key"] or ""
    values["input"] = orjson.loads(values["input"])
    values["result"] = orjson.loads(values["result"])
    values["error"] = TaskFailure(**orjson.loads(values["error"])) if values["error"] else None
    return TaskEntry(**values)
