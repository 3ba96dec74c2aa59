"""`manage.py runtask`, run by a person or by a script."""

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

# In seconds. A busy machine takes long to start a process.
TIMEOUT = 30


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
        assert self.process.wait(TIMEOUT) == code, self.err
        assert "Traceback" not in self.err


@contextmanager
def started(
    directory: Path, port: int, *words: str, stderr: int | None = None, encoding: str = "utf-8"
) -> Iterator[Run]:
    """Run the command against the server at `port`, with its output in files."""
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
    """Run the command to its end, and check its exit code."""
    with started(directory, port, *words, encoding=encoding) as run:
        run.ends(code)
    return run


def location_of(run: Run) -> str:
    """Return the path at which to poll the task, from the output of the command."""
    wait_for(lambda: "\n" in run.err, TIMEOUT)
    line = run.err.splitlines()[0]
    assert line.startswith("created http://127.0.0.1:")
    return "/" + line.split("/", 3)[3]


def test_given_only_a_name_it_prints_the_url_of_the_result_file(server: Server, tmp_path: Path) -> None:
    run = ran(tmp_path, server.port, "sample name", code=0)
    entry = server.poll(location_of(run))
    assert (entry["kind"], entry["name"], entry["status"]) == ("task", "sample name", "completed")
    assert run.out == f"http://127.0.0.1:{server.port}/{entry['file_path']}\n"
    assert run.err.splitlines()[-1] == "completed"
    assert "%" not in run.err


def test_json_fields_are_sent_as_json_and_the_result_is_printed_with_indentation(
    server: Server, tmp_path: Path
) -> None:
    fields = ["--field", 'tags=["ä", "b=c"]', "--field", "when=2026-01-02", "--field", 'amount="1e2"']
    run = ran(tmp_path, server.port, "x", "--kind", "echo", *fields, code=0)
    assert '\n    "tags": [\n      "ä",\n' in run.out
    assert json.loads(run.out)["payload"] == {"when": "2026-01-02", "amount": "100.00", "tags": ["ä", "b=c"]}


def test_a_failed_task_is_reported_with_its_code_and_detail_and_its_entry_as_json(
    server: Server, tmp_path: Path
) -> None:
    run = ran(tmp_path, server.port, "x", "--kind", "broken", "--field", 'how="5"', "--json", code=1)
    assert json.loads(run.out) == server.poll(location_of(run))
    assert run.out.count("\n") == 1
    assert run.err.endswith("failed with the code exception: ValueError: 5\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "prime-count"], "CommandError: Fix the fields listed in `errors`"),
        (
            ["--field", "limit"],
            "error: argument --field: 'limit' does not set a field: write NAME=VALUE, as in limit=1000",
        ),
    ],
    ids=["by the server", "by the command"],
)
def test_a_refusal_is_reported_with_its_reason(server: Server, tmp_path: Path, words: list[str], message: str) -> None:
    run = ran(tmp_path, server.port, "x", *words, code=2)
    assert message in run.err
    assert run.out == ""


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--field", "=5"], "'=5' does not set a field"),
        (["--field", "name=y"], "The field 'name' is set twice: set it once."),
        (["--field", "a=1", "--field", "a=2"], "The field 'a' is set twice: set it once."),
        (["--url", "localhost:8000"], "use one such as http://127.0.0.1:8000"),
        (["--url", "http://.example"], "use one such as http://127.0.0.1:8000"),
        (["--url", "http://[::1"], "use one such as http://127.0.0.1:8000"),
    ],
)
def test_invalid_arguments_are_refused(words: list[str], hint: str) -> None:
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
def test_a_value_is_parsed_as_json_if_it_is_valid_json_and_is_text_otherwise(text: str, value: Any) -> None:
    options = Command().create_parser("manage.py", "runtask").parse_args(["x", "--field", f"some={text}"])
    assert options.fields == [("some", value)]


def test_the_help_shows_examples_and_exit_codes() -> None:
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


def test_a_task_cancelled_by_another_client_is_not_a_success(server: Server, tmp_path: Path) -> None:
    with started(tmp_path, server.port, "x", "--kind", "async", "--field", "do=check", "--field", "seconds=60") as run:
        server.ask("DELETE", location_of(run))
        run.ends(1)
    assert run.err.endswith("\ncancelled\nCommandError: The task was cancelled.\n")


def threads(process: "subprocess.Popen[bytes]") -> int:
    """Return the number of threads of the process, or 1 if the system has no /proc."""
    folder = Path(f"/proc/{process.pid}/task")
    return len(list(folder.iterdir())) if folder.exists() else 1


def shown_at(terminal: int, until: bytes) -> bytes:
    """Read what the terminal shows, up to the text `until`."""
    shown = b""
    while until not in shown:
        assert select.select([terminal], [], [], TIMEOUT)[0], shown
        shown += os.read(terminal, 1000)
    return shown


def test_a_terminal_shows_a_bar_with_percentage_and_message(server: Server, tmp_path: Path) -> None:
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


