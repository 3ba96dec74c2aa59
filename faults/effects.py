"""The effects of the attempts: a line of JSON for each that began, was done, or killed its process."""

import json
import os
import time
from pathlib import Path
from typing import Any


def note(event: str, task_id: str, attempt: int) -> None:
    """Append a line in one write, so that lines of several processes do not mix."""
    line = {"at": time.time(), "event": event, "id": task_id, "attempt": attempt, "pid": os.getpid()}
    file = os.open(os.environ["FAULTS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Return the lines of such a file, in order."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
