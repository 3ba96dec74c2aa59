import json
import uuid
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from urllib.parse import urlencode

import pytest
from django.conf import LazySettings
from django.test import Client

from tasks.dispatch import get_dispatcher
from tasks.dispatch.threads import ThreadDispatcher
from tests import kinds, modes
from tests.helpers import BROWSER, Api, assert_problem, stored, wait_for

FORM = "application/x-www-form-urlencoded"
MAX_BODY = 65_536
READABLE_NAMES = [
    "x", "🧪 Žluťoučký kůň", "שלום עולם", "مرحبا", "a" * 255, "\U0001f600" * 255, "👩‍👩‍👧‍👦",
    "a\u00a0b", "</script>",
]  # fmt: skip


def assert_refused(answer: Any, status: int, hint: str = "") -> dict[str, Any]:
    """Check that the response is this problem and that nothing was stored."""
    problem = assert_problem(answer, status, hint)
    assert stored() == {}
    return problem


def nested(levels: int) -> bytes:
    """Return a payload whose objects and arrays are nested `levels` deep."""
    return b'{"name": "deep", "x": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_a_create_immediately_returns_the_whole_pending_entry(api: Api) -> None:
    answer = api.post("/create-gate", {"name": "sample_name"})
    entry = answer.json()
    assert answer.status_code == 201
    assert answer["Content-Type"] == "application/json"
    assert answer["Location"] == f"/poll-gate/{entry['id']}"
    assert int(answer["Retry-After"]) >= 1
    assert uuid.UUID(entry["id"]).version == 4
    created = datetime.fromisoformat(entry.pop("created_at"))
    assert abs((datetime.now(UTC) - created).total_seconds()) < 10
    assert entry == {
        "id": entry["id"], "kind": "gate", "name": "sample_name", "status": "pending", "file_path": "",
        "input": {}, "progress": 0, "message": "", "result": None, "error": None, "attempt": 0, "version": 1,
        "started_at": None, "finished_at": None, "expires_at": None,
    }  # fmt: skip


def test_every_create_makes_a_new_task(api: Api) -> None:
    ids = {api.create("gate")["id"] for _ in range(20)}
    assert len(ids) == 20
    assert {str(task_id) for task_id in stored()} == ids


def test_a_trailing_slash_makes_no_difference(api: Api) -> None:
    answer = api.post("/create-gate/", {"name": "sample_name"})
    assert answer.status_code == 201
    assert answer["Location"] == f"/poll-gate/{answer.json()['id']}"


# The name


@pytest.mark.parametrize("name", READABLE_NAMES)
def test_a_readable_name_is_stored_unchanged(api: Api, name: str) -> None:
    assert api.create("gate", name=name)["name"] == name


def test_spaces_around_a_name_are_stripped(api: Api) -> None:
    assert api.create("gate", name="  sample name ")["name"] == "sample name"


@modes.before_the_registry
@pytest.mark.parametrize("name", [1, 0, 1.5, None, True, False, ["sample"], [], {"a": "b"}, {}], ids=repr)
def test_a_name_that_is_not_a_string_is_refused(api: Api, name: Any) -> None:
    problem = assert_refused(api.post("/create-task", {"name": name}), 400, "errors")
    assert set(problem["errors"]) == {"name"}
    assert problem["errors"]["name"][0]


@modes.before_the_registry
@pytest.mark.parametrize("name", ["", " ", "\u00a0 \u2003", "a" * 256, " " * 300], ids=repr)
def test_a_blank_or_too_long_name_is_refused(api: Api, name: str) -> None:
    assert set(assert_refused(api.post("/create-task", {"name": name}), 400)["errors"]) == {"name"}


