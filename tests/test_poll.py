import logging
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from tests import kinds, modes
from tests.helpers import Api, assert_problem, stored, wait_for

UNKNOWN = "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"


def moment(text: str) -> datetime:
    """Parse a timestamp of an entry, which must be RFC 3339 in UTC."""
    assert text.endswith("Z")
    return datetime.fromisoformat(text)


def test_a_task_is_pending_until_its_work_has_ended(api: Api) -> None:
    entry = api.create("gate")
    running = wait_for(lambda: (now := api.poll(entry))["message"] and now)
    assert running["status"] == "pending"
    assert (running["attempt"], running["progress"], running["message"]) == (1, 10, "at the gate")
    assert running["result"] is running["finished_at"] is None
    kinds.gate.set()
    done = api.wait(entry)
    assert done["status"] == "completed"
    assert done["version"] > running["version"] > entry["version"]
    assert (done["result"], done["error"], done["progress"]) == ("through", None, 100)
    assert running["started_at"] == done["started_at"]
    created, started, finished = (moment(done[name]) for name in ("created_at", "started_at", "finished_at"))
    assert created <= started <= finished <= datetime.now(UTC)
    assert {name: done[name] for name in ("id", "kind", "name", "input", "created_at")} == {
        name: entry[name] for name in ("id", "kind", "name", "input", "created_at")
    }


def test_a_task_of_kind_task_completes_with_its_file(api: Api) -> None:
    done = api.wait(api.create())
    assert done["status"] == "completed"
    assert done["file_path"] == f"files/task_{done['id']}.json"
    assert (done["progress"], done["message"], done["attempt"]) == (100, "second step done", 1)
    assert done["result"] is done["error"] is None


@pytest.mark.usefixtures("one_worker")
def test_a_task_has_no_started_at_while_it_waits_for_a_worker(api: Api) -> None:
    running = api.create("gate")
    wait_for(lambda: api.poll(running)["started_at"])
    waiting = api.poll(api.create("gate"))
    assert (waiting["status"], waiting["started_at"], waiting["attempt"]) == ("pending", None, 0)
    kinds.gate.set()
    assert moment(api.wait(waiting)["started_at"]) >= moment(api.wait(running)["finished_at"])


@pytest.mark.parametrize(
    ("how", "code", "detail"),
    [
        ("no such luck", "exception", "ValueError: no such luck"),
        ("exit", "exception", "SystemExit: 3"),
        *((how, "invalid-result", "") for how in kinds.BROKEN_RESULTS),
    ],
)
def test_a_failed_task_shows_its_error_and_only_the_log_has_the_traceback(
    api: Api, caplog: pytest.LogCaptureFixture, how: str, code: str, detail: str
) -> None:
    entry = api.create("broken", how=how)
    failed = api.wait(entry)
    assert failed["status"] == "failed"
    assert failed["error"]["code"] == code
    assert failed["error"]["detail"].startswith(detail)
    assert len(failed["error"]["detail"]) > 5
    assert failed["result"] is None
    assert failed["file_path"] == ""
    assert moment(failed["finished_at"]) >= moment(failed["started_at"])
    wait_for(lambda: "Traceback" in caplog.text)
    (record,) = [record for record in caplog.records if "Traceback" in record.getMessage()]
    assert record.levelno == logging.ERROR
    assert entry["id"] in record.getMessage()
    for leak in ("Traceback", "kinds.py", "line "):
        assert leak not in str(failed)


def test_a_failure_does_not_end_its_worker(api: Api, request: pytest.FixtureRequest) -> None:
    request.getfixturevalue("one_worker")
    for how in ("exit", "an error", "a set"):
        assert api.wait(api.create("broken", how=how))["status"] == "failed"
    assert api.wait(api.create("echo"))["status"] == "completed"


def test_a_very_long_error_detail_is_truncated(api: Api) -> None:
    detail = api.wait(api.create("broken", how="é" * 5000))["error"]["detail"]
    assert detail.startswith("ValueError: é")
    assert len(detail) == 1000


