"""Kinds of task for the tests."""

import threading
import time
from pathlib import Path
from typing import Any

from rest_framework import serializers

from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload

# A `gate` or `filing` task runs until the test sets this.
gate = threading.Event()
# A coroutine sets this when it has cleaned up.
tidied = threading.Event()

BROKEN_RESULTS: dict[str, Any] = {
    "a set": {1, 2},
    "not a number": [float("nan")],
    "infinity": {"x": float("inf")},
    "a number past 64 bits": 2**70,
    "a key that is not a string": {1: "one"},
    "bytes": b"raw",
    "a lone surrogate": "\ud800",
}


class EchoPayload(TaskPayload):
    when = serializers.DateField(required=False, allow_null=True)
    amount = serializers.DecimalField(max_digits=8, decimal_places=2, required=False)
    tags = serializers.ListField(child=serializers.CharField(), required=False)
    anything = serializers.JSONField(required=False)


class FilingPayload(TaskPayload):
    suffix = serializers.CharField(default=".txt")


class BrokenPayload(TaskPayload):
    how = serializers.CharField()


class BlockedPayload(TaskPayload):
    """Validation creates the file `begun` in the folder, then blocks until there is a file `go`."""

    folder = serializers.CharField()

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        folder = Path(attrs["folder"])
        (folder / "begun").touch()
        deadline = time.monotonic() + 20
        while not (folder / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return attrs


def wait_at_gate(job: Job, payload: dict[str, Any]) -> str:
    job.progress(10, "at the gate")
    if not gate.wait(20):
        raise TimeoutError("Nobody opened the gate.")
    return "through"


def file_then_wait(job: Job, payload: dict[str, Any]) -> None:
    job.save_file("kept", suffix=payload["suffix"])
    job.progress(50, "filed")
    wait_at_gate(job, payload)


def echo(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
    return {"payload": payload, "name": job.name, "attempt": job.attempt}


def break_down(job: Job, payload: dict[str, Any]) -> Any:
    how = payload["how"]
    if how == "exit":
        raise SystemExit(3)
    if how in BROKEN_RESULTS:
        return BROKEN_RESULTS[how]
    raise ValueError(how)


GATE = TaskKind(name="gate", process=wait_at_gate)
FILING = TaskKind(name="filing", payload=FilingPayload, process=file_then_wait)
ECHO = TaskKind(name="echo", payload=EchoPayload, process=echo)
BLOCKED = TaskKind(name="blocked", payload=BlockedPayload, process=echo)
BROKEN = TaskKind(name="broken", payload=BrokenPayload, process=break_down)