@modes.before_the_registry
@pytest.mark.parametrize(
    "character", ["\x00", "\t", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f"], ids=repr
)
def test_a_control_character_in_a_name_is_refused(api: Api, character: str) -> None:
    for name in (f"a{character}b", f"{character}ab", f"ab{character}"):
        problem = assert_refused(api.post("/create-task", {"name": name}), 400)
        assert "control" in problem["errors"]["name"][0]


@modes.before_the_registry
@pytest.mark.parametrize("body", [{}, {"Name": "x"}, {"title": "x"}], ids=repr)
def test_a_payload_without_a_name_is_refused(api: Api, body: dict[str, Any]) -> None:
    assert set(assert_refused(api.post("/create-task", body), 400)["errors"]) == {"name"}


# Fields that no client may set


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52", "kind": "task", "version": 9, "attempt": 7},
        {"status": "completed", "result": {"a": 1}, "progress": 100, "message": "done", "error": {"code": "x"}},
        {"file_path": "files/../secret", "file_name": "../secret", "input": {"a": 1}},
        {"created_at": "2001-01-01T00:00:00Z", "started_at": "x", "finished_at": "x", "expires_at": "x"},
        {"unknown": [1, {"a": None}], "": "", "__class__": "x", "name ": "other", "Name": "other"},
    ],
    ids=",".join,
)
def test_a_field_that_clients_may_not_set_is_ignored(api: Api, fields: dict[str, Any]) -> None:
    with_fields, plain = (api.post("/create-gate", {"name": "x", **extra}).json() for extra in (fields, {}))
    own = {"id", "created_at"}
    assert {name: value for name, value in with_fields.items() if name not in own} == {
        name: value for name, value in plain.items() if name not in own
    }
    assert with_fields["id"] != fields.get("id")
    assert with_fields["created_at"] != fields.get("created_at")
    kinds.gate.set()
    assert api.wait(with_fields)["result"] == "through"


# A JSON body


@modes.before_the_registry
@pytest.mark.parametrize(
    "body",
    [
        b"{", b"{}}", b"name=x", b'{"name": "x",}', b"{'name': 'x'}", b'{"name": "x"} {"name": "y"}', b"\x00",
        b'{"name": "a\nb"}', b'{"name": "x" /* a comment */}', b" ", b'{"name": "\\x41"}', b'{name: "x"}',
    ],
    ids=repr,
)  # fmt: skip
def test_malformed_json_is_refused(api: Api, body: bytes) -> None:
    assert_refused(api.post("/create-task", body), 400, "JSON")


@modes.before_the_registry
@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "\xff"}', '{"name": "é"}'.encode("latin-1"), '{"name": "x"}'.encode("utf-16"),
        '{"name": "x"}'.encode("utf-8-sig"), b'{"name": "\xed\xa0\x80"}', b'{"name": "\xc0\xaf"}',
    ],
    ids=repr,
)  # fmt: skip
def test_a_body_that_is_not_utf_8_is_refused(api: Api, body: bytes) -> None:
    assert_refused(api.post("/create-task", body), 400, "UTF-8")


@modes.before_the_registry
@pytest.mark.parametrize(
    "body",
    [
        rb'{"name": "\ud800"}', rb'{"name": "a\udfffb"}', rb'{"name": "\udc00\ud800"}', rb'{"name": "x", "\ud800": 1}',
        rb'{"name": "x", "other": ["\udead"]}',
    ],
    ids=repr,
)  # fmt: skip
def test_a_lone_surrogate_is_refused(api: Api, body: bytes) -> None:
    assert_refused(api.post("/create-task", body), 400)


def test_an_escaped_surrogate_pair_is_one_character(api: Api) -> None:
    assert api.post("/create-gate", rb'{"name": "\ud83d\ude00"}').json()["name"] == "😀"


@modes.before_the_registry
@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"01", b"+1"])
def test_a_number_that_is_not_valid_json_is_refused(api: Api, number: bytes) -> None:
    assert_refused(api.post("/create-task", b'{"name": "x", "other": ' + number + b"}"), 400)


