"""`manage.py runtask`, as a person or a script runs it."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.client import parse_headers
from pathlib import Path
from typing import IO, Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tasks.client import ClientError, RemoteTask
from tasks.management.commands.runtask import Command, show_bar
from tests.helpers import PROJECT, clean_environment, wait_for
from tests.servers import RUNSERVER, Server, coverage, free_port, running

# In seconds: a machine that is busy takes long to start a process.
PATIENCE = 30


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("runtask")
    with running(directory, *RUNSERVER, DJANGO_SETTINGS_MODULE="tests.settings") as server:
        yield server
    assert "A request crashed" not in server.log


@dataclass(frozen=True)
class Run:
    process: "subprocess.Popen[bytes]"
    directory: Path

    @property
    def out(self) -> str:
        return (self.directory / "out").read_text()

    @property
    def err(self) -> str:
        return (self.directory / "err").read_text()

    def ends(self, code: int) -> None:
        assert self.process.wait(PATIENCE) == code, self.err
        assert "Traceback" not in self.err


@contextmanager
def started(
    directory: Path, port: int, *words: str, stderr: int | None = None, encoding: str = "utf-8"
) -> Iterator[Run]:
    """The command against the server at `port`; what it says goes to files."""
    with (directory / "out").open("wb") as out, (directory / "err").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runtask", "--url", f"http://127.0.0.1:{port}", *words],
            env=clean_environment(NO_PROXY="127.0.0.1", PYTHONIOENCODING=encoding, **coverage),
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err if stderr is None else stderr,
        )
    try:
        yield Run(process, directory)
    finally:
        process.kill()
        process.wait(10)


def ran(directory: Path, port: int, *words: str, code: int, encoding: str = "utf-8") -> Run:
    """The command, to its end with this exit code."""
    with started(directory, port, *words, encoding=encoding) as run:
        run.ends(code)
    return run


def location_of(run: Run) -> str:
    """Where to poll the task, as the command said when it had created it."""
    wait_for(lambda: "\n" in run.err, PATIENCE)
    line = run.err.splitlines()[0]
    assert line.startswith("created http://127.0.0.1:")
    return "/" + line.split("/", 3)[3]


def test_without_more_than_a_name_it_prints_where_the_result_file_is(server: Server, tmp_path: Path) -> None:
    run = ran(tmp_path, server.port, "sample name", code=0)
    entry = server.poll(location_of(run))
    assert (entry["kind"], entry["name"], entry["status"]) == ("task", "sample name", "completed")
    assert run.out == f"http://127.0.0.1:{server.port}/{entry['file_path']}\n"
    assert run.err.splitlines()[-1] == "completed"
    assert "%" not in run.err


def test_fields_that_are_json_are_sent_as_json_and_the_result_is_printed_to_be_read(
    server: Server, tmp_path: Path
) -> None:
    fields = ["--field", 'tags=["ä", "b=c"]', "--field", "when=2026-01-02", "--field", 'amount="1e2"']
    run = ran(tmp_path, server.port, "x", "--kind", "echo", *fields, code=0)
    assert '\n    "tags": [\n      "ä",\n' in run.out
    assert json.loads(run.out)["payload"] == {"when": "2026-01-02", "amount": "100.00", "tags": ["ä", "b=c"]}


def test_a_task_that_fails_is_told_with_its_code_and_detail_and_as_json_its_entry(
    server: Server, tmp_path: Path
) -> None:
    run = ran(tmp_path, server.port, "x", "--kind", "broken", "--field", 'how="5"', "--json", code=1)
    assert json.loads(run.out) == server.poll(location_of(run))
    assert run.out.count("\n") == 1
    assert run.err.endswith("failed with the code exception: ValueError: 5\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--kind", "prime-count"], "CommandError: Fix the fields listed in `errors`"),
        (["--field", "limit"], "error: argument --field: 'limit' gives no field a value: write it as in limit=1000"),
    ],
    ids=["by the server", "by the command"],
)
def test_what_is_refused_is_told_by_its_reason(server: Server, tmp_path: Path, words: list[str], says: str) -> None:
    run = ran(tmp_path, server.port, "x", *words, code=2)
    assert says in run.err
    assert run.out == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--field", "=5"], "'=5' gives no field a value"),
        (["--field", "name=y"], "The field 'name' has two values; give it one."),
        (["--field", "a=1", "--field", "a=2"], "The field 'a' has two values; give it one."),
        (["--url", "localhost:8000"], "give it as in http://127.0.0.1:8000"),
        (["--url", "http://.example"], "give it as in http://127.0.0.1:8000"),
        (["--url", "http://[::1"], "give it as in http://127.0.0.1:8000"),
    ],
)
def test_arguments_that_cannot_work_are_refused(words: list[str], hint: str) -> None:
    with pytest.raises(CommandError, match=re.escape(hint)):
        call_command("runtask", "x", *words)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000", 1000),
        ("hello", "hello"),
        ('"5"', "5"),
        ("", ""),
        ("a=b", "a=b"),
        ('{"a": [null]}', {"a": [None]}),
        ("NaN", "NaN"),
        ("1e999", "1e999"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_a_value_is_json_where_json_can_hold_it_and_text_elsewhere(text: str, value: Any) -> None:
    options = Command().create_parser("manage.py", "runtask").parse_args(["x", "--field", f"some={text}"])
    assert options.fields == [("some", value)]


def test_its_help_shows_examples_and_exit_codes() -> None:
    shown = Command().create_parser("manage.py", "runtask").format_help()
    assert '\n  manage.py runtask "my first task"\n' in shown
    assert "--kind prime-count --field limit=1000000 --json\n" in shown
    assert "130 interrupted by Control-C" in shown


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_cancels_the_task(server: Server, tmp_path: Path, number: int, code: int) -> None:
    with started(tmp_path, server.port, "x", "--kind", "thread", "--field", "do=check", "--field", "seconds=60") as run:
        location = location_of(run)
        run.process.send_signal(number)
        run.ends(code)
    assert server.poll(location)["status"] == "cancelled"
    assert run.err.endswith("\ncancelled\n")


def test_a_task_that_somebody_else_cancels_is_no_success(server: Server, tmp_path: Path) -> None:
    with started(tmp_path, server.port, "x", "--kind", "async", "--field", "do=check", "--field", "seconds=60") as run:
        server.ask("DELETE", location_of(run))
        run.ends(1)
    assert run.err.endswith("\ncancelled\nCommandError: The task was cancelled.\n")


def threads(process: "subprocess.Popen[bytes]") -> int:
    """How many it has, where the system tells."""
    folder = Path(f"/proc/{process.pid}/task")
    return len(list(folder.iterdir())) if folder.exists() else 1


def shown_at(terminal: int, until: bytes) -> bytes:
    """What the terminal is sent, to its end."""
    shown = b""
    while until not in shown:
        assert select.select([terminal], [], [], PATIENCE)[0], shown
        shown += os.read(terminal, 1000)
    return shown


def test_a_terminal_gets_a_bar_with_percent_and_message(server: Server, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    fields = ["--kind", "async", "--field", "do=report-then-sleep", "--field", "seconds=0.3"]
    with started(tmp_path, server.port, "x", *fields, stderr=theirs) as run:
        os.close(theirs)
        shown = shown_at(ours, until=b"at 59")
        assert threads(run.process) == 1
        shown += shown_at(ours, until=b"completed\r\n")
        run.ends(0)
    os.close(ours)
    assert "\r 59%|" in shown.decode()
    assert "█" in shown.decode()
    assert "| at 59" in shown.decode()
    assert "\r100%|" in shown.decode()
    assert run.out == "slept\n"


def test_a_message_stays_on_the_line_of_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    show_bar(iter([{"status": "pending", "progress": 1, "message": "two\n\x1b[2Jlines"}]))
    assert "| two  [2Jlines" in capsys.readouterr().err


# From here on: what a healthy server seldom does.


@dataclass(frozen=True)
class Request:
    line: str
    headers: Message
    body: bytes
    at: float = field(default_factory=time.monotonic)


# The client gets no answer, and the connection stays open until it hangs up.
SILENCE = None


@dataclass(frozen=True)
class Script:
    port: int
    requests: list[Request]

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]


@contextmanager
def scripted(*answers: bytes | None) -> Iterator[Script]:
    """A server that gives each request the next answer and hangs up; after the last one it is gone."""
    listener = socket.create_server(("127.0.0.1", 0))
    script = Script(listener.getsockname()[1], [])

    def serve() -> None:
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as sent:
                    connection.settimeout(PATIENCE)
                    script.requests.append(received(sent))
                    if answer is SILENCE:
                        connection.recv(1)
                    else:
                        connection.sendall(answer)

    listener.settimeout(PATIENCE)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield script
    finally:
        thread.join(2 * PATIENCE)
    assert len(script.requests) == len(answers)


def received(sent: IO[bytes]) -> Request:
    line = sent.readline().decode().rpartition(" ")[0]
    headers = parse_headers(sent)
    return Request(line, headers, sent.read(int(headers.get("Content-Length", 0))))


ID = "065c2ebb-d3e3-4bda-b8b5-61772b0ce048"
POLL = f"/poll-task/{ID}"


def entry(version: int, **changes: Any) -> bytes:
    """An entry as the server sends it, as far as the client reads it."""
    base = {"status": "pending", "progress": 0, "message": "", "result": None, "error": None, "file_path": ""}
    return json.dumps({"id": ID, "version": version, "started_at": None, **base, **changes}).encode()


def answer(status: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def refusal(status: str, detail: str, *headers: str) -> bytes:
    return answer(status, json.dumps({"detail": detail}).encode(), *headers, kind="application/problem+json")


def stream(*events: bytes) -> bytes:
    """Events that break off before their end."""
    body = b"".join(event + b"\n\n" for event in events)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"%x\r\n%s\r\n" % (len(body), body)
    )


def event(version: int, **changes: Any) -> bytes:
    return b"id: %d\ndata: %s" % (version, entry(version, **changes))


END = b"0\r\n\r\n"
RETRY = b"retry: 10"
CREATED = answer("201 Created", entry(1), f"Location: {POLL}", "Retry-After: 1")
COMPLETED = answer("200 OK", entry(9, status="completed", result="done"))


def test_a_full_server_and_a_lost_answer_are_asked_again_with_the_same_key(tmp_path: Path) -> None:
    full = refusal("503 Service Unavailable", "The task queue is full.", "Retry-After: 1")
    ended = stream(event(2, status="completed", result="done"))
    with scripted(full, b"", CREATED, ended) as script:
        run = ran(tmp_path, script.port, "x", "--field", "limit=1000", code=0)
    creates = script.requests[:3]
    assert {request.line for request in creates} == {"POST /create-task"}
    assert {request.body for request in creates} == {b'{"name": "x", "limit": 1000}'}
    assert len({request.headers["Idempotency-Key"] for request in creates}) == 1
    assert len(creates[0].headers["Idempotency-Key"]) == 36
    assert creates[1].at - creates[0].at >= 1
    assert "The task queue is full. Waiting 1 s" in run.err
    assert "The answer was lost (" in run.err
    assert run.out == "done\n"


def test_a_stream_that_breaks_off_is_resumed_and_one_that_closes_early_is_asked_for_again(tmp_path: Path) -> None:
    begun = {"started_at": "2026-01-01T00:00:00Z"}
    broken = stream(RETRY, b": still here", event(2, **begun), event(3, progress=50, **begun))
    ended = stream(event(9, status="completed", result="✓ done")) + END
    with scripted(CREATED, broken, stream(RETRY) + END, ended) as script:
        run = ran(tmp_path, script.port, "x", code=0, encoding="ascii")
    streams = script.requests[1:]
    assert {request.line for request in streams} == {f"GET {POLL}"}
    assert {request.headers["Accept"] for request in streams} == {"text/event-stream"}
    assert [request.headers["Last-Event-ID"] for request in streams] == ["1", "3", "3"]
    assert run.err.splitlines()[1:] == ["waiting for a worker", "running", "completed"]
    assert run.out == "\\u2713 done\n"


def test_a_task_whose_create_was_interrupted_is_cancelled_as_well(tmp_path: Path) -> None:
    cancelled = answer("200 OK", entry(2, status="cancelled"))
    with scripted(SILENCE, CREATED, cancelled) as script, started(tmp_path, script.port, "x", "--json") as run:
        wait_for(lambda: script.requests, PATIENCE)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert script.lines == ["POST /create-task", "POST /create-task", f"DELETE {POLL}"]
    assert len({request.headers["Idempotency-Key"] for request in script.requests[:2]}) == 1
    assert json.loads(run.out)["status"] == "cancelled"


def test_an_interrupt_that_comes_too_late_finds_the_task_as_it_ended(tmp_path: Path) -> None:
    conflict = refusal("409 Conflict", "The task has already ended.")
    with (
        scripted(CREATED, SILENCE, conflict, COMPLETED) as script,
        started(tmp_path, script.port, "x") as run,
    ):
        wait_for(lambda: len(script.requests) == 2, PATIENCE)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert script.lines[2:] == [f"DELETE {POLL}", f"GET {POLL}"]
    assert run.err.endswith("\ncompleted\n")
    assert run.out == "done\n"


def test_a_cancel_that_is_not_answered_is_told(tmp_path: Path) -> None:
    with scripted(CREATED, SILENCE) as script, started(tmp_path, script.port, "x") as run:
        wait_for(lambda: len(script.requests) == 2, PATIENCE)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert "The task may go on, for its cancel was not answered" in run.err


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def followed(port: int, kind: str = "task", **fields: Any) -> RemoteTask:
    """A task that the client has created and followed to its end."""
    said: list[str] = []
    with RemoteTask(f"http://127.0.0.1:{port}", kind, {"name": "x", **fields}, said.append) as task:
        task.create()
        for _ in task.follow():
            pass
    return task


def test_a_real_server_says_what_it_refuses(server: Server) -> None:
    with pytest.raises(ClientError, match=r"^Fix the fields .*\nlimit: This field is required\.$"):
        followed(server.port, "prime-count")
    with pytest.raises(ClientError, match=r"^There is no endpoint at this URL"):
        followed(server.port, "task?")


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    with pytest.raises(ClientError, match=r"^Cannot reach http://127.+ Start the server, or name another one by --url"):
        followed(free_port())


def test_a_server_that_is_lost_is_given_up_with_where_to_poll() -> None:
    with scripted(CREATED, stream(RETRY, event(2))) as script, pytest.raises(ClientError) as lost:
        followed(script.port)
    assert str(lost.value).startswith("The server does not answer any more (")
    assert str(lost.value).endswith(f"The task may go on; poll it at http://127.0.0.1:{script.port}{POLL}")


def test_polls_take_the_place_of_streams_that_bring_no_news() -> None:
    overloaded = refusal("502 Bad RSGIHandler", "Ask again.", "Retry-After: 0")
    pending = answer("200 OK", entry(1), "Retry-After: 0")
    with scripted(CREATED, stream(RETRY), overloaded, pending, COMPLETED) as script:
        assert followed(script.port).entry["result"] == "done"
    assert script.lines[1:] == [f"GET {POLL}"] * 4
    assert ["Last-Event-ID" in request.headers for request in script.requests[1:]] == [True, False, False, False]


def test_it_waits_as_long_as_it_is_told_and_longer_after_each_failure_and_then_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tasks.client.time.sleep", waits.append)
    overloaded = refusal("502 Bad RSGIHandler", "Ask again.", "Retry-After: 3")
    with (
        scripted(CREATED, stream(b"retry: 7000") + END, stream(b": here"), *[overloaded] * 4) as script,
        pytest.raises(ClientError, match=r"answered 502 Bad RSGIHandler\)\. The task may go on"),
    ):
        followed(script.port)
    assert waits == [0, 7, 7, 6, 12, 24]


def test_a_server_may_fail_again_and_again_as_long_as_there_is_news_between() -> None:
    failures = [stream(RETRY, event(version)) for version in range(2, 12)]
    with scripted(CREATED, *failures, stream(event(12, status="completed"))) as script:
        assert followed(script.port).entry["version"] == 12


def test_a_task_that_is_gone_meanwhile_is_told_by_the_problem() -> None:
    gone = refusal("410 Gone", "The task has expired.")
    with (
        scripted(CREATED, stream(RETRY, event(2)), gone, gone) as script,
        pytest.raises(ClientError, match=r"^The task has expired\.$"),
    ):
        followed(script.port)


def test_a_server_that_stays_full_is_given_up() -> None:
    full = refusal("503 Service Unavailable", "The task queue is full.", "Retry-After: 0")
    with scripted(*[full] * 5) as script, pytest.raises(ClientError, match=r"^The task queue is full\. Gave up\.$"):
        followed(script.port)


def test_a_server_that_asks_for_too_much_patience_is_given_up() -> None:
    full = refusal("503 Service Unavailable", "The task queue is full.", "Retry-After: 600")
    with scripted(full) as script, pytest.raises(ClientError, match=r"^The task queue is full\. Gave up\.$"):
        followed(script.port)


def test_what_is_wrong_within_a_field_is_told_with_its_place() -> None:
    problem = {"detail": "Fix the fields.", "errors": {"tags": {"0": ["Not a string."]}, "x": ["One.", "Two."]}}
    refused = answer("400 Bad Request", json.dumps(problem).encode(), kind="application/problem+json")
    sentences = "Fix the fields.\ntags.0: Not a string.\nx: One.\nx: Two."
    with scripted(refused) as script, pytest.raises(ClientError, match=f"^{re.escape(sentences)}$"):
        followed(script.port)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable"])
def test_another_server_is_found_out(status: str) -> None:
    with (
        scripted(answer(status, b"<html>", kind="text/html")) as script,
        pytest.raises(ClientError, match=r"Check --url: another server may be there\.$"),
    ):
        followed(script.port)
