"""How a server stops: real processes and real signals."""

import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests import modes
from tests.helpers import wait_for
from tests.servers import RUNSERVER, SERVE, Server, running

SERVERS = pytest.mark.parametrize("command", [RUNSERVER, SERVE], ids=["runserver", "serve"])
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TASK_THREADS": "4", "TASK_DRAIN_SECONDS": "1"}


def processes_of(server: Server) -> set[int]:
    """Return the server's process and all its descendants."""
    processes, new = set[int](), {server.process.pid}
    while new:
        processes |= new
        new = {pid for pid, parent in parents().items() if parent in new}
    return processes


def parents() -> dict[int, int]:
    """Return the parent of every process of this machine."""
    if not Path("/proc/self/stat").exists():
        lines = subprocess.run(
            ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        return {int(pid): int(parent) for pid, parent in map(str.split, lines)}
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # a process that has ended meanwhile
            found[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    return found


def alive(processes: set[int]) -> set[int]:
    def lives(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return {pid for pid in processes if lives(pid)}


def started(server: Server, locations: list[str]) -> bool:
    return all(server.poll(location)["started_at"] for location in locations)


def is_stopping(server: Server) -> bool:
    return server.ask("POST", "/create-async", {"name": "late"}).status == 503


def stopped(server: Server) -> int:
    return server.process.wait(20)


@pytest.mark.parametrize(
    ("command", "number"),
    [(RUNSERVER, signal.SIGINT), (SERVE, signal.SIGTERM)],
    ids=["runserver-SIGINT", "serve-SIGTERM"],
)
def test_a_stopping_server_lets_running_tasks_end_and_answers_polls(
    tmp_path: Path, command: tuple[str, ...], number: signal.Signals
) -> None:
    with running(tmp_path, *command, **SETTINGS | {"TASK_DRAIN_SECONDS": "20"}) as server:
        running_tasks = [server.create(lane, do="check", seconds=1) for lane in ("thread", "async", "process")]
        wait_for(lambda: started(server, running_tasks))
        last = server.create("thread", do="check", seconds=1.3)
        server.process.send_signal(number)
        wait_for(lambda: is_stopping(server))
        ended = [server.wait(location) for location in running_tasks]
        assert [entry["status"] for entry in ended] == ["completed"] * 3
        assert server.poll(last)["kind"] == "thread"
        assert stopped(server) == 0


@modes.alone
@SERVERS
def test_a_stop_interrupts_all_unfinished_tasks_informs_their_clients_and_leaves_no_process(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with running(tmp_path, *command, **SETTINGS) as server:
        threads = [server.create("thread", do="sleep", seconds=600) for _ in range(4)]
        others = [server.create(lane, do="sleep", seconds=600) for lane in ("async", "process")]
        in_flight = [server.create("async", do="stubborn", seconds=600) for _ in range(12)]
        wait_for(lambda: started(server, threads + others + in_flight))
        waiting = [server.create("thread") for _ in range(2)]
        known = f'"{server.poll(others[0])["version"]}"'
        processes = processes_of(server)
        assert len(processes) >= 2
        with ThreadPoolExecutor(5) as clients:
            waiting_requests = [
                clients.submit(server.ask, "GET", threads[0], Prefer="wait=60"),
                clients.submit(server.ask, "GET", waiting[0], Prefer="wait=60"),
                clients.submit(server.ask, "GET", others[1], Accept="text/event-stream"),
                clients.submit(server.ask, "GET", f"{others[0]}?wait=60", **{"If-None-Match": known}),
                clients.submit(server.ask, "POST", "/create-thread", {"name": "x"}, Prefer="wait=60"),
            ]
            wait_for(lambda: b"tasks_waiters 5.0" in server.ask("GET", "/metrics").body)
            server.process.terminate()
            wait_for(lambda: is_stopping(server))
            assert all(b'"code":"interrupted"' in request.result(20).body for request in waiting_requests)
        assert {server.wait(location)["error"]["code"] for location in waiting} == {"interrupted"}
        assert {server.wait(location)["error"]["code"] for location in threads + others + in_flight} == {"interrupted"}
        assert stopped(server) == 0
        wait_for(lambda: not alive(processes))


@SERVERS
def test_an_interrupt_of_the_whole_process_group_drains_the_server(tmp_path: Path, command: tuple[str, ...]) -> None:
    with running(tmp_path, *command, **SETTINGS | {"TASK_DRAIN_SECONDS": "20"}) as server:
        server.wait(server.create("process"))
        running_tasks = [server.create(lane, do="check", seconds=1) for lane in ("thread", "process")]
        wait_for(lambda: started(server, running_tasks))
        os.killpg(server.process.pid, signal.SIGINT)
        assert [server.wait(location)["status"] for location in running_tasks] == ["completed"] * 2
        assert stopped(server) == 0


def blocked_signals(server: Server) -> list[int]:
    """Return the signal mask of each thread of the server, except threads that end meanwhile."""
    masks = []
    for thread in Path(f"/proc/{server.process.pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            masks.append(int(thread.read_text().partition("SigBlk:")[2].split()[0], 16))
    return masks


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux shows which signals a thread blocks")
def test_every_thread_but_one_blocks_the_stop_signals(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS) as server:
        for lane in ("thread", "async", "process"):
            server.wait(server.create(lane, do="report", times=10))
        blocked = blocked_signals(server)
        assert len(blocked) >= 5
        for number in (signal.SIGINT, signal.SIGTERM):
            assert sum(not mask & 1 << (number - 1) for mask in blocked) == 1


def test_a_second_interrupt_ends_the_server_immediately(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS | {"TASK_DRAIN_SECONDS": "600"}) as server:
        task = server.create("thread", do="sleep", seconds=600)
        wait_for(lambda: started(server, [task]))
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: is_stopping(server))
        server.process.send_signal(signal.SIGINT)
        assert stopped(server) == 1


@SERVERS
def test_an_idle_server_stops_immediately(tmp_path: Path, command: tuple[str, ...]) -> None:
    with running(tmp_path, *command) as server:
        server.process.terminate()
        assert stopped(server) == 0


def test_worker_processes_end_when_their_server_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS) as server:
        task = server.create("process", do="sleep", seconds=600)
        wait_for(lambda: started(server, [task]))
        processes = processes_of(server)
        server.process.kill()
        server.process.wait(20)
        wait_for(lambda: not alive(processes))
