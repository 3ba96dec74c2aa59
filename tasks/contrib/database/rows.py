"""Entries as rows, and back; and the statements that each task needs, for which the ORM takes far longer."""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import connection

from tasks.contrib.database.models import Task
from tasks.entry import Status, TaskEntry, TaskFailure

FIELDS = tuple(field.name for field in dataclasses.fields(TaskEntry))
_NO_JSON = ""
_TABLE = Task._meta.db_table  # noqa: SLF001 - Django documents it
_SELECT = f"SELECT {', '.join(FIELDS)} FROM {_TABLE} WHERE id = %s"  # noqa: S608 - names of this module


def columns(entry: TaskEntry) -> dict[str, Any]:
    """The values of the entry's columns."""
    values = {name: getattr(entry, name) for name in FIELDS}
    values["status"] = entry.status.value
    values["idempotency_key"] = entry.idempotency_key or None
    values["input"] = orjson.dumps(entry.input).decode()
    values["result"] = orjson.dumps(entry.result).decode()
    values["error"] = _NO_JSON if entry.error is None else orjson.dumps(entry.error).decode()
    return values


def entry_of(row: Iterable[Any]) -> TaskEntry:
    """The entry of a row that has FIELDS."""
    values = dict(zip(FIELDS, row, strict=True))
    values["status"] = Status(values["status"])
    values["idempotency_key"] = values["idempotency_key"] or ""
    values["input"] = orjson.loads(values["input"])
    values["result"] = orjson.loads(values["result"])
    values["error"] = TaskFailure(**orjson.loads(values["error"])) if values["error"] else None
    return TaskEntry(**values)


def select(task_id: UUID) -> TaskEntry | None:
    with connection.cursor() as cursor:
        cursor.execute(_SELECT, [_adapted(task_id)])
        row = cursor.fetchone()
    if row is None:
        return None
    return entry_of(row if connection.vendor == "postgresql" else map(_read, FIELDS, row))


def insert(values: Mapping[str, Any]) -> None:
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} ({names}) VALUES ({places})",  # noqa: S608 - names of this module
            [_adapted(value) for value in values.values()],
        )


def update(task_id: UUID, version: int, values: Mapping[str, Any]) -> bool:
    """Write the values where the row still has that version; False where it has not."""
    places = ", ".join(f"{name} = %s" for name in values)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {_TABLE} SET {places} WHERE id = %s AND version = %s",  # noqa: S608 - names of this module
            [*(_adapted(value) for value in values.values()), _adapted(task_id), version],
        )
        return bool(cursor.rowcount)


def _adapted(value: Any) -> Any:
    """As Django writes it: SQLite knows neither UUIDs nor moments."""
    if connection.vendor == "postgresql":
        return value
    if isinstance(value, UUID):
        return value.hex
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value


def _read(name: str, value: Any) -> Any:
    if name == "id":
        return UUID(value)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
