"""A create with an `Idempotency-Key` starts one task, however often it is sent."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from django.conf import LazySettings

from tasks.dispatch import get_dispatcher
from tasks.dispatch.threads import ThreadDispatcher
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull
from tests import kinds, modes
from tests.helpers import Api, assert_problem, stored, wait_for, wait_for_waiters

CLIENTS = 50
LONG = "wait=30"


def create(api: Api, key: str, kind: str = "gate", **fields: Any) -> Any:
    """Send a create with that header value as its key, and return the response."""
    body = {"name": "sample_name", **fields}
    return api.post(f"/create-{kind}", body, **{"Idempotency-Key": key})


def assert_first(answer: Any) -> dict[str, Any]:
    """Check that the request has created its task."""
    assert answer.status_code == 201, answer.content
    assert not answer.has_header("Idempotent-Replayed")
    entry: dict[str, Any] = answer.json()
    assert UUID(entry["id"]) in stored()
    return entry


def assert_replayed(answer: Any, first: dict[str, Any]) -> dict[str, Any]:
    """Check that the response replays the task of `first`."""
    assert answer.status_code == 201, answer.content
    assert answer["Idempotent-Replayed"] == "true"
    entry: dict[str, Any] = answer.json()
    assert entry["id"] == first["id"]
    assert answer["Location"] == f"/poll-{first['kind']}/{first['id']}"
    assert answer["ETag"] == f'"{entry["version"]}"'
    return entry


# Repeated requests


def test_a_repeated_request_creates_nothing(api: Api) -> None:
    first = assert_first(create(api, "key"))
    for _ in range(3):
        assert_replayed(create(api, "key"), first)
    assert [str(task_id) for task_id in stored()] == [first["id"]]


def test_a_repeated_request_gets_the_current_entry(api: Api) -> None:
    first = assert_first(create(api, "key"))
    pending = create(api, "key")
    assert assert_replayed(pending, first)["status"] == "pending"
    assert int(pending["Retry-After"]) >= 1
    kinds.gate.set()
    ended = api.wait(first)
    repeated = create(api, "key")
    assert assert_replayed(repeated, first) == ended
    assert not repeated.has_header("Retry-After")


def test_a_repeated_request_does_not_restart_a_cancelled_task(api: Api) -> None:
    first = assert_first(create(api, "key"))
    api.delete(first)
    assert assert_replayed(create(api, "key"), first)["status"] == "cancelled"


def test_a_key_appears_in_no_response(api: Api) -> None:
    entry = assert_first(create(api, "secret-key"))
    for answer in (api.get(f"/poll-gate/{entry['id']}"), api.get("/tasks"), create(api, "secret-key")):
        assert b"secret-key" not in answer.content
        assert b"idempotency" not in answer.content


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("key", '"key"'), ("key", '  "key"  '), ("key", '"key";x=1'), ("key", '"key"; x="y"'), ('a"b', r'"a\"b"'),
        (r"a\b", r'"a\\b"'), ("a b", '"a b"'), ("a;b", '"a;b"'), ("a,b", '"a,b"'), ("k" * 255, f'"{"k" * 255}"'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'), ("'key'", "\"'key'\""),
    ],
)  # fmt: skip
def test_a_key_is_the_same_with_and_without_quotes(api: Api, one: str, other: str) -> None:
    first = assert_first(create(api, one))
    assert_replayed(create(api, other), first)


@pytest.mark.parametrize("other", ["Key", "key1", "ke", "k ey", '"key "', "'key'", "key;x"])
def test_another_key_creates_another_task(api: Api, other: str) -> None:
    entries = [assert_first(create(api, key)) for key in ("key", other)]
    assert entries[0]["id"] != entries[1]["id"]
    assert_replayed(create(api, other), entries[1])


def test_every_request_without_a_key_creates_a_task(api: Api) -> None:
    entries = [api.create("gate") for _ in range(3)] + [assert_first(create(api, "key"))]
    assert {entry["id"] for entry in entries} == {str(task_id) for task_id in stored()}
    assert len(stored()) == 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"tags": ["a"], "anything": {"y": [1], "x": null}, "when": null, "name": "x"}',
        b' {"name" : "x" , "anything" : {"x" : null , "y" : [ 1 ]} , "tags" : [ "a" ] }\n',
        b'{"name": "x", "anything": {"x": null, "y": [1]}, "tags": ["a"], "other": 1, "id": "mine"}',
        b'{"name": "  x ", "anything": {"x": null, "y": [1]}, "tags": ["\\u0061"]}',
    ],
    ids=["another order", "other spaces", "ignored fields", "equal values"],
)
def test_a_payload_is_the_same_however_it_is_written(api: Api, body: bytes) -> None:
    first = assert_first(create(api, "key", "echo", name="x", anything={"x": None, "y": [1]}, tags=["a"]))
    assert_replayed(api.post("/create-echo", body, **{"Idempotency-Key": "key"}), first)


def test_a_form_with_the_same_payload_is_the_same_request(api: Api) -> None:
    first = assert_first(create(api, "key", "async", times=3, seconds=0.5))
    form = urlencode({"name": "sample_name", "times": "3", "seconds": "0.50"})
    repeated = api.client.post(
        "/create-async", form, content_type="application/x-www-form-urlencoded", headers={"Idempotency-Key": "key"}
    )
    assert_replayed(repeated, first)


# The same key for another request


def test_a_key_that_was_used_with_another_payload_is_refused(api: Api) -> None:
    first = assert_first(create(api, "key", "echo", tags=["a"]))
    others: list[dict[str, Any]] = [{"name": "other", "tags": ["a"]}, {"tags": ["b"]}, {"tags": ["a", "a"]}, {}]
    for other in others:
        answer = create(api, "key", "echo", **other)
        assert_problem(answer, 422, "another key")
        assert not answer.has_header("Location")
        assert not answer.has_header("Idempotent-Replayed")
    assert len(stored()) == 1
    assert_replayed(create(api, "key", "echo", tags=["a"]), first)


def test_a_key_that_was_used_for_another_kind_is_refused(api: Api) -> None:
    first = assert_first(create(api, "key"))
    assert_problem(create(api, "key", "async-single"), 422)
    assert_problem(create(api, "key", "task"), 422)
    assert_replayed(create(api, "key"), first)
    assert len(stored()) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"1", b"true"), (b"1", b"1.0"), (b"0", b"false"), (b"1", b'"1"'), (b"null", b"false"), (b"[1]", b"[true]"),
        (b"[1, 2]", b"[2, 1]"), (b'{"x": 1}', b'{"x": 1.0}'), (b"[]", b"{}"), (b'"a"', b'"A"'), (b"[]", b"[[]]"),
        ('"é"'.encode(), '"e\u0301"'.encode()),
    ],
    ids=repr,
)  # fmt: skip
def test_values_that_differ_in_json_are_different_payloads(api: Api, one: bytes, other: bytes) -> None:
    body = b'{"name": "x", "anything": [%s]}'
    first = assert_first(api.post("/create-echo", body % one, **{"Idempotency-Key": "key"}))
    assert_problem(api.post("/create-echo", body % other, **{"Idempotency-Key": "key"}), 422)
    assert_replayed(api.post("/create-echo", body % one, **{"Idempotency-Key": "key"}), first)


# Invalid keys


@modes.before_the_registry
@pytest.mark.parametrize(
    "key",
    [
        "", " ", '""', '" ', '"', '"key', '"ke"y"', '"key"x', '"key" x', r'"a\b"', '"a\\"', "k" * 256,
        f'"{"k" * 256}"', "a\tb", "a\x00b", "a\x7fb", '"a\x1bb"', "é", '"é"', "\xa0", "ключ".encode().decode("latin-1"),
    ],
    ids=repr,
)  # fmt: skip
def test_an_invalid_key_is_refused_and_nothing_is_stored(api: Api, key: str) -> None:
    assert_problem(create(api, key), 400, "Idempotency-Key")
    assert stored() == {}


def test_the_key_of_a_refused_request_can_be_used_again(api: Api) -> None:
    assert_problem(create(api, "key", name=""), 400)
    assert_problem(api.post("/create-gate?wait=x", {"name": "x"}, **{"Idempotency-Key": "key"}), 400)
    assert stored() == {}
    assert_first(create(api, "key"))


# The lifetime of a key


def test_a_key_can_be_used_again_after_its_task_has_expired(api: Api, settings: LazySettings) -> None:
    settings.TASK_RETENTION_SECONDS = 0.2
    first = assert_first(create(api, "key", "async"))
    wait_for(lambda: api.get(f"/poll-async/{first['id']}").status_code == 410)
    second = assert_first(create(api, "key", "async", do="sleep", seconds=600))
    assert second["id"] != first["id"]
    assert_replayed(create(api, "key", "async", do="sleep", seconds=600), second)


def test_a_key_can_be_used_again_after_its_task_was_dropped_to_make_room(api: Api, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 2
    kept, dropped = (assert_first(create(api, key, "async")) for key in ("kept", "dropped"))
    api.wait(dropped)
    api.wait(kept)
    while "Idempotent-Replayed" in (answer := create(api, "dropped", "async")):
        assert_replayed(answer, dropped)
        api.wait(api.create("async"))
    assert assert_first(answer)["id"] != dropped["id"]
    assert api.get(f"/poll-async/{dropped['id']}").status_code in (404, 410)


def test_a_key_stays_in_use_after_its_task_has_ended(api: Api, settings: LazySettings) -> None:
    settings.TASK_MAX_ENTRIES = 5
    first = api.wait(assert_first(create(api, "key", "async")))
    for _ in range(4):
        api.wait(api.create("async"))
    assert assert_replayed(create(api, "key", "async"), first) == first


@pytest.mark.usefixtures("one_worker")
@modes.alone
def test_the_key_of_a_create_that_the_full_queue_refused_can_be_used_again(api: Api) -> None:
    running = assert_first(create(api, "running"))
    wait_for(lambda: api.poll(running)["started_at"])
    waiting_task = assert_first(create(api, "waiting"))
    before = stored()
    assert_problem(create(api, "key"), 503)
    assert_problem(create(api, "key", name="other"), 503)
    assert stored() == before
    for key, entry in (("running", running), ("waiting", waiting_task)):
        assert_replayed(create(api, key), entry)  # which needs no free slot
    kinds.gate.set()
    api.wait(waiting_task)
    assert_first(create(api, "key"))


@modes.alone
def test_a_stopping_server_still_replays_the_creates_it_has_accepted(api: Api) -> None:
    first = assert_first(create(api, "key"))
    get_dispatcher().drain(timeout=0)
    assert assert_replayed(create(api, "key"), first)["error"]["code"] == "interrupted"
    assert_problem(create(api, "other"), 503)
    assert len(stored()) == 1


# Races


@pytest.fixture
def start() -> threading.Barrier:
    return threading.Barrier(CLIENTS)


def test_racing_requests_create_one_task(api: Api, start: threading.Barrier) -> None:
    def race(_: int) -> Any:
        start.wait()
        return create(api, "key")

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(race, range(CLIENTS)))
    (first,) = [answer.json() for answer in answers if not answer.has_header("Idempotent-Replayed")]
    for answer in answers:
        assert answer.json()["id"] == first["id"]
    assert [str(task_id) for task_id in stored()] == [first["id"]]


def test_one_of_several_racing_requests_with_different_payloads_wins(api: Api, start: threading.Barrier) -> None:
    def race(number: int) -> Any:
        start.wait()
        return create(api, "key", name=f"task {number % 5}")

    with ThreadPoolExecutor(CLIENTS) as clients:
        answers = list(clients.map(race, range(CLIENTS)))
    (entry,) = stored().values()
    for number, answer in enumerate(answers):
        assert answer.status_code == (201 if f"task {number % 5}" == entry.name else 422)


class FirstTaskRefused(ThreadDispatcher):
    """Refuses the first task, but only after other requests had time to finish."""

    def __init__(self) -> None:
        super().__init__()
        self.is_asked = threading.Event()
        self.others: list[Future[Any]] = []
        self.others_are_sent = threading.Event()

    def dispatch(self, entry: TaskEntry) -> None:
        if self.is_asked.is_set():
            super().dispatch(entry)
            return
        self.is_asked.set()
        self.others_are_sent.wait(20)
        wait(self.others, timeout=0.2)  # none of them may finish by then
        raise DispatcherFull(1)


@modes.alone
def test_no_request_replays_a_task_that_is_then_refused(api: Api) -> None:
    dispatcher = FirstTaskRefused()
    get_dispatcher.override(dispatcher)
    with ThreadPoolExecutor(4) as clients:
        refused = clients.submit(create, api, "key")
        assert dispatcher.is_asked.wait(20)
        dispatcher.others += [clients.submit(create, api, "key") for _ in range(3)]
        dispatcher.others_are_sent.set()
        assert_problem(refused.result(), 503)
        answers = [request.result() for request in dispatcher.others]
    (task_id,) = stored()
    for answer in answers:
        assert answer.status_code == 201
        assert answer.json()["id"] == str(task_id)
        assert api.get(answer["Location"]).status_code == 200
    assert sum(not answer.has_header("Idempotent-Replayed") for answer in answers) == 1


# With a wait


def test_a_repeated_request_can_wait_for_the_end_of_the_task(api: Api) -> None:
    first = assert_first(create(api, "key"))
    with ThreadPoolExecutor(3) as clients:
        headers = {"Idempotency-Key": "key", "Prefer": LONG}
        requests = [clients.submit(api.post, "/create-gate", {"name": "sample_name"}, **headers) for _ in range(3)]
        wait_for_waiters(3)
        kinds.gate.set()
        answers = [request.result(timeout=20) for request in requests]
    for answer in answers:
        assert assert_replayed(answer, first)["status"] == "completed"
        assert answer["Preference-Applied"] == LONG


def test_the_first_request_can_wait_while_the_next_one_does_not(api: Api) -> None:
    with ThreadPoolExecutor(1) as clients:
        headers = {"Idempotency-Key": "key", "Prefer": LONG}
        request = clients.submit(api.post, "/create-gate", {"name": "sample_name"}, **headers)
        wait_for_waiters(1)
        repeated = create(api, "key")
        kinds.gate.set()
        first = assert_first(request.result(timeout=20))
    assert first["status"] == "completed"
    assert assert_replayed(repeated, first)["status"] == "pending"
