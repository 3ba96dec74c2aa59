"""`manage.py serve`, and servers that run more processes than can work."""

import re
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command

from tasks.management.commands import serve
from tests import modes
from tests.helpers import PROJECT, clean_environment, wait_for
from tests.servers import SERVE, free_port, running


def test_serve_serves_tasks_files_metrics_and_static_files(tmp_path: Path) -> None:
    with running(tmp_path, *SERVE, "--threads", "2", TASK_STEP_SECONDS="0") as server:
        entry = server.wait(server.create("task"))
        assert entry["status"] == "completed"
        assert server.ask("GET", f"/{entry['file_path']}").json["1"] == f"first step for {entry['id']}"
        assert server.wait(server.create("prime-count", limit=1000))["result"] == {"count": 168}
        assert server.ask("GET", "/docs").status == 200
        assert (
            server.ask("GET", "/static/rest_framework/css/default.css").headers["Content-Type"].startswith("text/css")
        )
        assert b"tasks_entries 2.0" in server.ask("GET", "/metrics").body
    assert "Traceback" not in server.log


def test_a_port_that_another_server_uses_is_refused(tmp_path: Path) -> None:
    with running(tmp_path, *SERVE) as server:
        refused = subprocess.run(
            [sys.executable, PROJECT / "manage.py", "serve", "--port", str(server.port)],
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "Stop the program that listens there, or choose another" in refused.stderr


def test_a_body_without_its_length_is_refused(tmp_path: Path) -> None:
    head = (
        b"POST /create-task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
    )
    with running(tmp_path, *SERVE) as server, socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head + b'\r\n\r\nd\r\n{"name": "x"}\r\n0\r\n\r\n')
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 411
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert b"Content-Length" in answer.read()


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        pytest.param(
            ["--workers", "2"],
            "a poll may reach a process that does not know the task. Set DATABASE_URL",
            marks=modes.alone,
        ),
        (["--workers", "0"], "--workers is 0; set it to 1 or more."),
        (["--threads", "0"], "--threads is 0; set it to 1 or more."),
    ],
)
def test_options_that_cannot_work_are_refused(options: list[str], hint: str) -> None:
    with pytest.raises(CommandError, match=re.escape(hint)):
        call_command("serve", *options)


@modes.alone
def test_two_processes_of_one_server_that_share_no_registry_are_detected(tmp_path: Path) -> None:
    with running(tmp_path, "-m", "tests.prefork", "{port}", TASK_STEP_SECONDS="0") as server:
        answers = [server.ask("GET", "/metrics") for _ in range(40)]
        refused = next(answer for answer in answers if answer.status == 503)
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert "Run the server with one process, or set DATABASE_URL." in refused.json["detail"]
        answers = [server.ask("POST", "/create-task", {"name": "x"}) for _ in range(40)]
        assert {answer.status for answer in answers} == {201, 503}
        for location in [answer.headers["Location"] for answer in answers if answer.status == 201]:
            assert {server.ask("GET", location).status for _ in range(10)} <= {200, 503}
    assert "Run the server with one process, or set DATABASE_URL." in server.log


def test_two_servers_started_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    with running(tmp_path / "a", *SERVE) as first, running(tmp_path / "b", *SERVE) as second:
        for server in (first, second):
            assert server.wait(server.create("prime-count", limit=10))["result"] == {"count": 4}


@modes.alone
def test_polls_need_no_thread(tmp_path: Path) -> None:
    with (
        running(tmp_path, *SERVE, "--threads", "1", TASK_KINDS="tests.kinds.BLOCKED", TASK_STEP_SECONDS="0") as server,
        ThreadPoolExecutor(1) as client,
    ):
        location = server.create("task")
        blocks_the_thread = client.submit(server.create, "blocked", folder=str(tmp_path))
        wait_for((tmp_path / "begun").exists)
        assert server.wait(location)["status"] == "completed"
        assert not blocks_the_thread.done()
        (tmp_path / "go").touch()
        assert server.wait(blocks_the_thread.result())["status"] == "completed"


def arenas(pid: int) -> int:
    """The arenas that glibc has beside its first, each at a multiple of 64 MB and so long."""
    size = 64 * 1024 * 1024
    maps = re.findall(r"(?m)^(\w+)-(\w+) (\S+)", Path(f"/proc/{pid}/maps").read_text())
    parts = [(int(begin, 16), int(end, 16), rights) for begin, end, rights in maps]
    return sum(
        used == "rw-p" and unused == "---p" and start % size == 0 and (middle, start + size) == (begin, end)
        for (start, middle, used), (begin, end, unused) in pairwise(parts)
    )


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system has no /proc")
def test_no_thread_keeps_freed_memory_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, *SERVE, TASK_STEP_SECONDS="0") as server:
        for location in [server.create("task") for _ in range(8)]:
            server.wait(location)
        [worker] = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        assert arenas(int(worker)) == 0


def test_waiting_clients_leave_room_for_others(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 5000
    granian = Mock()
    monkeypatch.setattr(serve, "Granian", granian)
    call_command("serve", port=free_port(), stdout=Mock())
    assert granian.call_args.kwargs["backpressure"] >= 6000  # connections, before the next ones have to wait