@modes.before_the_registry
@pytest.mark.parametrize(
    "body",
    [
        b'{"name": "a", "name": "b"}', b'{"name": "a", "name": "a"}', rb'{"name": "a", "n\u0061me": "b"}',
        b'{"name": "a", "x": {"y": 1, "y": 2}}', b'{"name": "a", "x": [[{"y": 1, "z": 0, "y": 2}]]}',
    ],
    ids=repr,
)  # fmt: skip
def test_an_object_with_duplicate_keys_is_refused(api: Api, body: bytes) -> None:
    assert_refused(api.post("/create-task", body), 400, "twice")


def test_a_body_may_be_nested_32_levels_deep(api: Api) -> None:
    assert api.post("/create-gate", nested(32)).status_code == 201


@modes.before_the_registry
@pytest.mark.parametrize("levels", [33, 1000, 30_000])
def test_a_body_with_more_than_32_levels_is_refused(api: Api, levels: int) -> None:
    assert_refused(api.post("/create-task", nested(levels)), 400)


def test_brackets_side_by_side_or_in_a_string_do_not_count_as_nesting(api: Api) -> None:
    body = {"name": "[" * 100, "x": [[{}] for _ in range(100)]}
    assert api.post("/create-gate", body).status_code == 201


def test_an_error_in_a_list_is_reported_by_its_index(api: Api) -> None:
    answer = api.post("/create-echo", {"name": "x", "tags": ["fine", []]})
    assert assert_problem(answer, 400)["errors"] == {"tags": {"1": ["Not a valid string."]}}


@modes.before_the_registry
@pytest.mark.parametrize("body", [b"[]", b'[{"name": "x"}]', b'"name"', b"1", b"null", b"true"])
def test_a_body_that_is_not_an_object_is_refused(api: Api, body: bytes) -> None:
    assert "non_field_errors" in assert_refused(api.post("/create-task", body), 400)["errors"]


def test_an_empty_body_is_refused(api: Api) -> None:
    assert set(assert_refused(api.post("/create-task", b""), 400)["errors"]) == {"name"}


# Size, type and method of the request


@pytest.mark.parametrize("size", [MAX_BODY - 1, MAX_BODY])
def test_a_body_may_be_as_large_as_the_limit(api: Api, size: int) -> None:
    body = b'{"name": "large", "other": ""}'.replace(b'""', b'"%s"')
    answer = api.post("/create-gate", body % (b"x" * (size - len(body) + 2)))
    assert answer.wsgi_request.META["CONTENT_LENGTH"] == str(size)
    assert answer.status_code == 201


def test_a_body_over_the_limit_is_refused(api: Api, client: Client) -> None:
    large = {"name": "x", "other": "y" * MAX_BODY}
    hint = str(MAX_BODY)
    assert_refused(api.post("/create-task", large), 413, hint)
    assert_refused(client.post("/create-task", urlencode(large), content_type=FORM), 413, hint)
    assert_refused(client.post("/create-task", large), 413, hint)
    assert_refused(client.post("/create-task", {"name": "x", "other": BytesIO(b"y" * MAX_BODY)}), 413, hint)


@modes.before_the_registry
@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "application/octet-stream", "json", ""])
def test_a_body_of_an_unsupported_type_is_refused(client: Client, content_type: str) -> None:
    answer = client.generic("POST", "/create-task", b'{"name": "x"}', content_type=content_type)
    assert_refused(answer, 415, "application/json")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;v=1"]
)
def test_json_is_accepted_with_parameters_in_its_content_type(client: Client, content_type: str) -> None:
    assert client.generic("POST", "/create-gate", b'{"name": "x"}', content_type=content_type).status_code == 201


@modes.before_the_registry
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "TRACE"])
def test_an_unsupported_method_is_refused_with_an_allow_header(client: Client, method: str) -> None:
    answer = client.generic(method, "/create-task", b'{"name": "x"}', content_type="application/json")
    assert_refused(answer, 405, "POST")
    assert "POST" in answer["Allow"].split(", ")
    assert method not in answer["Allow"].split(", ")


