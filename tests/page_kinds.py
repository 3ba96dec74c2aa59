"""Realistic kinds of task for the tests of the page."""

import time
from pathlib import Path
from typing import Any

from rest_framework import serializers

from tasks.job import Job
from tasks.kinds.base import TaskKind, TaskPayload


class ReportPayload(TaskPayload):
    month = serializers.DateField(help_text="Any day of the month.")
    layout = serializers.ChoiceField([("a4", "A4, upright"), ("wide", "A4, across")], default="a4")
    copies = serializers.IntegerField(min_value=1, max_value=20, default=1)
    draft = serializers.BooleanField(default=False)
    recipients = serializers.ListField(child=serializers.EmailField(), required=False)


class ImportPayload(TaskPayload):
    text = serializers.CharField(help_text="The rows, one a line.")


class BackupPayload(TaskPayload):
    progress_file = serializers.CharField()


def write_report(job: Job, payload: dict[str, Any]) -> dict[str, Any]:
    job.save_file(f"Report for {payload['month']}\n", suffix=".txt")
    return {"pages": 12, "total": "48,210.50"}


def import_rows(job: Job, payload: dict[str, Any]) -> None:
    job.progress(40, "rows checked")
    raise ValueError(payload["text"])


def back_up(job: Job, payload: dict[str, Any]) -> dict[str, int]:
    """Report the progress from the file, as in `40 customers copied`, until it reaches 100."""
    last = ""
    while not last.startswith("100"):
        time.sleep(0.01)
        job.check()
        line = Path(payload["progress_file"]).read_text()
        if line not in {"", last}:
            percent, _, message = line.partition(" ")
            job.progress(int(percent), message)
            last = line
    return {"files": 1200}


def note(job: Job, payload: dict[str, Any]) -> str:
    return f"noted: {job.name}"


REPORT = TaskKind(name="report", payload=ReportPayload, process=write_report)
IMPORT = TaskKind(name="import", payload=ImportPayload, process=import_rows)
BACKUP = TaskKind(name="backup", payload=BackupPayload, process=back_up, max_running=1)
NOTE = TaskKind(name="note", process=note)
