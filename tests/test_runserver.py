"""The service as `manage.py runserver` serves it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.servers import RUNSERVER, Answer, Connection, Server, running

CLIENTS, CREATES = 16, 1000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run the service with a short queue, so that it is full at times."""
    settings = {
        "TASK_STEP_SECONDS": "0",
        "TASK_ASYNC_LIMIT": "4",
        "TASK_QUEUE_LIMIT": "100",
        "COVERAGE_PROCESS_CONFIG": "",
    }
    with running(tmp_path_factory.mktemp("runserver"), *RUNSERVER, **settings) as server:
        yield server
    assert "Traceback" not in server.log


def test_a_task_can_be_created_and_polled_and_its_file_downloaded(server: Server) -> None:
    created = server.ask("POST", "/create-task", {"name": "sample_name"})
    assert created.status == 201
    assert created.headers["Content-Type"] == "application/json"
    assert int(created.headers["Content-Length"]) == len(created.body)
    assert created.json["status"] == "pending"
    task_id = created.json["id"]
    assert created.headers["Location"] == f"/poll-task/{task_id}"
    entry = server.wait(created.headers["Location"])
    assert entry["status"] == "completed"
    assert entry["file_path"] == f"files/task_{task_id}.json"
    file = server.ask("GET", "/" + entry["file_path"])
    assert file.status == 200
    assert file.json == {"1": f"first step for {task_id}", "2": f"second step for {task_id}"}


def test_one_connection_serves_many_requests_including_refused_ones(server: Server) -> None:
    with Connection(server.port) as connection:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            assert connection.ask("POST", "/create-task", {"name": ""}).status == 400
            assert connection.ask("GET", "/nothing").status == 404
            assert connection.ask("HEAD", "/nothing").body == b""
            assert connection.ask("POST", "/create-prime-count", {"name": "x", "limit": 10}).status == 201
        assert connection.sock is first


def test_an_unknown_host_and_a_body_over_the_limit_are_refused(server: Server) -> None:
    unknown = server.ask("GET", "/schema", Host="evil.example")
    large = server.ask("POST", "/create-task", {"name": "x", "other": "y" * 100_000})
    for response, status in ((unknown, 400), (large, 413)):
        assert response.status == status
        assert response.headers["Content-Type"] == "application/problem+json"


def test_every_create_under_load_gets_a_response_and_every_accepted_task_completes(server: Server) -> None:
    def create(number: int) -> Answer:
        return server.ask("POST", "/create-task", {"name": f"load {number}"})

    with ThreadPoolExecutor(CLIENTS) as clients:
        created = list(clients.map(create, range(CREATES)))
        assert {response.status for response in created} <= {201, 503}
        assert all("Retry-After" in response.headers for response in created)
        locations = [response.headers["Location"] for response in created if response.status == 201]
        assert len(set(locations)) == len(locations) > 0
        assert {entry["status"] for entry in clients.map(server.wait, locations)} == {"completed"}
