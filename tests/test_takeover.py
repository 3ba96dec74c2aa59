"""Several server processes on one database: each serves all tasks, and takes over those of a dead one."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import modes
from tests.helpers import wait_for
from tests.servers import SERVE, Server, running

pytestmark = [modes.in_a_database, modes.in_lanes]
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TASK_LEASE_SECONDS": "1", "TASK_DRAIN_SECONDS": "1"}


@contextmanager
def serving(directory: Path, name: str, *options: str, **settings: str) -> Iterator[Server]:
    files = {"TASK_FILES_ROOT": str(directory / "files")}
    with running(directory / name, *SERVE, *options, **SETTINGS | files | settings) as server:
        yield server


def kill(server: Server) -> None:
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()


def is_started(server: Server, location: str) -> bool:
    return server.poll(location)["started_at"] is not None


def restarted(server: Server, location: str) -> Any:
    try:
        return wait_for(lambda: (now := server.poll(location))["attempt"] == 2 and now)
    except AssertionError as error:
        raise AssertionError(server.poll(location), server.log) from error


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers for one test, which may kill them."""
    with serving(tmp_path, "one") as one, serving(tmp_path, "other") as other:
        yield one, other


@pytest.fixture(scope="module")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """Two servers for all tests that kill nobody."""
    directory = tmp_path_factory.mktemp("servers")
    with serving(directory, "one") as one, serving(directory, "other") as other:
        yield one, other


def test_several_workers_of_one_server_share_all_tasks(tmp_path: Path) -> None:
    with serving(tmp_path, "one", "--workers", "2") as server:
        locations = [server.create(kind) for _ in range(10) for kind in ("task", "thread", "async")]
        assert {server.wait(location)["status"] for location in locations} == {"completed"}
        file_path = server.poll(locations[0])["file_path"]
        assert server.ask("GET", f"/{file_path}").status == 200


def test_any_server_serves_polls_waits_and_streams_of_any_task(lasting_pair: tuple[Server, Server]) -> None:
    one, other = lasting_pair
    location = one.create("thread", do="check", seconds=1)
    with ThreadPoolExecutor(2) as clients:
        waits = clients.submit(other.ask, "GET", location, Prefer="wait=20")
        follows = clients.submit(other.ask, "GET", location, Accept="text/event-stream")
        assert waits.result().json["status"] == "completed"
        assert b'"status":"completed"' in follows.result().body
    assert other.poll(location) == one.poll(location)


def test_a_cancel_at_any_server_stops_the_work_at_another(lasting_pair: tuple[Server, Server]) -> None:
    one, other = lasting_pair
    locations = [one.create(kind, do="sleep", seconds=600) for kind in ("async", "process")]
    wait_for(lambda: all(is_started(other, location) for location in locations))
    for location in locations:
        assert other.ask("DELETE", location).json["status"] == "cancelled"
    wait_for(lambda: b'tasks_running{lane="async"} 0.0' in one.ask("GET", "/metrics").body)
    wait_for(lambda: b'tasks_running{lane="processes"} 0.0' in one.ask("GET", "/metrics").body)


def test_an_idempotency_key_is_known_at_every_server(lasting_pair: tuple[Server, Server]) -> None:
    answers = [
        server.ask("POST", "/create-task", {"name": "once"}, **{"Idempotency-Key": "key"})
        for server in lasting_pair * 2
    ]
    assert [answer.status for answer in answers] == [201] * 4
    assert len({answer.json["id"] for answer in answers}) == 1


def test_another_server_takes_over_the_tasks_of_a_killed_one(pair: tuple[Server, Server]) -> None:
    one, other = pair
    started = [one.create(kind, do="check", seconds=600) for kind in ("thread", "async", "process", "thread-single")]
    wait_for(lambda: all(is_started(other, location) for location in started))
    waiting = one.create("thread-single")
    kill(one)
    taken_over = [restarted(other, location) for location in started]
    assert {entry["status"] for entry in taken_over} == {"pending"}
    for location in started:
        assert other.ask("DELETE", location).status == 200
    assert other.wait(waiting)["status"] == "completed"
    assert other.poll(waiting)["attempt"] == 1


def test_the_next_start_takes_over_the_tasks_of_a_killed_server(tmp_path: Path) -> None:
    with serving(tmp_path, "first") as server:
        location = server.create("thread", do="check", seconds=1)
        wait_for(lambda: is_started(server, location))
        kill(server)
    with serving(tmp_path, "second") as server:
        last = server.wait(location)
    assert (last["status"], last["attempt"]) == ("completed", 2)


def test_a_stop_leaves_unfinished_tasks_to_others(tmp_path: Path) -> None:
    with serving(tmp_path, "first") as server:
        locations = [server.create(f"{lane}-single", do="read-cancelled", seconds=600) for lane in ("thread", "async")]
        wait_for(lambda: all(is_started(server, location) for location in locations))
        waiting = server.create("thread-single")
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert "left to other processes" in server.log
    with serving(tmp_path, "second") as server:
        for location in locations:
            restarted(server, location)
        for location in locations:
            server.ask("DELETE", location)
        assert server.wait(waiting)["status"] == "completed"


def test_a_server_that_slept_past_its_lease_changes_nothing(pair: tuple[Server, Server]) -> None:
    one, other = pair
    location = one.create("thread", do="check", seconds=2)
    wait_for(lambda: is_started(other, location))
    os.killpg(one.process.pid, signal.SIGSTOP)
    try:
        last = other.wait(location)
        assert (last["status"], last["attempt"]) == ("completed", 2)
    finally:
        os.killpg(one.process.pid, signal.SIGCONT)
    wait_for(lambda: b'tasks_running{lane="threads"} 0.0' in one.ask("GET", "/metrics").body)
    assert one.poll(location) == other.poll(location) == last


def test_a_live_server_is_live_and_ready(lasting_pair: tuple[Server, Server]) -> None:
    one, _ = lasting_pair
    assert one.ask("GET", "/healthz").json == {"status": "live"}
    assert one.ask("GET", "/readyz").json == {"status": "ready"}
