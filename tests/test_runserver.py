"""The service in a process of its own, over real sockets."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, Self

import pytest

from tests.helpers import PROJECT, clean_environment, wait_for

CLIENTS, CREATES = 16, 1000


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
        return Answer(response.status, dict(response.getheaders()), response.read())


def answers(port: int) -> bool:
    try:
        with Connection(port) as connection:
            return connection.ask("GET", "/schema").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running service with few workers, so that it is full at times."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    directory = tmp_path_factory.mktemp("runserver")
    settings = {"TASK_STEP_SECONDS": "0", "TASK_THREADS": "4", "TASK_QUEUE_LIMIT": "100"}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, PROJECT / "manage.py", "runserver", "--noreload", f"127.0.0.1:{number}"],
            env=clean_environment(TASK_FILES_ROOT=str(directory / "files"), **settings),
            stdout=log,
            stderr=log,
        )
        try:
            wait_for(lambda: process.poll() is not None or answers(number), timeout=30)
            assert process.poll() is None, (directory / "log").read_text()
            yield number
        finally:
            process.terminate()
            process.wait(30)
    assert "Traceback" not in (directory / "log").read_text()


def completed(connection: Connection, location: str) -> Any:
    def look() -> Any:
        answer = connection.ask("GET", location)
        assert answer.status == 200
        return answer.json["status"] != "pending" and answer.json

    return wait_for(look, timeout=60)


def test_a_task_is_created_polled_and_its_file_fetched(port: int) -> None:
    with Connection(port) as connection:
        created = connection.ask("POST", "/create-task", {"name": "sample_name"})
        assert created.status == 201
        assert created.headers["Content-Type"] == "application/json"
        assert int(created.headers["Content-Length"]) == len(created.body)
        assert created.json["status"] == "pending"
        task_id = created.json["id"]
        assert created.headers["Location"] == f"/poll-task/{task_id}"
        entry = completed(connection, created.headers["Location"])
        assert entry["status"] == "completed"
        assert entry["file_path"] == f"files/task_{task_id}.json"
        file = connection.ask("GET", "/" + entry["file_path"])
        assert file.status == 200
        assert file.json == {"1": f"first step for {task_id}", "2": f"second step for {task_id}"}


def test_one_connection_serves_many_requests_refusals_among_them(port: int) -> None:
    with Connection(port) as connection:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            assert connection.ask("POST", "/create-task", {"name": ""}).status == 400
            assert connection.ask("GET", "/nothing").status == 404
            assert connection.ask("HEAD", "/nothing").body == b""
            assert connection.ask("POST", "/create-prime-count", {"name": "x", "limit": 10}).status == 201
        assert connection.sock is first


def test_a_foreign_host_and_a_body_that_is_too_large_are_refused_over_the_wire(port: int) -> None:
    with Connection(port) as connection:
        foreign = connection.ask("GET", "/schema", Host="evil.example")
    with Connection(port) as connection:
        large = connection.ask("POST", "/create-task", {"name": "x", "other": "y" * 100_000})
    for answer, status in ((foreign, 400), (large, 413)):
        assert answer.status == status
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_every_create_under_load_is_answered_and_what_was_accepted_completes(port: int) -> None:
    def ask(method: str, path: str, body: Any = None) -> Answer:
        # A connection a request, as curl opens it: each answer on a kept one waits 40 ms for the client's ACK.
        with Connection(port) as connection:
            return connection.ask(method, path, body)

    def create(number: int) -> Answer:
        return ask("POST", "/create-task", {"name": f"load {number}"})

    def ended(location: str) -> str:
        return str(
            wait_for(lambda: (entry := ask("GET", location).json)["status"] != "pending" and entry["status"], 60)
        )

    with ThreadPoolExecutor(CLIENTS) as clients:
        created = list(clients.map(create, range(CREATES)))
        assert {answer.status for answer in created} <= {201, 503}
        assert all("Retry-After" in answer.headers for answer in created)
        locations = [answer.headers["Location"] for answer in created if answer.status == 201]
        assert len(set(locations)) == len(locations) > 0
        assert set(clients.map(ended, locations)) == {"completed"}
