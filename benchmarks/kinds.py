"""Kinds of task that do as little as possible, so that the benchmarks measure the service."""

import asyncio
import time
from typing import Any

from rest_framework import serializers

from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload


class SleepPayload(TaskPayload):
    seconds = serializers.FloatField(min_value=0)


async def sleep(job: Job, payload: dict[str, Any]) -> None:
    await asyncio.sleep(payload["seconds"])


def nothing(job: Job, payload: dict[str, Any]) -> None:
    """Return immediately."""


def return_name(job: Job, payload: dict[str, Any]) -> dict[str, str]:
    return {"name": job.name}


def block(job: Job, payload: dict[str, Any]) -> None:
    """Occupy a thread for a moment."""
    time.sleep(0.2)


SLEEP = TaskKind(name="sleep", payload=SleepPayload, process=sleep)
BLOCK = TaskKind(name="block", process=block)
NOTHING = TaskKind(name="nothing", process=nothing)
RETURN = TaskKind(name="return", process=return_name)
