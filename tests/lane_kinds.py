"""Kinds of task that do what their payload says: one for each lane and option."""

import asyncio
import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

from rest_framework import serializers

from tasks.exceptions import PermanentFailure, StaleAttempt
from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload
from tests import kinds


class DoPayload(TaskPayload):
    do = serializers.CharField(default="return")
    seconds = serializers.FloatField(default=0)
    times = serializers.IntegerField(default=0)


def _act(job: Job, payload: dict[str, Any]) -> Any:  # noqa: C901, PLR0912 - a list of the actions
    """Do an action that needs no waiting, and so is the same in a function and in a coroutine."""
    match payload["do"]:
        case "return":
            return job.attempt
        case "report":
            for number in range(payload["times"]):
                job.progress(100 * number / payload["times"], f"step {number}")
            job.progress(99, "last step")
        case "report-and-raise":
            job.progress(70)
            job.progress(40, "fell back")
            raise ValueError("after the report")
        case "save":
            job.save_file("first", suffix=".txt")
            return job.save_file(f"written by {job.name}", suffix=".txt")
        case "fail-until":
            if job.attempt < payload["times"]:
                raise ValueError(f"attempt {job.attempt}")
            return job.attempt
        case "fail-at-gate":
            kinds.gate.wait(20)
            raise ValueError("at the gate")
        case "fail-for-good":
            raise PermanentFailure("It can never work.")
        case "exit":
            raise SystemExit(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit-process":
            os._exit(0)
        case "leave-thread":
            threading.Thread(target=_report_late, args=(job,), name="left-behind", daemon=True).start()
        case "mutate":
            payload["do"] = "changed"
    return None


def _report_late(job: Job) -> None:
    """Report progress after the code of the task has returned."""
    for _ in range(100):
        with suppress(StaleAttempt):
            job.progress(50, "late")
        time.sleep(0.005)


def work(job: Job, payload: dict[str, Any]) -> Any:  # noqa: C901 - a list of the actions
    deadline = time.monotonic() + payload["seconds"]
    match payload["do"]:
        case "sleep":
            signal_proof_sleep(payload["seconds"])
        case "check":
            while time.monotonic() < deadline:
                job.check()
                time.sleep(0.005)
        case "read-cancelled":
            while not job.cancelled and time.monotonic() < deadline:
                time.sleep(0.005)
        case "progress":
            while time.monotonic() < deadline:
                job.progress(1)
                time.sleep(0.005)
        case "report-then-sleep":
            for percent in range(60):
                job.progress(percent, f"at {percent}")
            signal_proof_sleep(payload["seconds"])
        case "save-then-sleep":
            job.save_file("half", suffix=".txt")
            signal_proof_sleep(payload["seconds"])
        case _:
            return _act(job, payload)
    return "slept"


def signal_proof_sleep(seconds: float) -> None:
    """Sleep like code that ignores every request to stop."""
    if threading.current_thread() is not threading.main_thread():
        kinds.gate.wait(seconds)  # set at the end of each test
    else:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(seconds)


async def awork(job: Job, payload: dict[str, Any]) -> Any:
    deadline = time.monotonic() + payload["seconds"]
    match payload["do"]:
        case "sleep":
            await asyncio.sleep(payload["seconds"])
        case "tidy":
            try:
                job.progress(1, "something to tidy")
                await asyncio.sleep(payload["seconds"])
            finally:
                await asyncio.sleep(0.01)
                kinds.tidied.set()
        case "stubborn":
            while time.monotonic() < deadline:
                try:
                    await asyncio.sleep(0.01)
                except asyncio.CancelledError:
                    continue
        case "check" | "progress" | "read-cancelled":
            await asyncio.sleep(payload["seconds"])
        case "report-then-sleep":
            for percent in range(60):
                job.progress(percent, f"at {percent}")
            await asyncio.sleep(payload["seconds"])
        case "save-then-sleep":
            await asyncio.to_thread(job.save_file, "half", suffix=".txt")
            await asyncio.sleep(payload["seconds"])
        case _:
            return _act(job, payload)
    return "slept"


_THREAD: dict[str, Any] = {"process": work, "payload": DoPayload}
_ASYNC: dict[str, Any] = {"process": awork, "payload": DoPayload}
_PROCESS: dict[str, Any] = {"process": work, "payload": DoPayload, "cpu_bound": True}
_TIMEOUT: dict[str, Any] = {"timeout": 0.3}
_RETRY: dict[str, Any] = {"retries": 2, "retry_delay": 0.05}
_SINGLE: dict[str, Any] = {"max_running": 1}

THREAD = TaskKind(name="thread", **_THREAD)
THREAD_TIMEOUT = TaskKind(name="thread-timeout", **_THREAD, **_TIMEOUT)
THREAD_RETRY = TaskKind(name="thread-retry", **_THREAD, **_RETRY)
THREAD_SINGLE = TaskKind(name="thread-single", **_THREAD, **_SINGLE)
THREAD_LATE_RETRY = TaskKind(name="thread-late-retry", **_THREAD, retries=1, retry_delay=60)
THREAD_TIMEOUT_RETRY = TaskKind(name="thread-timeout-retry", **_THREAD, **_TIMEOUT, retries=1, retry_delay=0)
ASYNC = TaskKind(name="async", **_ASYNC)
ASYNC_TIMEOUT = TaskKind(name="async-timeout", **_ASYNC, **_TIMEOUT)
ASYNC_RETRY = TaskKind(name="async-retry", **_ASYNC, **_RETRY)
ASYNC_SINGLE = TaskKind(name="async-single", **_ASYNC, **_SINGLE)
PROCESS = TaskKind(name="process", **_PROCESS)
PROCESS_TIMEOUT = TaskKind(name="process-timeout", **_PROCESS, **_TIMEOUT)
PROCESS_RETRY = TaskKind(name="process-retry", **_PROCESS, **_RETRY)
PROCESS_SINGLE = TaskKind(name="process-single", **_PROCESS, **_SINGLE)
PROCESS_TIMEOUT_RETRY = TaskKind(name="process-timeout-retry", **_PROCESS, **_TIMEOUT, retries=1, retry_delay=0)
