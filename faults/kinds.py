"""The load's kind: it takes small steps, and leaves lines in a file that show each attempt there was."""

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


def take_steps(job: Job, payload: dict[str, Any]) -> int:
    note("began", str(job.id), job.attempt)
    steps: int = payload["steps"]
    for step in range(1, steps + 1):
        time.sleep(_STEP_SECONDS)
        # It goes on even where its attempt is over, as careless code does, so that ends come too late.
        with suppress(TaskError):
            job.progress(100 * step // steps)
    note("done", str(job.id), job.attempt)
    return steps


# Each kill uses up an attempt of what it hits, and a fault kills far oftener than anybody's machines would.
STEPS = TaskKind(name="steps", payload=StepsPayload, process=take_steps, max_attempts=1000)
