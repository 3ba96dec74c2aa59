"""How a server ends: real processes and real signals."""

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
    """The server's process and all below it."""
    family, new = set[int](), {server.process.pid}
    while new:
        family |= new
        new = {pid for pid, parent in parents().items() if parent in new}
    return family


def parents() -> dict[int, int]:
    """The parent of each process of this machine."""
    if not Path("/proc/self/stat").exists():
        lines = subprocess.run(
            ["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        return {int(pid): int(parent) for pid, parent in map(str.split, lines)}
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # one that has ended meanwhile
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
def test_a_stop_lets_running_tasks_end_while_polls_go_on(
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
def test_what_waits_and_what_runs_too_long_is_interrupted_which_clients_are_told_and_nothing_is_left(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with running(tmp_path, *command, **SETTINGS) as server:
        threads = [server.create("thread", do="sleep", seconds=600) for _ in range(4)]
        others = [server.create(lane, do="sleep", seconds=600) for lane in ("async", "process")]
        in_flight = [server.create("async", do="stubborn", seconds=600) for _ in range(12)]
        wait_for(lambda: started(server, threads + others + in_flight))
        waiting = [server.create("thread") for _ in range(2)]
        known = f'"{server.poll(others[0])["version"]}"'
        family = processes_of(server)
        assert len(family) >= 2
        with ThreadPoolExecutor(5) as clients:
            held = [
                clients.submit(server.ask, "GET", threads[0], Prefer="wait=60"),
                clients.submit(server.ask, "GET", waiting[0], Prefer="wait=60"),
                clients.submit(server.ask, "GET", others[1], Accept="text/event-stream"),
                clients.submit(server.ask, "GET", f"{others[0]}?wait=60", **{"If-None-Match": known}),
                clients.submit(server.ask, "POST", "/create-thread", {"name": "x"}, Prefer="wait=60"),
            ]
            wait_for(lambda: b"tasks_waiters 5.0" in server.ask("GET", "/metrics").body)
            server.process.terminate()
            wait_for(lambda: is_stopping(server))
            assert all(b'"code":"interrupted"' in request.result(20).body for request in held)
        assert {server.wait(location)["error"]["code"] for location in waiting} == {"interrupted"}
        assert {server.wait(location)["error"]["code"] for location in threads + others + in_flight} == {"interrupted"}
        assert stopped(server) == 0
        wait_for(lambda: not alive(family))


@SERVERS
def test_control_c_at_a_terminal_reaches_all_processes_and_drains_as_well(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with running(tmp_path, *command, **SETTINGS | {"TASK_DRAIN_SECONDS": "20"}) as server:
        server.wait(server.create("process"))
        running_tasks = [server.create(lane, do="check", seconds=1) for lane in ("thread", "process")]
        wait_for(lambda: started(server, running_tasks))
        os.killpg(server.process.pid, signal.SIGINT)
        assert [server.wait(location)["status"] for location in running_tasks] == ["completed"] * 2
        assert stopped(server) == 0


def blocked_signals(server: Server) -> list[int]:
    """The mask of each thread of the server; one may end while its mask is about to be read."""
    masks = []
    for thread in Path(f"/proc/{server.process.pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            masks.append(int(thread.read_text().partition("SigBlk:")[2].split()[0], 16))
    return masks


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what signals a thread blocks")
def test_every_thread_leaves_the_signals_to_the_one_that_waits_for_them(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS) as server:
        for lane in ("thread", "async", "process"):
            server.wait(server.create(lane, do="report", times=10))
        blocked = blocked_signals(server)
        assert len(blocked) >= 5
        for number in (signal.SIGINT, signal.SIGTERM):
            assert sum(not mask & 1 << (number - 1) for mask in blocked) == 1


def test_a_second_interrupt_ends_it_at_once(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS | {"TASK_DRAIN_SECONDS": "600"}) as server:
        task = server.create("thread", do="sleep", seconds=600)
        wait_for(lambda: started(server, [task]))
        server.process.send_signal(signal.SIGINT)
        wait_for(lambda: is_stopping(server))
        server.process.send_signal(signal.SIGINT)
        assert stopped(server) == 1


@SERVERS
def test_an_idle_server_stops_at_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    with running(tmp_path, *command) as server:
        server.process.terminate()
        assert stopped(server) == 0


def test_worker_processes_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, *RUNSERVER, **SETTINGS) as server:
        task = server.create("process", do="sleep", seconds=600)
        wait_for(lambda: started(server, [task]))
        family = processes_of(server)
        server.process.kill()
        server.process.wait(20)
        wait_for(lambda: not alive(family))
