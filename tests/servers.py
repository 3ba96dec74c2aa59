"""The service in a process of its own, over real sockets."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

from tests.helpers import PROJECT, clean_environment, wait_for

# The variables with which a server measures its coverage; conftest.py fills it.
coverage: dict[str, str] = {}
# The variables of the mode in which a server runs; conftest.py fills it.
mode: dict[str, str] = {}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Connection(HTTPConnection):
    """One connection to the service, kept open from request to request."""

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        encoded = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json", "Accept": "*/*", **headers} if encoded else headers
        self.request(method, path, encoded, headers)
        response = self.getresponse()
        return Answer(response.status, {name.title(): value for name, value in response.getheaders()}, response.read())


@dataclass(frozen=True)
class Server:
    process: "subprocess.Popen[bytes]"
    port: int
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask over a connection for this one request, as curl does."""
        with Connection(self.port) as connection:
            return connection.ask(method, path, body, **headers)

    def create(self, kind: str, **fields: Any) -> str:
        """Create a task that must be accepted; return where to poll it."""
        created = self.ask("POST", f"/create-{kind}", {"name": "sample_name", **fields})
        assert created.status == 201, created.body
        return created.headers["Location"]

    def poll(self, location: str) -> Any:
        answer = self.ask("GET", location)
        assert answer.status == 200, answer.body
        return answer.json

    def wait(self, location: str) -> Any:
        """Poll until the task has ended."""
        return wait_for(lambda: (now := self.poll(location))["status"] != "pending" and now, timeout=60)

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/metrics").status == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def running(
    directory: Path, *command: str, project: Path | str = PROJECT, at_port: str = "", **settings: str
) -> Iterator[Server]:
    """Run a server of the project until the block ends; `{port}` in the command is `at_port`, or else a free one."""
    port = int(at_port) if at_port else free_port()
    directory.mkdir(parents=True, exist_ok=True)
    log_file = directory / "log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *(word.format(port=port) for word in command)],
            env=clean_environment(**{"TASK_FILES_ROOT": str(directory / "files")} | coverage | mode | settings),
            cwd=project,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server = Server(process, port, log_file)
    try:
        wait_for(lambda: process.poll() is not None or server.answers(), timeout=30)
        assert process.poll() is None, server.log
        yield server
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


RUNSERVER = ("manage.py", "runserver", "--noreload", "127.0.0.1:{port}")
SERVE = ("manage.py", "serve", "--port", "{port}")