def test_a_message_with_line_breaks_stays_on_the_line_of_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    show_bar(iter([{"status": "pending", "progress": 1, "message": "two\n\x1b[2Jlines"}]))
    assert "| two  [2Jlines" in capsys.readouterr().err


# The tests below need responses that a healthy server rarely sends.


@dataclass(frozen=True)
class Request:
    line: str
    headers: Message
    body: bytes
    at: float = field(default_factory=time.monotonic)


# The server sends no response and keeps the connection open until the client closes it.
NO_RESPONSE = None


@dataclass(frozen=True)
class Script:
    port: int
    requests: list[Request]

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]


@contextmanager
def scripted(*responses: bytes | None) -> Iterator[Script]:
    """Run a server that sends one response per connection and closes it. After the last response the server stops."""
    listener = socket.create_server(("127.0.0.1", 0))
    script = Script(listener.getsockname()[1], [])

    def serve() -> None:
        with listener:
            for response in responses:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as sent:
                    connection.settimeout(TIMEOUT)
                    script.requests.append(received(sent))
                    if response is NO_RESPONSE:
                        connection.recv(1)
                    else:
                        connection.sendall(response)

    listener.settimeout(TIMEOUT)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield script
    finally:
        thread.join(2 * TIMEOUT)
    assert len(script.requests) == len(responses)


def received(sent: IO[bytes]) -> Request:
    line = sent.readline().decode().rpartition(" ")[0]
    headers = parse_headers(sent)
    return Request(line, headers, sent.read(int(headers.get("Content-Length", 0))))


ID = "065c2ebb-d3e3-4bda-b8b5-61772b0ce048"
POLL = f"/poll-task/{ID}"


def entry(version: int, **changes: Any) -> bytes:
    """Return an entry with the members that the client reads."""
    base = {"status": "pending", "progress": 0, "message": "", "result": None, "error": None, "file_path": ""}
    return json.dumps({"id": ID, "version": version, "started_at": None, **base, **changes}).encode()


def response(status: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


def refusal(status: str, detail: str, *headers: str) -> bytes:
    return response(status, json.dumps({"detail": detail}).encode(), *headers, kind="application/problem+json")


def stream(*events: bytes) -> bytes:
    """Return a stream of events that breaks off."""
    body = b"".join(event + b"\n\n" for event in events)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"%x\r\n%s\r\n" % (len(body), body)
    )


def event(version: int, **changes: Any) -> bytes:
    return b"id: %d\ndata: %s" % (version, entry(version, **changes))


END = b"0\r\n\r\n"
RETRY = b"retry: 10"
CREATED = response("201 Created", entry(1), f"Location: {POLL}", "Retry-After: 1")
COMPLETED = response("200 OK", entry(9, status="completed", result="done"))


def test_a_create_is_sent_again_with_the_same_key_after_a_full_queue_and_a_missing_response(tmp_path: Path) -> None:
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
    assert "The task queue is full. Waiting 1 s before the next attempt." in run.err
    assert "No response arrived (" in run.err
    assert run.out == "done\n"


def test_a_stream_that_breaks_off_or_ends_early_is_resumed(tmp_path: Path) -> None:
    begun = {"started_at": "2026-01-01T00:00:00Z"}
    broken = stream(RETRY, b": keep-alive", event(2, **begun), event(3, progress=50, **begun))
    ended = stream(event(9, status="completed", result="✓ done")) + END
    with scripted(CREATED, broken, stream(RETRY) + END, ended) as script:
        run = ran(tmp_path, script.port, "x", code=0, encoding="ascii")
    streams = script.requests[1:]
    assert {request.line for request in streams} == {f"GET {POLL}"}
    assert {request.headers["Accept"] for request in streams} == {"text/event-stream"}
    assert [request.headers["Last-Event-ID"] for request in streams] == ["1", "3", "3"]
    assert run.err.splitlines()[1:] == ["waiting for a worker", "running", "completed"]
    assert run.out == "\\u2713 done\n"


def test_an_interrupt_during_the_create_cancels_the_task(tmp_path: Path) -> None:
    cancelled = response("200 OK", entry(2, status="cancelled"))
    with scripted(NO_RESPONSE, CREATED, cancelled) as script, started(tmp_path, script.port, "x", "--json") as run:
        wait_for(lambda: script.requests, TIMEOUT)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert script.lines == ["POST /create-task", "POST /create-task", f"DELETE {POLL}"]
    assert len({request.headers["Idempotency-Key"] for request in script.requests[:2]}) == 1
    assert json.loads(run.out)["status"] == "cancelled"


def test_an_interrupt_after_the_end_of_the_task_reports_how_it_ended(tmp_path: Path) -> None:
    conflict = refusal("409 Conflict", "The task has already ended.")
    with (
        scripted(CREATED, NO_RESPONSE, conflict, COMPLETED) as script,
        started(tmp_path, script.port, "x") as run,
    ):
        wait_for(lambda: len(script.requests) == 2, TIMEOUT)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert script.lines[2:] == [f"DELETE {POLL}", f"GET {POLL}"]
    assert run.err.endswith("\ncompleted\n")
    assert run.out == "done\n"


