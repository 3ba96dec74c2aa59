"""A server and a worker of Celery with its child processes, over a real broker."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import modes, servers
from tests.helpers import PROJECT, clean_environment, wait_for
from tests.servers import SERVE, Server, running

pytestmark = pytest.mark.skipif(
    not modes.HAS_BROKER, reason="CELERY_BROKER_URL is not set; tests/test_databases.py sets it"
)
LEASE_SECONDS = 1


@contextmanager
def worker(settings: dict[str, str], directory: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-m", "celery", "-A", "taskproject", "worker", "--concurrency=2", "--loglevel=INFO"]
    command.append(f"--hostname={uuid.uuid4()}@%h")  # RabbitMQ lets no two have one name
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, env=settings, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            for child in children(process.pid):
                os.kill(child, signal.SIGKILL)


def children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(child) for child in found.stdout.split()]


def settings_of_both(directory: Path) -> dict[str, str]:
    own = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "CELERY_BROKER_URL": os.environ["CELERY_BROKER_URL"],
        "TASK_LEASE_SECONDS": str(LEASE_SECONDS),
        "TASK_FILES_ROOT": str(directory / "files"),
        "TEST_QUEUE": f"tasks-test-{uuid.uuid4()}",
    }
    return servers.mode | own


class Pair(NamedTuple):
    """A server and a worker of Celery that runs its tasks."""

    server: Server
    celery: "subprocess.Popen[bytes]"


@contextmanager
def running_pair(directory: Path) -> Iterator[Pair]:
    settings = settings_of_both(directory)
    with (
        running(directory / "server", *SERVE, **settings) as server,
        worker(clean_environment(**servers.coverage | settings), directory) as celery,
    ):
        yield Pair(server, celery)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """For one test, which may kill them."""
    with running_pair(tmp_path) as pair:
        yield pair


@pytest.fixture(scope="module")
def lasting_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """For all tests that kill nobody."""
    with running_pair(tmp_path_factory.mktemp("celery")) as pair:
        yield pair


def is_started(server: Server, location: str) -> bool:
    return server.poll(location)["started_at"] is not None


def test_tasks_of_each_lane_are_run(lasting_pair: Pair) -> None:
    server = lasting_pair.server
    locations = [server.create(kind) for kind in ("task", "thread", "async", "process") for _ in range(3)]
    locations += [server.create("prime-count", limit=1000)]
    entries = [server.wait(location) for location in locations]
    assert {entry["status"] for entry in entries} == {"completed"}
    assert entries[-1]["result"] == {"count": 168}
    assert server.ask("GET", f"/{entries[0]['file_path']}").status == 200


def test_failures_retries_and_timeouts_are_as_without_celery(lasting_pair: Pair) -> None:
    server = lasting_pair.server
    retried = [server.create(f"{lane}-retry", do="fail-until", times=2) for lane in ("thread", "async")]
    failed = server.create("broken", how="raise")
    late = [server.create(f"{lane}-timeout", do="sleep", seconds=60) for lane in ("async", "process")]
    assert [(entry["status"], entry["attempt"]) for entry in map(server.wait, retried)] == [("completed", 2)] * 2
    assert server.wait(failed)["error"]["code"] == "exception"
    assert [entry["error"]["code"] for entry in map(server.wait, late)] == ["timeout"] * 2
    after = [server.create("thread") for _ in range(4)]
    assert {server.wait(location)["status"] for location in after} == {"completed"}


def test_a_cancel_stops_the_work(lasting_pair: Pair) -> None:
    server = lasting_pair.server
    locations = [server.create("process", do="sleep", seconds=600) for _ in range(2)]
    wait_for(lambda: all(is_started(server, location) for location in locations))
    after = server.create("thread")
    for location in locations:
        assert server.ask("DELETE", location).json["status"] == "cancelled"
    assert server.wait(after)["status"] == "completed"
    assert {server.poll(location)["status"] for location in locations} == {"cancelled"}


def test_another_process_takes_over_the_tasks_of_a_killed_one(pair: Pair) -> None:
    server, celery = pair
    location = server.create("thread", do="check", seconds=2)
    wait_for(lambda: is_started(server, location))
    for child in children(celery.pid):
        os.kill(child, signal.SIGKILL)
    wait_for(lambda: server.poll(location)["attempt"] == 2)
    assert server.wait(location)["status"] == "completed"


def test_a_worker_has_a_lower_priority_than_servers(lasting_pair: Pair) -> None:
    server, celery = lasting_pair
    server.wait(server.create("thread"))  # the worker has begun, then
    processes = [celery.pid, *children(celery.pid)]
    assert min(os.getpriority(os.PRIO_PROCESS, pid) for pid in processes) > os.getpriority(os.PRIO_PROCESS, 0)


def test_tasks_created_without_a_worker_run_once_there_is_one(tmp_path: Path) -> None:
    settings = settings_of_both(tmp_path)
    with running(tmp_path / "server", *SERVE, **settings) as server:
        locations = [server.create("thread") for _ in range(3)]
        assert {server.poll(location)["status"] for location in locations} == {"pending"}
        with worker(clean_environment(**settings), tmp_path):
            assert {server.wait(location)["status"] for location in locations} == {"completed"}


def test_a_stopped_worker_ends_its_running_tasks(pair: Pair) -> None:
    server, celery = pair
    location = server.create("thread", do="check", seconds=1)
    wait_for(lambda: is_started(server, location))
    celery.terminate()
    assert celery.wait(30) == 0
    last = server.poll(location)
    assert (last["status"], last["attempt"]) == ("completed", 1)
