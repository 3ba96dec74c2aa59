"""The outside journal: what the client was told, a line of JSON for each answer, kept apart from the service."""

import json
import threading
import time
from pathlib import Path
from typing import Any

_TOLD = ("id", "status", "version", "attempt", "started_at", "finished_at")


class Journal:
    """Lines are only ever appended. Those of one task are in the order in which the client learned them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", buffering=1)

    def answered(self, what: str, http: int, seconds: float, entry: dict[str, Any]) -> None:
        """Note an answer; `http` is 0 where none came."""
        self._write({"what": what, "http": http, "seconds": round(seconds, 4)} | {k: entry.get(k) for k in _TOLD})

    def killed(self, what: str, pids: list[int]) -> None:
        self._write({"what": "kill", "killed": what, "pids": pids})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), **line}) + "\n")