def test_a_cancel_without_a_response_is_reported(tmp_path: Path) -> None:
    with scripted(CREATED, NO_RESPONSE) as script, started(tmp_path, script.port, "x") as run:
        wait_for(lambda: len(script.requests) == 2, TIMEOUT)
        run.process.send_signal(signal.SIGINT)
        run.ends(130)
    assert "The cancel got no response (" in run.err


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def followed(port: int, kind: str = "task", **fields: Any) -> RemoteTask:
    """Create a task with the client, and follow it to its end."""
    reports: list[str] = []
    with RemoteTask(f"http://127.0.0.1:{port}", kind, {"name": "x", **fields}, reports.append) as task:
        task.create()
        for _ in task.follow():
            pass
    return task


def test_the_refusals_of_a_real_server_are_reported(server: Server) -> None:
    with pytest.raises(ClientError, match=r"^Fix the fields .*\nlimit: This field is required\.$"):
        followed(server.port, "prime-count")
    with pytest.raises(ClientError, match=r"^There is no endpoint at this URL"):
        followed(server.port, "task?")


def test_an_unreachable_server_is_reported_with_advice() -> None:
    with pytest.raises(
        ClientError, match=r"^Cannot reach http://127.+ Start the server, or name another one with --url"
    ):
        followed(free_port())


def test_a_server_that_stops_responding_is_reported_with_the_url_to_poll() -> None:
    with scripted(CREATED, stream(RETRY, event(2))) as script, pytest.raises(ClientError) as raised:
        followed(script.port)
    assert str(raised.value).startswith("The server no longer responds (")
    assert str(raised.value).endswith(f"The task may still be running. Poll it at http://127.0.0.1:{script.port}{POLL}")


def test_the_task_is_polled_after_a_stream_breaks_off_without_a_change() -> None:
    overloaded = refusal("502 Bad Gateway", "Try again.", "Retry-After: 0")
    pending = response("200 OK", entry(1), "Retry-After: 0")
    with scripted(CREATED, stream(RETRY), overloaded, pending, COMPLETED) as script:
        assert followed(script.port).entry["result"] == "done"
    assert script.lines[1:] == [f"GET {POLL}"] * 4
    assert ["Last-Event-ID" in request.headers for request in script.requests[1:]] == [True, False, False, False]


def test_waits_follow_the_server_and_double_after_each_failure_up_to_the_last_attempt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tasks.client.time.sleep", waits.append)
    overloaded = refusal("502 Bad Gateway", "Try again.", "Retry-After: 3")
    with (
        scripted(CREATED, stream(b"retry: 7000") + END, stream(b": keep-alive"), *[overloaded] * 4) as script,
        pytest.raises(ClientError, match=r"responded with 502 Bad Gateway\)\. The task may still be running\."),
    ):
        followed(script.port)
    assert waits == [0, 7, 7, 6, 12, 24]


def test_failures_with_changes_in_between_never_exhaust_the_attempts() -> None:
    failures = [stream(RETRY, event(version)) for version in range(2, 12)]
    with scripted(CREATED, *failures, stream(event(12, status="completed"))) as script:
        assert followed(script.port).entry["version"] == 12


def test_a_task_that_expires_while_it_is_followed_is_reported_by_the_problem() -> None:
    gone = refusal("410 Gone", "The task has expired.")
    with (
        scripted(CREATED, stream(RETRY, event(2)), gone, gone) as script,
        pytest.raises(ClientError, match=r"^The task has expired\.$"),
    ):
        followed(script.port)


def test_a_create_is_aborted_if_the_queue_stays_full() -> None:
    full = refusal("503 Service Unavailable", "The task queue is full.", "Retry-After: 0")
    with (
        scripted(*[full] * 5) as script,
        pytest.raises(ClientError, match=r"^The task queue is full\. No further attempt is made\.$"),
    ):
        followed(script.port)


def test_a_create_is_aborted_if_retry_after_is_too_long() -> None:
    full = refusal("503 Service Unavailable", "The task queue is full.", "Retry-After: 600")
    with (
        scripted(full) as script,
        pytest.raises(ClientError, match=r"^The task queue is full\. No further attempt is made\.$"),
    ):
        followed(script.port)


def test_an_error_within_a_field_is_reported_with_its_path() -> None:
    problem = {"detail": "Fix the fields.", "errors": {"tags": {"0": ["Not a string."]}, "x": ["One.", "Two."]}}
    refused = response("400 Bad Request", json.dumps(problem).encode(), kind="application/problem+json")
    sentences = "Fix the fields.\ntags.0: Not a string.\nx: One.\nx: Two."
    with scripted(refused) as script, pytest.raises(ClientError, match=f"^{re.escape(sentences)}$"):
        followed(script.port)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable"])
def test_a_response_of_another_kind_of_server_is_recognized(status: str) -> None:
    with (
        scripted(response(status, b"<html>", kind="text/html")) as script,
        pytest.raises(ClientError, match=r"Check --url: it may name another server\.$"),
    ):
        followed(script.port)
