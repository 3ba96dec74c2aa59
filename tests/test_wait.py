"""Requests that wait for changes of a task in a thread; in test_rsgi.py the server waits without one."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from django.conf import LazySettings

from tasks.dispatch import get_dispatcher
from tasks.registry import get_registry
from tests import kinds, modes
from tests.helpers import BROWSER, Api, assert_problem, stored, wait_for, wait_for_waiters

# Far longer than a test takes, so only a change of the task can end the wait.
LONG = "30"
PREFER = {"Prefer": f"wait={LONG}"}


@pytest.fixture
def clients() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that wait."""
    with ThreadPoolExecutor(20) as clients:
        yield clients
        kinds.gate.set()


def path_of(entry: dict[str, Any]) -> str:
    return f"/poll-{entry['kind']}/{entry['id']}"


def at_gate(api: Api, kind: str = "gate", **fields: Any) -> dict[str, Any]:
    """Create a task and wait until it runs; it changes no more until the gate opens."""
    entry = api.create(kind, **fields)
    wait_for(lambda: (now := api.poll(entry))["started_at"] and (now["message"] or kind != "gate"))
    return api.poll(entry)


def start_waiting(clients: ThreadPoolExecutor, ask: Callable[..., Any], *args: Any, **headers: str) -> Future[Any]:
    """Send a request, and return when it has begun to wait."""
    request = clients.submit(ask, *args, **headers)
    wait_for_waiters(1)
    return request


def answer_of(request: Future[Any]) -> Any:
    return request.result(timeout=20)


def is_granted(answer: Any) -> bool:
    return bool(answer.has_header("Preference-Applied"))


# The end of the task


def open_gate(api: Api, entry: dict[str, Any]) -> None:
    kinds.gate.set()


def cancel(api: Api, entry: dict[str, Any]) -> None:
    assert api.delete(entry).status_code == 200


def drain(api: Api, entry: dict[str, Any]) -> None:
    get_dispatcher().drain(timeout=0)


class Ending(NamedTuple):
    """A task, the action that changes it, and the status it then has."""

    kind: str
    fields: dict[str, Any]
    act: Callable[[Api, dict[str, Any]], None]
    status: str


@pytest.mark.parametrize(
    "ending",
    [
        Ending("gate", {}, open_gate, "completed"),
        Ending("thread", {"do": "fail-at-gate"}, open_gate, "failed"),
        Ending("gate", {}, cancel, "cancelled"),
        Ending("async", {"do": "sleep", "seconds": 600}, cancel, "cancelled"),
        pytest.param(Ending("gate", {}, drain, "failed"), marks=modes.alone),
    ],
    ids=["completed", "failed", "cancelled", "a cancelled coroutine", "interrupted"],
)
def test_a_poll_that_waits_is_answered_when_the_task_ends(
    api: Api, clients: ThreadPoolExecutor, ending: Ending
) -> None:
    entry = at_gate(api, ending.kind, **ending.fields)
    request = start_waiting(clients, api.get, path_of(entry), **PREFER)
    ending.act(api, entry)
    answer = answer_of(request)
    assert answer.status_code == 200
    assert answer["Preference-Applied"] == f"wait={LONG}"
    assert answer.json()["status"] == ending.status
    assert answer.json() == api.poll(entry)
    assert not answer.has_header("Retry-After")


@pytest.mark.usefixtures("one_worker")
def test_a_poll_can_wait_for_a_task_that_waits_for_a_worker(api: Api, clients: ThreadPoolExecutor) -> None:
    at_gate(api)
    request = start_waiting(clients, api.get, path_of(api.create("gate")), **PREFER)
    kinds.gate.set()
    assert answer_of(request).json()["status"] == "completed"


def test_a_wait_continues_through_progress_and_further_attempts(api: Api, clients: ThreadPoolExecutor) -> None:
    request = clients.submit(
        api.post, "/create-thread-retry", {"name": "x", "do": "fail-until", "times": 3}, Prefer=f"wait={LONG}"
    )
    ended = answer_of(request).json()
    assert (ended["status"], ended["attempt"]) == ("completed", 3)


