"""Streams of events as an EventSource reads them; test_rsgi.py tests the streams of real servers."""

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Self
from uuid import UUID

import pytest
from django.conf import LazySettings

from tasks import waiting
from tasks.dispatch import get_dispatcher
from tasks.registry import get_registry
from tasks.rest import events
from tests import kinds, modes
from tests.helpers import BROWSER, Api, assert_problem, stored, wait_for, wait_for_waiters

ACCEPT = "text/event-stream"
UNKNOWN = "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"


@pytest.fixture(autouse=True)
def _swift_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send keep-alive comments often, so that no test waits for long."""
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.2)


class Event(NamedTuple):
    kind: str
    id: int | None
    data: Any


class Stream:
    """The response as an EventSource reads it."""

    def __init__(self, answer: Any) -> None:
        assert answer.status_code == 200, answer.content
        assert answer["Content-Type"] == ACCEPT
        self.answer = answer
        self.retry = 0
        self.comments = 0
        self._chunks = iter(answer.streaming_content)
        self._events: deque[Event] = deque()
        self.read()
        assert self.retry

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.answer.close()

    def read(self) -> bool:
        """Read the next chunk, which consists of whole blocks; return False at the end."""
        chunk: bytes | None = next(self._chunks, None)
        if chunk is None:
            return False
        assert chunk.endswith(b"\n\n")
        for block in chunk.decode().removesuffix("\n\n").split("\n\n"):
            self._parse(block)
        return True

    def _parse(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, colon, value = line.partition(": ")
            assert colon
            assert name not in fields
            fields[name] = value
        self.retry = int(fields.pop("retry", self.retry))
        self.comments += fields.pop("", None) is not None
        if fields:
            version = int(fields["id"]) if "id" in fields else None
            self._events.append(Event(fields.get("event", "message"), version, json.loads(fields["data"])))

    def next(self) -> Event | None:
        """Return the next event; None at the end."""
        deadline = time.monotonic() + 20
        while not self._events:
            if not self.read():
                return None
            assert time.monotonic() < deadline, "No event was sent."
        return self._events.popleft()

    def rest(self) -> list[Event]:
        """Return all events until the end."""
        return list(iter(self.next, None))

    def entries(self, count: int) -> dict[str, dict[str, Any]]:
        """Read until events of `count` tasks have come; return the latest entry of each, by id."""
        seen: dict[str, dict[str, Any]] = {}
        while len(seen) < count:
            event = self.next()
            assert event is not None
            assert event.kind == "message"
            assert event.id == event.data["version"]
            seen[event.data["id"]] = event.data
        return seen


def path_of(entry: dict[str, Any]) -> str:
    return f"/poll-{entry['kind']}/{entry['id']}"


def stream(api: Api, entry: dict[str, Any], **headers: str) -> Stream:
    return Stream(api.get(path_of(entry), Accept=ACCEPT, **headers))


def stream_of_all(api: Api) -> Stream:
    return Stream(api.get("/tasks", Accept=ACCEPT))


def at_gate(api: Api) -> dict[str, Any]:
    """Create a task and wait until it has reached the gate; it changes no more until the gate opens."""
    entry = api.create("gate")
    wait_for(lambda: api.poll(entry)["message"])
    return api.poll(entry)


# One task


def test_a_stream_sends_the_entry_immediately_then_each_change_and_the_end_last(api: Api) -> None:
    entry = at_gate(api)
    with stream(api, entry) as task:
        assert task.retry == 1000
        assert task.next() == Event("message", entry["version"], entry)
        kinds.gate.set()
        *_, last = task.rest()
    assert last.data == api.poll(entry)
    assert last.data["status"] == "completed"
    assert last.id == last.data["version"]


def test_every_event_has_its_version_as_id_and_no_version_is_sent_twice(api: Api) -> None:
    entry = api.create("thread", do="report", times=1000)
    with stream(api, entry) as task:
        seen = task.rest()
    versions = [event.id for event in seen]
    assert versions == [event.data["version"] for event in seen]
    assert versions == sorted({version for version in versions if version is not None})
    assert seen[-1].data == api.poll(entry)
    assert all(event.data["status"] == "pending" for event in seen[:-1])


def open_gate(api: Api, entry: dict[str, Any]) -> None:
    kinds.gate.set()


def cancel(api: Api, entry: dict[str, Any]) -> None:
    assert api.delete(entry).status_code == 200


def drain(api: Api, entry: dict[str, Any]) -> None:
    get_dispatcher().drain(timeout=0)


@pytest.mark.parametrize(
    ("kind", "act", "status"),
    [
        ("gate", cancel, "cancelled"),
        pytest.param("gate", drain, "failed", marks=modes.alone),
        ("thread", open_gate, "failed"),
    ],
    ids=["cancelled", "interrupted", "failed"],
)
def test_a_stream_ends_however_its_task_ends(api: Api, kind: str, act: Callable[..., None], status: str) -> None:
    entry = api.create(kind, **({"do": "fail-at-gate"} if kind == "thread" else {}))
    wait_for(lambda: api.poll(entry)["started_at"])
    with stream(api, entry) as task:
        task.next()
        act(api, entry)
        *_, last = task.rest()
    assert last.data["status"] == status
    assert last.data == api.poll(entry)


def test_a_stream_continues_through_all_attempts(api: Api) -> None:
    entry = api.create("thread-retry", do="fail-until", times=3)
    with stream(api, entry) as task:
        seen = task.rest()
    assert {event.data["attempt"] for event in seen} >= {2, 3}
    assert (seen[-1].data["status"], seen[-1].data["attempt"]) == ("completed", 3)


def test_the_stream_of_an_ended_task_sends_its_entry_and_ends(api: Api) -> None:
    entry = api.wait(api.create())
    for headers in ({}, {"Last-Event-ID": "1"}, {"Last-Event-ID": "x"}):
        with stream(api, entry, **headers) as task:
            assert task.rest() == [Event("message", entry["version"], entry)]


def test_a_stream_may_not_be_cached_or_buffered_by_proxies(api: Api) -> None:
    for path in (path_of(at_gate(api)), "/tasks"):
        answer = api.get(path, Accept=ACCEPT)
        assert answer["Cache-Control"] == "no-store"
        assert answer["X-Accel-Buffering"] == "no"
        assert answer["Vary"] == "Accept"
        answer.close()


@pytest.mark.parametrize("name", ["naïve 🧪", "line\u2028separator", "data: x", "\\n", '{"id": 1}', "</script>"])
def test_the_data_of_an_event_is_one_line_whatever_the_entry_contains(api: Api, name: str) -> None:
    entry = api.wait(api.create("broken", name=name, how="first line\nsecond line\r\n\n\nid: 7"))
    with stream(api, entry) as task:
        (event,) = task.rest()
    assert event == Event("message", entry["version"], entry)
    assert event.data["error"]["detail"] == "ValueError: first line\nsecond line\r\n\n\nid: 7"


@pytest.mark.parametrize("accept", [ACCEPT, f"{ACCEPT}, */*;q=0.1", f"text/csv, {ACCEPT}", f"{ACCEPT};charset=utf-8"])
def test_a_stream_is_requested_by_its_media_type(api: Api, accept: str) -> None:
    entry = api.wait(api.create())
    with Stream(api.get(path_of(entry), Accept=accept)) as task:
        assert len(task.rest()) == 1


@pytest.mark.parametrize("accept", ["*/*", "application/json", BROWSER, "application/*"])
def test_other_accept_headers_get_no_stream(api: Api, accept: str) -> None:
    entry = at_gate(api)
    for path in (path_of(entry), "/tasks"):
        assert not api.get(path, Accept=accept).streaming


# Resuming


@pytest.mark.parametrize("last", ["3", "0003"])
def test_a_version_that_the_client_knows_is_not_sent_again(api: Api, last: str) -> None:
    entry = at_gate(api)
    assert entry["version"] == 3
    with stream(api, entry, **{"Last-Event-ID": last}) as task:
        assert task.read()
        assert task.comments == 1
        kinds.gate.set()
        seen = task.rest()
    assert seen[0].id == 4
    assert seen[-1].data["status"] == "completed"


@pytest.mark.parametrize("last", ["2", "1", "999", "", "x", "-3", "3.0", "9" * 30, "\u0663".encode().decode("latin-1")])
def test_a_stream_resumes_with_the_entry_after_any_other_event_id(api: Api, last: str) -> None:
    entry = at_gate(api)
    with stream(api, entry, **{"Last-Event-ID": last}) as task:
        assert task.next() == Event("message", 3, entry)


def test_a_stream_that_has_nothing_left_to_send_is_refused_with_204(api: Api) -> None:
    entry = api.wait(api.create())
    answer = api.get(path_of(entry), Accept=ACCEPT, **{"Last-Event-ID": str(entry["version"])})
    assert answer.status_code == 204
    assert answer.content == b""
    assert not answer.has_header("Content-Type")
    assert answer["Cache-Control"] == "no-store"


def test_a_client_that_is_disconnected_repeatedly_misses_nothing(api: Api) -> None:
    entry = api.create("thread-retry", do="fail-until", times=3)
    seen: list[Event] = []
    while not seen or seen[-1].data["status"] == "pending":
        last = {"Last-Event-ID": str(seen[-1].id)} if seen else {}
        with stream(api, entry, **last) as task:
            event = task.next()
        assert event is not None
        seen.append(event)
    versions = [event.data["version"] for event in seen]
    assert versions == sorted(set(versions))
    assert seen[-1].data == api.poll(entry)


# Idle streams


def test_an_idle_stream_sends_keep_alive_comments(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 0.05)
    entry = at_gate(api)
    with stream(api, entry) as one, stream_of_all(api) as every:
        assert one.next() == Event("message", entry["version"], entry)
        for silent in (one, every):
            began = time.monotonic()
            while silent.comments < 3:
                assert silent.read()
            assert time.monotonic() - began >= 0.15
        kinds.gate.set()
        assert one.rest()[-1].data["status"] == "completed"


def test_a_change_is_sent_before_the_next_keep_alive_comment(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_SECONDS", 60)
    entry = at_gate(api)
    began = time.monotonic()
    with stream(api, entry) as one, stream_of_all(api) as every:
        kinds.gate.set()
        assert one.rest()[-1].data["status"] == "completed"
        assert every.entries(1)
    assert time.monotonic() - began < 30


# The waiter limit


def test_a_stream_counts_in_the_waiter_limit_until_the_client_disconnects(api: Api, settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 2
    entry = at_gate(api)
    with stream(api, entry), stream_of_all(api):
        wait_for_waiters(2)
        assert not api.get(path_of(entry), Prefer="wait=0").has_header("Preference-Applied")
    wait_for_waiters(0)
    assert api.get(path_of(entry), Prefer="wait=0").has_header("Preference-Applied")


def test_a_stream_that_has_ended_no_longer_counts_in_the_waiter_limit(api: Api, settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 1
    entry = api.create("gate")
    task = stream(api, entry)
    kinds.gate.set()
    task.rest()
    wait_for_waiters(0)


def test_a_stream_beyond_the_waiter_limit_sends_the_entry_and_a_longer_retry_time(
    api: Api, settings: LazySettings
) -> None:
    settings.TASK_MAX_WAITERS = 1
    entry = at_gate(api)
    with stream(api, entry) as first:
        with stream(api, entry) as second:
            assert second.retry == 5000 > first.retry
            assert second.rest() == [Event("message", entry["version"], entry)]
        with stream(api, entry, **{"Last-Event-ID": str(entry["version"])}) as third:
            assert (third.retry, third.rest()) == (5000, [])
        with stream_of_all(api) as every:
            assert (every.retry, every.rest()) == (5000, [])
        wait_for_waiters(1)
        kinds.gate.set()
        assert first.rest()[-1].data["status"] == "completed"
    ended = api.poll(entry)
    with stream(api, ended) as fourth:
        assert (fourth.retry, [event.data for event in fourth.rest()]) == (1000, [ended])


@pytest.mark.parametrize("path", ["/poll-gate/{}", "/tasks"])
def test_a_head_request_for_a_stream_does_not_count_in_the_waiter_limit(api: Api, path: str) -> None:
    answer: Any = api.client.head(path.format(api.create("gate")["id"]), headers={"Accept": ACCEPT})
    assert answer.status_code == 200
    assert answer["Content-Type"] == ACCEPT
    assert b"".join(answer.streaming_content) == b""
    wait_for_waiters(0)


# Refusals


def test_a_stream_that_cannot_be_opened_is_a_problem(api: Api) -> None:
    entry = api.create("gate")
    assert_problem(api.get(f"/poll-gate/{UNKNOWN}", Accept=ACCEPT), 404, "id")
    assert_problem(api.get(f"/poll-task/{entry['id']}", Accept=ACCEPT), 404, "id")
    assert_problem(api.get("/poll-gate/x", Accept=ACCEPT), 400, "UUID")
    assert_problem(api.get("/nothing", Accept=ACCEPT), 406)
    assert_problem(api.post("/create-gate", {"name": "x"}, Accept=ACCEPT), 406, "application/json")


def test_an_expired_task_has_no_stream(api: Api, settings: LazySettings) -> None:
    settings.TASK_RETENTION_SECONDS = 0.1
    entry = api.create("async")
    wait_for(lambda: api.get(path_of(entry)).status_code == 410)
    settings.TASK_RETENTION_SECONDS = 60  # the expiry stays known for this long
    assert_problem(api.get(path_of(entry), Accept=ACCEPT), 410, "Create it again")


def test_a_stream_ends_when_its_task_is_removed(api: Api) -> None:
    entry = at_gate(api)
    with stream(api, entry) as task:
        task.next()
        get_registry().remove(UUID(entry["id"]))
        assert task.rest() == []


def test_only_a_get_request_is_answered_with_events(api: Api) -> None:
    entry = api.create("gate")
    for method in ("DELETE", "OPTIONS"):
        answer = api.client.generic(method, path_of(entry), headers={"Accept": ACCEPT})
        problem = assert_problem(answer, 406, "application/json")
        assert ACCEPT not in problem["detail"]
    assert_problem(api.client.generic("OPTIONS", "/tasks", headers={"Accept": ACCEPT}), 406)
    assert api.poll(entry)["status"] == "pending"
    assert ACCEPT in assert_problem(api.get(path_of(entry), Accept="image/png"), 406)["detail"]


# All tasks


def test_the_stream_of_all_tasks_sends_each_created_or_changed_task(api: Api) -> None:
    before = at_gate(api)
    untouched = api.wait(api.create())
    with stream_of_all(api) as every:
        assert every.retry == 1000
        created = [api.create("gate"), api.create("thread", do="sleep", seconds=600), api.create("async")]
        ids = {entry["id"] for entry in created}
        seen = every.entries(3)
        while not ids <= seen.keys():
            seen |= every.entries(1)
        api.delete(before)
        while seen.get(before["id"], {}).get("status") != "cancelled":
            seen |= every.entries(1)
        # A database may still notify of earlier changes.
        assert modes.HAS_DATABASE or untouched["id"] not in seen
        kinds.gate.set()
        while seen.get(created[0]["id"], {}).get("status") != "completed":
            seen |= every.entries(1)
    assert seen[created[0]["id"]] == api.poll(created[0])


def test_rapid_changes_of_a_task_are_merged_into_one_event(api: Api) -> None:
    with stream_of_all(api) as every:
        ended = [api.wait(api.create("thread", do="report", times=100)) for _ in range(3)]
        assert every.entries(3) == {entry["id"]: entry for entry in ended}
        api.create("gate")
        event = every.next()
        assert event is not None
        assert event.data["kind"] == "gate"  # so no other event was sent in between


def test_the_stream_of_all_tasks_collects_changes_before_it_sends_them(api: Api) -> None:
    entry = api.create("thread", do="progress", seconds=600)  # it changes about 20 times a second
    wait_for(lambda: api.poll(entry)["started_at"])
    with stream_of_all(api) as every:
        began = time.monotonic()
        for _ in range(5):
            every.next()
        assert time.monotonic() - began >= 0.4


@pytest.mark.usefixtures("one_worker")
def test_a_refused_task_is_not_sent(api: Api) -> None:
    running = at_gate(api)
    waiting_task = api.create("gate")
    with stream_of_all(api) as every:
        for _ in range(3):
            assert_problem(api.post("/create-gate", {"name": "x"}), 503)
        while every.comments == 0:  # until all changes are sent
            every.read()
        kinds.gate.set()
        seen = every.entries(2)
    assert set(seen) == {running["id"], waiting_task["id"]}


def test_the_client_is_asked_to_reload_when_there_are_too_many_changes_to_send(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_UNREAD", 5)
    with stream_of_all(api) as every:
        for _ in range(4):
            api.create("gate")
        assert len(every.entries(4)) == 4
        wait_for(lambda: all(entry.message for entry in stored().values()))
        while every.comments == 0:  # until all of these changes are sent
            every.read()
        for _ in range(6):
            api.create("gate")
        event = every.next()
        while event is not None and event.kind == "message":
            event = every.next()
        assert event == Event("reload", None, {})
        wait_for(lambda: all(entry.message for entry in stored().values()))
        last = api.create("echo")
        event = every.next()
        while event is not None and event.data.get("id") != last["id"]:
            event = every.next()
        assert event is not None


def test_the_stream_of_all_tasks_has_no_end(api: Api) -> None:
    with stream_of_all(api) as every:
        for _ in range(3):
            entry = api.wait(api.create("async"))
            while (event := every.next()) is None or event.data != entry:
                assert event is not None
