"""A real server of the project, and its clients."""

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from types import MappingProxyType
from typing import Any


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


_PORT = free_port()


class Client:
    """A client with one persistent connection."""

    def __init__(self) -> None:
        self._connection = HTTPConnection("127.0.0.1", _PORT, timeout=60)
        self.requests = 0

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        self._connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json", "Accept": "*/*", **headers},
        )
        self.requests += 1
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in {200, 201}:
            raise RuntimeError(f"{method} {path}: {response.status} {content.decode()}")
        return json.loads(content) if path != "/metrics" else content.decode()

    def create(self, kind: str, headers: Mapping[str, str] = MappingProxyType({}), **fields: Any) -> str:
        entry = self.ask("POST", f"/create-{kind}", {"name": "benchmark", **fields}, **headers)
        return f"/poll-{kind}/{entry['id']}"

    def wait(self, path: str) -> Any:
        while (entry := self.ask("GET", path))["status"] == "pending":
            time.sleep(0.01)
        return entry


class Process:
    """Resources of the process that serves, as the system reports them."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    @property
    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def threads(self) -> int:
        return len(list((self._folder / "task").iterdir()))

    @property
    def files(self) -> int:
        return len(list((self._folder / "fd").iterdir()))


SERVE = ("serve", "--port", str(_PORT))
RUNSERVER = ("runserver", "--noreload", str(_PORT))


@contextmanager
def serving(*command: str, **settings: str) -> Iterator[Process]:
    """Run `manage.py serve`, or another command of `manage.py`, until the block ends."""
    with tempfile.TemporaryDirectory() as files:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "taskproject.settings",
            "TASK_KINDS": "benchmarks.kinds.SLEEP,benchmarks.kinds.BLOCK,benchmarks.kinds.NOTHING",
            "TASK_FILES_ROOT": files,
            "TASK_DRAIN_SECONDS": "0",
            **settings,
        }
        server = subprocess.Popen(
            [sys.executable, "manage.py", *(command or SERVE)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_responds()
            yield Process(server.pid if command else _worker_of(server))
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_it_responds() -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            Client().ask("GET", "/metrics")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _worker_of(server: "subprocess.Popen[bytes]") -> int:
    return int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]
