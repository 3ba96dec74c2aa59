"""The journal outside the service: a line of JSON for each response that the client got."""

import json
import threading
import time
from pathlib import Path
from typing import Any

_FIELDS = ("id", "status", "version", "attempt", "started_at", "finished_at")


class Journal:
    """A file of lines that are only appended. The lines of one task are in the order of their responses."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = path.open("a", buffering=1)

    def responded(self, event: str, http: int, seconds: float, entry: dict[str, Any]) -> None:
        """Note a response; `http` is 0 if there was none."""
        self._write({"event": event, "http": http, "seconds": round(seconds, 4)} | {k: entry.get(k) for k in _FIELDS})

    def killed(self, target: str, pids: list[int]) -> None:
        self._write({"event": "kill", "killed": target, "pids": pids})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        with self._lock:
            self._file.write(json.dumps({"at": time.time(), **line}) + "\n")