def test_a_head_request_is_refused_without_a_body(client: Client) -> None:
    answer = client.head("/create-task")
    assert answer.status_code == 405
    assert answer.content == b""


@modes.before_the_registry
@pytest.mark.parametrize("accept", ["text/plain", "image/png", "application/xml, text/csv;q=0.5"])
def test_a_create_that_accepts_only_other_types_is_refused(api: Api, accept: str) -> None:
    assert_refused(api.post("/create-task", {"name": "x"}, Accept=accept), 406, "application/json")


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/json;q=0.9, */*;q=0.1", "application/*", "text/csv, */*"]
)
def test_the_response_is_json_unless_a_browser_asks(api: Api, accept: str | None) -> None:
    answer = api.post("/create-gate", {"name": "x"}, **({"Accept": accept} if accept else {}))
    assert answer.status_code == 201
    assert answer["Content-Type"] == "application/json"
    assert answer["Vary"] == "Accept"


# Forms


def test_a_form_is_accepted(client: Client) -> None:
    for answer in (
        client.post("/create-gate", urlencode({"name": "näme 🧪", "id": "mine"}), content_type=FORM),
        client.post("/create-gate", {"name": "näme 🧪", "id": "mine"}),
    ):
        assert answer.status_code == 201, answer.content
        assert answer.json()["name"] == "näme 🧪"
        assert answer.json()["id"] != "mine"


@modes.before_the_registry
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example", "null", "", "https://testserver.evil.example", "http://testserver:8080", "http://[",
        "http://testserver@evil.example", "http://evil.example/testserver", "testserver", "file://",
    ],
)  # fmt: skip
def test_a_form_from_another_site_is_refused(client: Client, origin: str) -> None:
    for answer in (
        client.post("/create-task", urlencode({"name": "x"}), content_type=FORM, headers={"Origin": origin}),
        client.post("/create-task", {"name": "x"}, headers={"Origin": origin}),
    ):
        assert_refused(answer, 403, "form")


def test_a_form_from_this_site_is_accepted(client: Client) -> None:
    for host, origin in (("testserver", "http://testserver"), ("localhost:8000", "http://localhost:8000")):
        headers = {"Host": host, "Origin": origin}
        answer = client.post("/create-gate", urlencode({"name": "x"}), content_type=FORM, headers=headers)
        assert answer.status_code == 201, answer.content
        assert client.post("/create-gate", {"name": "x"}, headers=headers).status_code == 201


def test_json_is_accepted_from_any_origin(api: Api) -> None:
    assert api.post("/create-gate", {"name": "x"}, Origin="http://evil.example").status_code == 201


@modes.before_the_registry
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x--"),
        ("multipart/form-data; boundary=x", b"name=x"),
        (FORM, b"&".join(b"f%d=1" % number for number in range(2000))),
    ],
)
def test_an_unreadable_form_is_refused(client: Client, content_type: str, body: bytes) -> None:
    assert_refused(client.generic("POST", "/create-task", body, content_type=content_type), 400)


def test_a_browser_gets_the_errors_of_its_form_as_a_page(client: Client) -> None:
    answer = client.post("/create-task", {"name": ""}, headers={"Accept": BROWSER})
    assert answer.status_code == 400
    assert answer["Content-Type"].startswith("text/html")
    assert stored() == {}


# A full dispatcher


@pytest.mark.usefixtures("one_worker")
def test_a_full_dispatcher_refuses_a_create_and_stores_nothing(api: Api) -> None:
    running = api.create("gate")
    wait_for(lambda: api.poll(running)["started_at"])
    waiting = api.create("gate")
    before = stored().keys()
    for kind in ("gate", "echo", "gate"):
        answer = api.post(f"/create-{kind}", {"name": "x"})
        assert_problem(answer, 503, "Retry in")
        assert int(answer["Retry-After"]) >= 1
        assert stored().keys() == before
    kinds.gate.set()
    assert [api.wait(entry)["status"] for entry in (running, waiting)] == ["completed", "completed"]
    assert api.wait(api.create("task"))["status"] == "completed"


