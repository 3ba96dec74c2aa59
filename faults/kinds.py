"""The kind of the load: it runs small steps, and notes each attempt in the file of effects."""

import time
from contextlib import suppress
from typing import Any

from rest_framework import serializers

from faults.effects import note
from tasks.exceptions import TaskError
from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload

_STEP_SECONDS = 0.05


class StepsPayload(TaskPayload):
    steps = serializers.IntegerField(min_value=1, max_value=1000)


def run_steps(job: Job, payload: dict[str, Any]) -> int:
    note("began", str(job.id), job.attempt)
    steps: int = payload["steps"]
    for step in range(1, steps + 1):
        time.sleep(_STEP_SECONDS)
        # Continue after the attempt is over, as careless code does, so that some ends are reported too late.
        with suppress(TaskError):
            job.progress(100 * step // steps)
    note("done", str(job.id), job.attempt)
    return steps


# Each kill uses up an attempt of each task it hits, and a fault kills far more often than real machines fail.
STEPS = TaskKind(name="steps", payload=StepsPayload, process=run_steps, max_attempts=1000)