def test_all_requests_that_wait_for_a_task_are_answered(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    requests = [clients.submit(api.get, path_of(entry), **PREFER) for _ in range(20)]
    wait_for_waiters(20)
    kinds.gate.set()
    assert [answer_of(request).json()["status"] for request in requests] == ["completed"] * 20


def test_the_end_of_one_task_does_not_end_the_wait_for_another(api: Api, clients: ThreadPoolExecutor) -> None:
    entry, other = at_gate(api), at_gate(api)
    request = start_waiting(clients, api.get, path_of(entry), **PREFER)
    api.delete(other)
    api.wait(api.create("async"))
    kinds.gate.set()
    assert answer_of(request).json()["status"] == "completed"


def test_a_wait_can_be_requested_in_the_query_string(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    request = start_waiting(clients, api.get, f"{path_of(entry)}?wait={LONG}")
    kinds.gate.set()
    answer = answer_of(request)
    assert answer.json()["status"] == "completed"
    assert not is_granted(answer)


def test_a_head_request_can_wait(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    request = start_waiting(clients, lambda: api.client.head(path_of(entry), headers=PREFER))
    kinds.gate.set()
    answer = answer_of(request)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not answer.has_header("Retry-After")


def test_a_wait_for_an_ended_task_is_answered_immediately(api: Api) -> None:
    entry = api.wait(api.create())
    for answer in (api.get(path_of(entry), **PREFER), api.get(f"{path_of(entry)}?wait={LONG}")):
        assert answer.json() == entry
    assert api.get(path_of(entry), **PREFER)["Preference-Applied"] == f"wait={LONG}"


# The end of the wait


def test_a_wait_that_times_out_returns_the_current_entry(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    path, etag = path_of(entry), f'"{entry["version"]}"'
    began = monotonic()
    requests = [
        clients.submit(api.get, path, Prefer="wait=1"),
        clients.submit(api.get, f"{path}?wait=1"),
        clients.submit(api.get, f"{path}?wait=1", **{"If-None-Match": etag}),
        clients.submit(api.post, "/create-gate", {"name": "x"}, Prefer="wait=1"),
        clients.submit(api.post, "/create-gate?wait=1", {"name": "x"}),
    ]
    answers = [answer_of(request) for request in requests]
    assert monotonic() - began >= 1
    assert [answer.status_code for answer in answers] == [200, 200, 304, 201, 201]
    assert [answer.get("Preference-Applied") for answer in answers] == ["wait=1", None, None, "wait=1", None]
    assert [answer.json()["status"] for answer in answers if answer.content] == ["pending"] * 4
    assert all(1 <= int(answer["Retry-After"]) <= 30 for answer in answers)


@pytest.mark.parametrize(
    ("setting", "requested", "applied"), [(7, "100", "7"), (7, "999999999", "7"), (7, "5", "5"), (7.9, "8", "7")]
)
def test_a_wait_is_limited_by_the_setting(
    api: Api, settings: LazySettings, setting: float, requested: str, applied: str
) -> None:
    settings.TASK_WAIT_SECONDS = setting
    path = path_of(api.wait(api.create()))
    assert api.get(path, Prefer=f"wait={requested}")["Preference-Applied"] == f"wait={applied}"
    both = api.get(f"{path}?wait={requested}", Prefer="wait=1")
    assert both["Preference-Applied"] == f"wait={applied}"


def test_a_wait_of_zero_seconds_is_answered_immediately(api: Api, settings: LazySettings) -> None:
    entry = at_gate(api)
    assert api.get(path_of(entry), Prefer="wait=0")["Preference-Applied"] == "wait=0"
    settings.TASK_WAIT_SECONDS = 0
    answer = api.get(path_of(entry), **PREFER)
    assert (answer["Preference-Applied"], answer.json()["status"]) == ("wait=0", "pending")


# How a wait is requested


@modes.before_the_registry
@pytest.mark.parametrize(
    "wait",
    ["", "x", "-1", "+1", "1.5", "1e3", "%201", "1%20", "%D9%A1", "%C2%B2", "9" * 10, "0x1", "1s", "1,2", "True"],
)
def test_an_invalid_wait_in_the_query_string_is_refused_and_stores_nothing(api: Api, wait: str) -> None:
    assert_problem(api.post(f"/create-gate?wait={wait}", {"name": "x"}), 400, "?wait=30")
    assert_problem(api.post(f"/create-gate?wait={wait}", {"name": "x"}, Prefer="wait=1"), 400, "?wait=30")
    assert stored() == {}
    entry = api.create("gate")
    assert_problem(api.get(f"{path_of(entry)}?wait={wait}"), 400, "?wait=30")
    assert_problem(api.get(f"{path_of(entry)}?wait={wait}", **{"If-None-Match": "*"}), 400, "?wait=30")


@pytest.mark.parametrize(
    "prefer",
    [
        "", "wait", "wait=", "wait=x", "wait=-1", "wait=+1", "wait=1.5", 'wait=""', 'wait="1s"', "wait=9999999999",
        "wait 5", "waiting=5", "=5", ";", ",", '"', 'x="wait=5', "wait=x, wait=5", "respond-async",
        "return=minimal, handling=strict", 'x="a, wait=5"', "x; wait=5",
    ],
)  # fmt: skip
def test_an_invalid_or_unknown_preference_is_ignored(api: Api, prefer: str) -> None:
    entry = api.create("gate")
    polled = api.get(path_of(entry), Prefer=prefer)
    created = api.post("/create-gate", {"name": "x"}, Prefer=prefer)
    assert (polled.status_code, created.status_code) == (200, 201)
    for answer in (polled, created):
        assert answer.json()["status"] == "pending"
        assert not is_granted(answer)


@pytest.mark.parametrize(
    "prefer",
    [
        "wait=5", "Wait=5", "WAIT = 5", 'wait="5"', "wait=005", "respond-async, wait=5", "respond-async,wait=5,x=y",
        "wait=5; x=y", "wait=5;wait=9", "wait=5, wait=9", 'x="a, wait=9", wait=5', ", wait=5",
    ],
)  # fmt: skip
def test_a_preference_is_understood_however_it_is_written(api: Api, prefer: str) -> None:
    path = path_of(api.wait(api.create()))
    assert api.get(path, Prefer=prefer)["Preference-Applied"] == "wait=5"


# A known version


def test_a_wait_with_a_known_version_ends_with_the_next_version(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = api.create("thread", do="progress", seconds=600)
    seen = [entry]
    while len(seen) < 5:
        request = clients.submit(api.get, path_of(entry), **PREFER, **{"If-None-Match": f'"{seen[-1]["version"]}"'})
        answer = answer_of(request)
        assert answer.status_code == 200
        assert is_granted(answer)
        seen.append(answer.json())
        assert answer["ETag"] == f'"{seen[-1]["version"]}"'
    versions = [now["version"] for now in seen]
    assert versions == sorted(set(versions))
    assert {now["status"] for now in seen} == {"pending"}


@pytest.mark.parametrize(
    "ending",
    [
        Ending("gate", {}, open_gate, "completed"),
        Ending("gate", {}, cancel, "cancelled"),
        Ending("thread-late-retry", {"do": "fail-at-gate"}, open_gate, "pending"),
    ],
    ids=["completed", "cancelled", "to be retried"],
)
def test_a_wait_with_a_known_version_ends_with_any_change(
    api: Api, clients: ThreadPoolExecutor, ending: Ending
) -> None:
    entry = at_gate(api, ending.kind, **ending.fields)
    known = {"If-None-Match": f'"{entry["version"]}"'}
    request = start_waiting(clients, api.get, path_of(entry), **PREFER, **known)
    ending.act(api, entry)
    answer = answer_of(request)
    assert answer.status_code == 200
    assert answer.json()["status"] == ending.status
    assert answer.json()["version"] > entry["version"]


@pytest.mark.usefixtures("one_worker")
def test_a_wait_with_a_known_version_ends_when_a_worker_begins(api: Api, clients: ThreadPoolExecutor) -> None:
    at_gate(api)
    waiting = api.create("thread", do="sleep", seconds=600)
    request = start_waiting(clients, api.get, path_of(waiting), **PREFER, **{"If-None-Match": '"1"'})
    kinds.gate.set()
    assert answer_of(request).json()["started_at"]


def test_a_wait_with_any_other_version_is_answered_immediately(api: Api) -> None:
    entry = at_gate(api)
    for known in ('"1"', '"999"', '"x"', ""):
        answer = api.get(path_of(entry), **PREFER, **{"If-None-Match": known})
        assert answer.json() == entry
        assert is_granted(answer)


def test_a_wait_for_changes_of_an_ended_task_is_answered_immediately(api: Api) -> None:
    entry = api.wait(api.create("async"))
    answer = api.get(path_of(entry), **PREFER, **{"If-None-Match": f'"{entry["version"]}"'})
    assert answer.status_code == 304
    assert is_granted(answer)


def test_a_wait_with_a_wildcard_version_lasts_until_the_task_ends(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    request = start_waiting(clients, api.get, path_of(entry), **PREFER, **{"If-None-Match": "*"})
    kinds.gate.set()
    answer = answer_of(request)
    assert answer.status_code == 304
    assert answer["ETag"] == f'"{api.poll(entry)["version"]}"'
    assert not answer.has_header("Retry-After")


def test_a_wait_ends_when_its_task_is_removed(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    request = start_waiting(clients, api.get, path_of(entry), **PREFER)
    get_registry().remove(UUID(entry["id"]))
    assert_problem(answer_of(request), 404)


# A create that waits


@pytest.mark.parametrize("kind", ["task", "thread", "async", "process"])
def test_a_short_task_needs_one_request(api: Api, kind: str) -> None:
    answer = api.post(f"/create-{kind}", {"name": "x"}, **PREFER)
    entry = answer.json()
    assert answer.status_code == 201
    assert entry["status"] == "completed"
    assert answer["Location"] == path_of(entry)
    assert answer["ETag"] == f'"{entry["version"]}"'
    assert answer["Preference-Applied"] == f"wait={LONG}"
    assert not answer.has_header("Retry-After")
    assert api.poll(entry) == entry


def test_a_create_can_wait_by_its_query_string_and_for_a_browser(api: Api) -> None:
    assert api.post(f"/create-async?wait={LONG}", {"name": "x"}).json()["status"] == "completed"
    page = api.client.post(f"/create-async?wait={LONG}", {"name": "x"}, headers={"Accept": BROWSER})
    assert page.status_code == 201
    assert page["Content-Type"].startswith("text/html")
    assert "completed" in page.content.decode()


def test_a_create_that_waits_is_answered_however_its_task_ends(api: Api, clients: ThreadPoolExecutor) -> None:
    failed = api.post("/create-broken", {"name": "x", "how": "no luck"}, **PREFER)
    assert (failed.status_code, failed.json()["error"]["detail"]) == (201, "ValueError: no luck")
    request = start_waiting(clients, api.post, "/create-gate", {"name": "x"}, **PREFER)
    (task_id,) = (task_id for task_id, entry in stored().items() if not entry.ended)
    cancel(api, {"kind": "gate", "id": task_id})
    answer = answer_of(request)
    assert (answer.status_code, answer.json()["status"]) == (201, "cancelled")


def test_a_refused_create_does_not_wait(api: Api) -> None:
    get_dispatcher().drain(timeout=0)
    assert_problem(api.post("/create-gate", {"name": "x"}, **PREFER), 503)
    assert_problem(api.post("/create-gate", {"name": ""}, **PREFER), 400)
    assert stored() == {}


def test_none_of_many_waiting_creates_misses_the_end_of_its_task(api: Api, clients: ThreadPoolExecutor) -> None:
    def create(number: int) -> Any:
        return api.post("/create-async", {"name": f"task {number}"}, **PREFER).json()

    entries = list(clients.map(create, range(300), timeout=40))
    assert [(entry["name"], entry["status"]) for entry in entries] == [
        (f"task {number}", "completed") for number in range(300)
    ]


# The waiter limit


@pytest.fixture
def _one_waiter(settings: LazySettings) -> None:
    settings.TASK_MAX_WAITERS = 1


@pytest.mark.usefixtures("_one_waiter")
def test_a_request_beyond_the_waiter_limit_immediately_gets_the_current_entry(
    api: Api, clients: ThreadPoolExecutor
) -> None:
    entry, ended = at_gate(api), api.wait(api.create())
    request = start_waiting(clients, api.get, path_of(entry), **PREFER)
    known = {"If-None-Match": f'"{entry["version"]}"'}
    answers = [
        api.get(path_of(entry), **PREFER),
        api.get(f"{path_of(entry)}?wait={LONG}"),
        api.get(path_of(entry), **PREFER, **known),
        api.post("/create-gate", {"name": "x"}, **PREFER),
    ]
    assert not request.done()
    assert [answer.status_code for answer in answers] == [200, 200, 304, 201]
    assert not any(is_granted(answer) for answer in answers)
    assert [answer.json()["status"] for answer in answers if answer.content] == ["pending"] * 3
    assert all(int(answer["Retry-After"]) >= 1 for answer in answers)
    assert api.poll(entry) == entry
    assert is_granted(api.get(path_of(ended), **PREFER))  # it does not have to wait
    kinds.gate.set()
    assert answer_of(request).json()["status"] == "completed"


@pytest.mark.usefixtures("_one_waiter")
def test_a_request_no_longer_counts_in_the_waiter_limit_after_its_wait(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    assert is_granted(api.get(path_of(entry), Prefer="wait=0"))
    assert is_granted(api.get(path_of(entry), Prefer="wait=0", **{"If-None-Match": "*"}))
    assert is_granted(api.post("/create-gate", {"name": "x"}, Prefer="wait=0"))
    for _ in range(3):
        request = start_waiting(
            clients, api.post, "/create-async", {"name": "x", "do": "tidy", "seconds": 600}, **PREFER
        )
        assert not is_granted(api.get(path_of(entry), Prefer="wait=0"))
        (running,) = (task_id for task_id, found in stored().items() if found.kind == "async" and not found.ended)
        cancel(api, {"kind": "async", "id": running})
        assert answer_of(request).json()["status"] == "cancelled"
        assert is_granted(api.get(path_of(entry), Prefer="wait=0"))


def test_the_metrics_count_the_waiting_requests(api: Api, clients: ThreadPoolExecutor) -> None:
    entry = at_gate(api)
    assert b"tasks_waiters 0.0" in api.get("/metrics").content
    requests = [clients.submit(api.get, path_of(entry), **PREFER) for _ in range(3)]
    wait_for_waiters(3)
    metrics = api.get("/metrics").content
    assert b"# HELP tasks_waiters Requests that wait for changes." in metrics
    assert b"tasks_waiters 3.0" in metrics
    kinds.gate.set()
    for request in requests:
        answer_of(request)
    assert b"tasks_waiters 0.0" in api.get("/metrics").content