@pytest.mark.usefixtures("one_worker")
def test_a_worker_that_is_about_to_start_counts_as_free(api: Api, settings: LazySettings) -> None:
    settings.TASK_THREADS = 2
    dispatcher = ThreadDispatcher()
    get_dispatcher.override(dispatcher)
    with dispatcher._lanes["threads"]._lock:  # noqa: SLF001 - blocks the workers before their first task
        accepted = [api.create("gate") for _ in range(3)]
        assert_problem(api.post("/create-gate", {"name": "x"}), 503)
    kinds.gate.set()
    assert {api.wait(entry)["status"] for entry in accepted} == {"completed"}


def test_a_stopping_dispatcher_refuses_a_create(api: Api) -> None:
    get_dispatcher().drain(timeout=5)
    answer = api.post("/create-task", {"name": "x"})
    assert_refused(answer, 503)
    assert int(answer["Retry-After"]) >= 1


def test_a_create_never_waits_for_a_free_worker(api: Api, settings: LazySettings) -> None:
    settings.TASK_THREADS = 2
    get_dispatcher.override(ThreadDispatcher())
    entries = [api.create("gate") for _ in range(50)]
    assert not kinds.gate.is_set()
    assert {entry.status for entry in stored().values()} == {"pending"}
    kinds.gate.set()
    assert {api.wait(entry)["status"] for entry in entries} == {"completed"}


# The payload of a kind


def test_dates_and_decimals_of_a_payload_become_json(api: Api) -> None:
    sent = {"when": "2026-02-28", "amount": "12.50", "tags": ["a", "é"]}
    entry = api.create("echo", **sent)
    assert entry["input"] == sent
    done = api.wait(entry)
    assert done["input"] == sent
    assert done["result"] == {"payload": sent, "name": "sample_name", "attempt": 1}


@pytest.mark.parametrize(
    ("sent", "stored_input"), [({}, {"when": None}), ({"when": None, "amount": 3}, {"when": None, "amount": "3.00"})]
)
def test_an_optional_field_may_be_left_out(api: Api, sent: dict[str, Any], stored_input: dict[str, Any]) -> None:
    assert api.create("echo", **sent)["input"] == stored_input


def test_the_problem_names_every_invalid_field(api: Api) -> None:
    body = {"name": 1, "when": "yesterday", "amount": "1234567.89", "tags": "x"}
    problem = assert_refused(api.post("/create-echo", body), 400)
    assert set(problem["errors"]) == {"name", "when", "amount", "tags"}
    assert all(isinstance(message, str) for messages in problem["errors"].values() for message in messages)


@pytest.mark.parametrize("limit", [0, 10_000_000])
def test_a_prime_count_accepts_its_smallest_and_its_largest_limit(api: Api, limit: int) -> None:
    assert api.create("prime-count", limit=limit)["input"] == {"limit": limit}


@modes.before_the_registry
@pytest.mark.parametrize("limit", [-1, 10_000_001, 2**70, 1.5, "many", "", None, True, [], {}], ids=repr)
def test_a_prime_count_refuses_any_other_limit(api: Api, limit: Any) -> None:
    body = json.dumps({"name": "primes", "limit": limit}).encode()
    assert set(assert_refused(api.post("/create-prime-count", body), 400)["errors"]) == {"limit"}


def test_a_prime_count_needs_a_limit(api: Api) -> None:
    assert set(assert_refused(api.post("/create-prime-count", {"name": "x"}), 400)["errors"]) == {"limit"}


@modes.before_the_registry
@pytest.mark.parametrize("field", [{"seconds": "nan"}, {"seconds": "inf"}, {"times": "9" * 30}])
def test_a_form_value_that_json_cannot_represent_is_refused(api: Api, field: dict[str, str]) -> None:
    answer = api.client.post("/create-thread", {"name": "x", **field})
    assert_refused(answer, 400)
    assert set(answer.json()["errors"]) <= {*field, "non_field_errors"}