def test_primes_are_counted_up_to_and_including_the_limit(api: Api) -> None:
    counts = {0: 0, 1: 0, 2: 1, 3: 2, 4: 2, 10: 4, 25: 9, 1000: 168, 10_000: 1229, 1_000_000: 78_498}
    entries = [api.create("prime-count", limit=limit) for limit in counts]
    assert [api.wait(entry)["result"] for entry in entries] == [{"count": count} for count in counts.values()]


@pytest.mark.parametrize("name", ["🧪 👩‍👩‍👧‍👦 naïve", "שלום עולם", "x" * 255])
def test_a_name_is_returned_as_it_was_sent(api: Api, name: str) -> None:
    done = api.wait(api.create("echo", name=name))
    assert done["name"] == done["result"]["name"] == name


# The response


def test_a_response_may_not_be_cached_and_suggests_when_to_poll_again(api: Api) -> None:
    entry = api.create("gate")
    path = f"/poll-gate/{entry['id']}"
    pending = api.get(path)
    assert pending["Content-Type"] == "application/json"
    assert pending["Cache-Control"] == "no-store"
    assert int(pending["Retry-After"]) >= 1
    kinds.gate.set()
    api.wait(entry)
    ended = api.get(path)
    assert ended["Cache-Control"] == "no-store"
    assert not ended.has_header("Retry-After")


def test_a_head_response_has_no_body(api: Api, client: Client) -> None:
    answer = client.head(f"/poll-gate/{api.create('gate')['id']}")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    assert int(answer["Retry-After"]) >= 1
    assert answer.content == b""


def test_upper_case_and_a_trailing_slash_make_no_difference(api: Api) -> None:
    entry = api.wait(api.create())
    for path in (
        f"/poll-task/{entry['id']}/",
        f"/poll-task/{entry['id'].upper()}",
        f"/poll-task/{entry['id'].upper()}/",
    ):
        answer = api.get(path)
        assert answer.status_code == 200
        assert answer.json() == entry


def test_a_poll_changes_nothing(api: Api) -> None:
    entry = api.wait(api.create())
    before = stored()
    assert [api.poll(entry) for _ in range(3)] == [entry] * 3
    assert stored() == before


# The version


def etag(entry: dict[str, Any]) -> str:
    return f'"{entry["version"]}"'


def at_gate(api: Api) -> dict[str, Any]:
    """Create a task and wait until it has reached the gate; it changes no more until the gate opens."""
    entry = api.create("gate")
    wait_for(lambda: api.poll(entry)["message"])
    return api.poll(entry)


def test_every_entry_has_its_version_as_etag(api: Api) -> None:
    created = api.post("/create-gate", {"name": "x"})
    entry = created.json()
    wait_for(lambda: api.poll(entry)["message"])
    polled, cancelled = api.get(f"/poll-gate/{entry['id']}"), api.delete(entry)
    assert [answer["ETag"] for answer in (created, polled, cancelled)] == ['"1"', '"3"', '"4"']
    for answer in (created, polled, cancelled):
        assert answer["ETag"] == etag(answer.json())
        assert answer["Cache-Control"] == "no-store"
    assert not cancelled.has_header("Retry-After")


@pytest.mark.parametrize(
    "known",
    ["{0}", "W/{0}", '"0", {0}', '{0},"0"', ' W/"x" ,  W/{0} , "y"', '"a,b", {0}', "*", " * "],
)
def test_a_version_that_the_client_knows_is_not_sent_again(api: Api, known: str) -> None:
    entry = at_gate(api)
    path = f"/poll-gate/{entry['id']}"
    pending = api.get(path, **{"If-None-Match": known.format(etag(entry))})
    assert pending.status_code == 304
    assert pending["ETag"] == etag(entry)
    assert 1 <= int(pending["Retry-After"]) <= 30
    kinds.gate.set()
    entry = api.wait(entry)
    ended = api.get(path, **{"If-None-Match": known.format(etag(entry))})
    assert ended.status_code == 304
    assert ended["ETag"] == etag(entry)
    assert not ended.has_header("Retry-After")
    for answer in (pending, ended):
        assert answer.content == b""
        assert not answer.has_header("Content-Type")
        assert answer["Cache-Control"] == "no-store"
        assert answer["Vary"] == "Accept"


