"""Kind `task`: two slow steps, each of which writes the task's result file."""

import asyncio
from typing import Any

import orjson
from django.conf import settings

from tasks.job import Job
from tasks.kinds.base import TaskKind


async def process(job: Job, payload: dict[str, Any]) -> None:
    steps: dict[str, str] = {}
    for number, ordinal in enumerate(("first", "second"), start=1):
        await asyncio.sleep(settings.TASK_STEP_SECONDS)
        steps[str(number)] = f"{ordinal} step for {job.id}"
        await asyncio.to_thread(job.save_file, orjson.dumps(steps), suffix=".json")
        job.progress(50 * number, f"{ordinal} step done")


TASK = TaskKind(name="task", process=process)
