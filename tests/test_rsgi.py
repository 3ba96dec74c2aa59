"""How both servers handle waiting clients, and requests that no library would send."""

import re
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles.finders import find

from tests.helpers import BROWSER, wait_for
from tests.servers import RUNSERVER, SERVE, Answer, Connection, Server, running

EVENTS = "text/event-stream"
MAX_BODY = 65_536
# The server checks every second whether a waiting client is still connected; the rest is for a slow machine.
DISCONNECT_SECONDS = 5
SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TASK_MAX_WAITERS": "1", "TASK_DRAIN_SECONDS": "0"}


@pytest.fixture(scope="module", params=[RUNSERVER, (*SERVE, "--threads", "1")], ids=["runserver", "serve"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server where one client may wait; `serve` has one thread for all requests."""
    with running(tmp_path_factory.mktemp("server"), *request.param, **SETTINGS) as server:
        yield server
    assert "Traceback" not in server.log


@pytest.fixture
def task(server: Server) -> Iterator[str]:
    """Start a task that runs until it is cancelled, and yield the URL to poll it."""
    location = server.create("async", do="sleep", seconds=600)
    wait_for(lambda: server.poll(location)["started_at"])
    yield location
    for entry in server.ask("GET", "/tasks?status=pending").json["results"]:
        assert server.ask("DELETE", f"/poll-{entry['kind']}/{entry['id']}").status in {200, 409}
    wait_for(lambda: waiters(server) == 0)


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as clients:
        yield clients


def waiters(server: Server) -> int:
    found = re.search(rb"^tasks_waiters (\d+)", server.ask("GET", "/metrics").body, re.MULTILINE)
    assert found
    return int(found[1])


def is_granted(server: Server, location: str) -> bool:
    return "Preference-Applied" in server.ask("GET", location, Prefer="wait=0").headers


def start_waiting(server: Server, clients: ThreadPoolExecutor, *request: Any, **headers: str) -> Future[Answer]:
    """Send a request, and return when it has begun to wait."""
    answer = clients.submit(server.ask, *request, **headers)
    wait_for(lambda: waiters(server) == 1)
    return answer


@contextmanager
def sent(server: Server, request: bytes) -> Iterator[socket.socket]:
    """Open a connection and send these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(request)
        yield connection


def received(connection: socket.socket, method: str = "GET") -> Answer:
    with HTTPResponse(connection, method=method) as response:
        response.begin()
        return Answer(response.status, {name.title(): value for name, value in response.getheaders()}, response.read())


@contextmanager
def lines(server: Server, request: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the lines of a stream of events, as they are sent."""
    with sent(server, request) as connection, HTTPResponse(connection) as response:
        response.begin()
        yield iter(response.readline, b"")


def exchange(server: Server, request: bytes) -> Answer:
    with sent(server, request) as connection:
        return received(connection)


def get(path: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    return b"\r\n".join([b"GET %s HTTP/%s" % (path, version), b"Host: localhost", *headers, b"", b""])


def post(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """Return a create of an `async` task with that body; `length` replaces its Content-Length."""
    head = [b"POST /create-async HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    content_length = b"Content-Length: %d" % (len(body) if length is None else length)
    return b"\r\n".join([*head, content_length, *headers, b"", body])


def assert_problem(answer: Answer, status: int, hint: str = "") -> None:
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert hint in answer.json["detail"]


# Waiting clients


def test_a_wait_is_answered_when_the_task_ends(server: Server, clients: ThreadPoolExecutor, task: str) -> None:
    answer = start_waiting(server, clients, "GET", task, Prefer="wait=60")
    assert server.ask("DELETE", task).status == 200
    ended = answer.result(timeout=20)
    assert ended.status == 200
    assert ended.headers["Preference-Applied"] == "wait=60"
    assert ended.json["status"] == "cancelled"
    assert ended.json == server.poll(task)


def test_a_create_that_waits_returns_the_completed_task(server: Server) -> None:
    with Connection(server.port) as connection:
        body = {"name": "x", "do": "sleep", "seconds": 0.2}
        created = connection.ask("POST", "/create-async", body, Prefer="wait=30", **{"Idempotency-Key": "short"})
        assert (created.status, created.json["status"]) == (201, "completed")
        assert created.headers["Preference-Applied"] == "wait=30"
        assert "Idempotent-Replayed" not in created.headers
        replayed = connection.ask("POST", "/create-async", body, Prefer="wait=30", **{"Idempotency-Key": "short"})
        assert replayed.headers["Idempotent-Replayed"] == "true"
        assert replayed.json == created.json == connection.ask("GET", created.headers["Location"]).json
        page = connection.ask("POST", "/create-async", body, Prefer="wait=30", Accept=BROWSER)
        assert page.headers["Content-Type"].startswith("text/html")
        assert b"completed" in page.body


def test_a_wait_that_times_out_returns_the_current_entry(server: Server, task: str) -> None:
    entry = server.poll(task)
    late = server.ask("GET", f"{task}?wait=1", **{"If-None-Match": f'"{entry["version"]}"'})
    assert (late.status, late.body) == (304, b"")
    assert late.headers["Etag"] == f'"{entry["version"]}"'
    assert "Content-Type" not in late.headers
    assert server.ask("GET", task, Prefer="wait=0").json == entry


def test_an_invalid_wait_is_refused_and_stores_nothing(server: Server) -> None:
    before = server.ask("GET", "/tasks").json["results"]
    assert_problem(server.ask("POST", "/create-async?wait=x", {"name": "x"}), 400, "?wait=30")
    assert server.ask("GET", "/tasks").json["results"] == before


@pytest.mark.parametrize(
    "request_of",
    [
        lambda task: get(task, b"Prefer: wait=60"),
        lambda _: post(b'{"name": "x", "do": "sleep", "seconds": 600}', b"Prefer: wait=60"),
        lambda task: get(task, b"Accept: text/event-stream"),
        lambda _: get(b"/tasks", b"Accept: text/event-stream"),
    ],
    ids=["poll", "create", "stream of a task", "stream of all"],
)
def test_a_client_that_disconnects_no_longer_counts_in_the_waiter_limit(
    server: Server, task: str, request_of: Any
) -> None:
    request = request_of(task.encode())
    with sent(server, request) as connection:
        wait_for(lambda: waiters(server) == 1)
        assert not is_granted(server, task)
        assert server.poll(task)["status"] == "pending"
        assert server.ask("GET", "/tasks").status == 200
        if request.startswith(b"POST"):
            # Close with a reset, as a crashed client does.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_for(lambda: is_granted(server, task), timeout=DISCONNECT_SECONDS)


def test_a_connection_stays_open_after_each_kind_of_response(server: Server, task: str) -> None:
    done = server.wait(server.create("async"))
    ended, known = f"/poll-async/{done['id']}", f'"{server.poll(task)["version"]}"'
    with Connection(server.port) as connection:
        connection.connect()
        first = connection.sock
        answers = [
            connection.ask("GET", task),
            connection.ask("GET", task, **{"If-None-Match": known}),
            connection.ask("GET", ended, Accept=EVENTS, **{"Last-Event-ID": str(done["version"])}),
            connection.ask("GET", ended, **{"If-None-Match": "*"}),
            connection.ask("HEAD", task, Prefer="wait=0"),
            connection.ask("HEAD", "/tasks", Accept=EVENTS),
            connection.ask("POST", "/create-async", {"name": "x"}, Prefer="wait=30"),
            connection.ask("GET", task, Prefer="wait=0"),
            connection.ask("OPTIONS", task),
            connection.ask("DELETE", ended),
            connection.ask("GET", "/nothing"),
            connection.ask("GET", task),
        ]
        assert connection.sock is first
    assert [answer.status for answer in answers] == [200, 304, 204, 304, 200, 200, 201, 200, 200, 409, 404, 200]
    assert [answer.body for answer in answers[1:6]] == [b""] * 5
    assert answers[0].json["id"] == answers[-1].json["id"]


# Streams


def test_a_stream_ends_with_its_task(server: Server, task: str) -> None:
    entry = server.poll(task)
    request = get(task.encode(), b"Accept: text/event-stream")
    with sent(server, request) as connection, HTTPResponse(connection) as stream:
        stream.begin()
        assert stream.headers["Content-Type"] == EVENTS
        head, blank, number, data = (stream.readline().decode() for _ in range(4))
        assert (head, blank, number) == ("retry: 1000\n", "\n", f"id: {entry['version']}\n")
        assert data.startswith(f'data: {{"id":"{entry["id"]}"')
        assert server.ask("DELETE", task).status == 200
        *_, last = stream.read().decode().removesuffix("\n\n").split("\n\n")
        assert '"status":"cancelled"' in last


def test_an_event_is_sent_while_the_stream_is_open(server: Server, task: str) -> None:
    with lines(server, get(task.encode(), b"Accept: text/event-stream")) as stream:
        assert next(stream) == b"retry: 1000\n"
        assert b'"pending"' in next(line for line in stream if line.startswith(b"data: "))
        server.ask("DELETE", task)
        assert b'"cancelled"' in next(line for line in stream if line.startswith(b"data: "))
        assert list(stream) == [b"\n"]


def test_the_stream_of_all_tasks_sends_a_new_task(server: Server) -> None:
    with lines(server, get(b"/tasks", b"Accept: text/event-stream")) as stream:
        assert next(stream) == b"retry: 1000\n"
        location = server.create("async")
        assert location.rpartition("/")[2].encode() in next(line for line in stream if line.startswith(b"data: "))
    wait_for(lambda: waiters(server) == 0, timeout=DISCONNECT_SECONDS)


def test_a_stream_that_cannot_be_opened_is_a_problem(server: Server) -> None:
    assert_problem(server.ask("GET", "/poll-async/x", Accept=EVENTS), 400, "UUID")
    assert_problem(server.ask("GET", "/poll-async/2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52", Accept=EVENTS), 404)


# Unusual requests


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/poll-async/%FF", 400), (b"/poll-async/%C3%A9", 400), ("/poll-async/é".encode(), 400),
        (b"/poll-async/%00", 400), (b"/poll-async/%zz", 400), (b"/poll-async/%", 400), (b"/%FF%FE", 404),
        (b"/static/../manage.py", 404), (b"/static/%2e%2e/%2e%2e/manage.py", 404), (b"/files/%2e%2e%2fmanage.py", 404),
        (b"/files/..%5cmanage.py", 404), (b"/x//y", 404), (b"/tasks?kind=%FF", 400),
        ("/tasks?kind=é".encode(), 400), ("/tasks?kind=ش".encode(), 400), (b"/tasks?cursor=%00", 400),
        (b"/tasks?status=&&&=;%26", 400), (b"/tasks?" + b"x" * 8000 + b"&kind=x", 400), (b"*", 404),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_an_unusual_url_is_a_client_error(server: Server, path: bytes, status: int) -> None:
    assert_problem(exchange(server, get(path)), status)


def test_a_header_may_be_sent_twice(server: Server, task: str) -> None:
    known = b'If-None-Match: "%d"' % server.poll(task)["version"]
    assert exchange(server, get(task.encode(), b'If-None-Match: "0"', known, b"X-Other: 1")).status == 304
    granted = exchange(server, get(task.encode(), b"Prefer: respond-async", b"Prefer: wait=0"))
    assert granted.headers["Preference-Applied"] == "wait=0"
    assert_problem(exchange(server, get(b"/tasks", b"Host: evil.example")), 400, "ALLOWED_HOSTS")


def test_a_header_with_underscores_does_not_pass_for_one_with_hyphens(server: Server, task: str) -> None:
    assert exchange(server, get(task.encode(), b"If_None_Match: *")).status == 200
    body = b'{"name": "underscore"}'
    answers = [exchange(server, post(body, b"Idempotency_Key: same", b"Content_Length: 3")) for _ in range(2)]
    assert [answer.status for answer in answers] == [201, 201]
    assert answers[0].json["id"] != answers[1].json["id"]


@pytest.mark.parametrize("value", [b"caf\xe9", "café".encode(), b'"\xff"', b"", b"a\tb"], ids=repr)
def test_an_invalid_key_is_refused_and_nothing_is_stored(server: Server, value: bytes) -> None:
    before = server.ask("GET", "/tasks").json["results"]
    assert_problem(exchange(server, post(b'{"name": "x"}', b"Idempotency-Key: " + value)), 400, "Idempotency-Key")
    assert server.ask("GET", "/tasks").json["results"] == before


def test_other_headers_may_contain_any_bytes(server: Server, task: str) -> None:
    polled = exchange(server, get(task.encode(), b"Prefer: wait=\xff", b"If-None-Match: \xe9", b"X-Other: \xff\xfe"))
    assert polled.status == 200
    assert "Preference-Applied" not in polled.headers
    assert_problem(exchange(server, get(task.encode(), b"Accept: \xff")), 406)


# Bodies


def body_of(size: int) -> bytes:
    body = b'{"name": "large", "other": ""}'
    return body.replace(b'""', b'"%s"') % (b"x" * (size - len(body)))


@pytest.mark.parametrize("size", [0, MAX_BODY, MAX_BODY + 1, 1_000_000])
def test_a_body_is_refused_when_it_is_empty_or_over_the_limit(server: Server, size: int) -> None:
    answer = exchange(server, post(body_of(size) if size else b""))
    if size == MAX_BODY:
        assert answer.status == 201
    else:
        assert_problem(answer, 413 if size else 400, str(MAX_BODY) if size else "")


def test_a_client_that_does_not_send_its_body_blocks_no_other_client(server: Server) -> None:
    request = post(b'{"name": "x", ', length=100)
    with sent(server, request), sent(server, request), sent(server, request), sent(server, get(b"/tasks")[:-2]):
        assert server.wait(server.create("async"))["status"] == "completed"
    with sent(server, request) as connection:
        connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while connection.recv(MAX_BODY):
                pass
    assert server.wait(server.create("async"))["status"] == "completed"


def test_a_client_that_expects_100_continue_gets_it(server: Server) -> None:
    head, _, body = post(b'{"name": "x"}', b"Expect: 100-continue").partition(b"\r\n\r\n")
    with sent(server, head + b"\r\n\r\n") as connection:
        assert connection.recv(MAX_BODY) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert received(connection).status == 201


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    for length in (MAX_BODY + 1, 10**10):
        with sent(server, post(b"", b"Expect: 100-continue", length=length)) as connection:
            assert_problem(received(connection), 413, str(MAX_BODY))


@pytest.mark.parametrize("length", [b"x", b"-5", b"13, 13", b"9" * 5000, b""])
def test_an_invalid_content_length_is_refused(server: Server, length: bytes) -> None:
    request = post(b'{"name": "x"}').replace(b"Content-Length: 13", b"Content-Length: " + length)
    assert exchange(server, request).status == 400


# Whole files, and the methods and versions of HTTP


def test_a_large_file_is_sent_unchanged(server: Server) -> None:
    path = find("rest_framework/css/bootstrap.min.css")
    assert isinstance(path, str)
    content, url = Path(path).read_bytes(), "/static/rest_framework/css/bootstrap.min.css"
    assert len(content) > MAX_BODY
    whole = server.ask("GET", url)
    assert whole.body == content
    head = server.ask("HEAD", url)
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(content)))
    part = server.ask("GET", url, Range="bytes=70000-70009")
    assert (part.status, part.body) == (206, content[70_000:70_010])
    known = server.ask("GET", url, **{"If-Modified-Since": whole.headers["Last-Modified"]})
    assert (known.status, known.body) == (304, b"")


def test_a_result_file_is_sent_unchanged(server: Server) -> None:
    entry = server.wait(server.create("thread", do="save", name="ěšč 🧪"))
    for _ in range(2):
        assert server.ask("GET", f"/{entry['file_path']}").body == "written by ěšč 🧪".encode()
    head = server.ask("HEAD", f"/{entry['file_path']}")
    assert (head.status, head.body) == (200, b"")


@pytest.mark.parametrize("path", ["/tasks", "/metrics", "/schema", "{task}"])
def test_a_head_response_has_the_headers_of_the_get_response(server: Server, task: str, path: str) -> None:
    answers = [server.ask(method, path.format(task=task)) for method in ("GET", "HEAD")]
    assert answers[1].body == b""
    names = {"Content-Type", "Etag", "Cache-Control", "Allow", "Vary"}
    one, other = ({name: answer.headers.get(name) for name in names} for answer in answers)
    assert one == other


@pytest.mark.parametrize("path", ["/create-async", "/tasks", "{task}"])
def test_an_options_request_describes_its_endpoint(server: Server, task: str, path: str) -> None:
    answer = server.ask("OPTIONS", path.format(task=task))
    assert answer.status == 200
    assert answer.json["renders"][0] == "application/json"


def test_an_http_1_0_client_is_served(server: Server, task: str) -> None:
    polled = exchange(server, get(task.encode(), version=b"1.0"))
    assert polled.json["id"] == server.poll(task)["id"]
    with sent(server, b"GET %s HTTP/1.0\r\n\r\n" % task.encode()) as connection:
        assert received(connection).status == 200
    location = server.create("async", do="sleep", seconds=0.3)
    with sent(server, get(location.encode(), b"Accept: text/event-stream", version=b"1.0")) as connection:
        stream = received(connection)
    assert "Transfer-Encoding" not in stream.headers
    assert b'"status":"completed"' in stream.body
