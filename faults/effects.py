"""What the processes of the service leave behind: a line for each attempt that began, was done, or killed itself."""

import json
import os
import time
from pathlib import Path
from typing import Any


def note(what: str, task_id: str, attempt: int) -> None:
    """Append a line, in one write, so that those of several processes do not mix."""
    line = {"at": time.time(), "what": what, "id": task_id, "attempt": attempt, "pid": os.getpid()}
    file = os.open(os.environ["FAULTS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(file, json.dumps(line).encode() + b"\n")
    os.close(file)


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of such a file, in their order."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