@pytest.mark.parametrize(
    "known", ["", '"0"', "{1}", '"{1}', "W/{1}", '"W/{1}"', '"*"', "w/{0}", "{0}{0}x", "'{1}'", '"1", "2"', '"{1}{1}"']
)
def test_any_other_version_gets_the_entry(api: Api, known: str) -> None:
    entry = at_gate(api)
    header = known.format(etag(entry), entry["version"])
    answer = api.get(f"/poll-gate/{entry['id']}", **{"If-None-Match": header})
    assert answer.status_code == 200
    assert answer.json() == entry
    assert answer["ETag"] == etag(entry)


def test_if_none_match_has_no_effect_on_a_cancel_or_a_refusal(api: Api) -> None:
    entry = at_gate(api)
    headers = {"If-None-Match": "*"}
    assert_problem(api.get(f"/poll-gate/{UNKNOWN}", **headers), 404)
    assert_problem(api.get("/poll-gate/x", **headers), 400)
    assert api.client.delete(f"/poll-gate/{entry['id']}", headers=headers).status_code == 200


# Refusals


@pytest.mark.parametrize("task_id", [UNKNOWN, str(uuid.UUID(int=0)), str(uuid.UUID(int=2**128 - 1))])
def test_an_unknown_task_is_not_found(api: Api, task_id: str) -> None:
    assert_problem(api.get(f"/poll-task/{task_id}"), 404, "id")


def test_a_task_is_not_found_under_another_kind(api: Api) -> None:
    entry = api.create("gate")
    for kind in ("task", "prime-count", "echo"):
        assert_problem(api.get(f"/poll-{kind}/{entry['id']}"), 404, "id")


@modes.before_the_registry
@pytest.mark.parametrize(
    "spelling",
    [
        "x", "1", "{{{0}}}", "{1}", "urn:uuid:{0}", "urn:{1}", "{{{{{1}}}}}", "uuid:{1}", "----{1}", "{0}0", "0{0}",
        "%20{0}", "{0}%20", "{0}%0A", "%00{0}", "{0}.json", "%EF%BC%91{0}", "..", "null", "x" * 5000,
    ],
)  # fmt: skip
def test_an_id_that_is_not_a_uuid_is_refused(api: Api, spelling: str) -> None:
    entry = api.create("gate")
    path = "/poll-gate/" + spelling.format(entry["id"], entry["id"].replace("-", ""))
    assert_problem(api.get(path), 400, "UUID")


@modes.before_the_registry
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "TRACE"])
def test_an_unsupported_method_is_refused_with_an_allow_header(api: Api, client: Client, method: str) -> None:
    entry = api.wait(api.create())
    answer = client.generic(method, f"/poll-task/{entry['id']}", b"{}", content_type="application/json")
    assert_problem(answer, 405, "GET")
    assert "GET" in answer["Allow"].split(", ")
    assert method not in answer["Allow"].split(", ")
    assert api.poll(entry) == entry


@pytest.mark.parametrize("accept", ["text/plain", "image/png"])
def test_a_poll_that_accepts_only_other_types_is_refused(api: Api, accept: str) -> None:
    assert_problem(api.get(f"/poll-gate/{api.create('gate')['id']}", Accept=accept), 406, "application/json")


@pytest.mark.parametrize("accept", ["*/*", "application/json;q=0.9, */*;q=0.1", "text/csv, application/json"])
def test_the_response_is_json_unless_a_browser_asks(api: Api, accept: str) -> None:
    answer: Any = api.get(f"/poll-gate/{api.create('gate')['id']}", Accept=accept)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
