"""The list of all tasks, in pages."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.test import Client

from tasks.dispatch import retention
from tasks.kinds import get_kinds
from tasks.registry import Position, get_registry
from tasks.rest import pagination
from tests import modes
from tests.helpers import BROWSER, Api, Page, assert_problem, stored, wait_for

TASK_ID = "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"


@pytest.fixture
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagination, "PAGE_SIZE", 3)


def listed(api: Api, url: str = "/tasks") -> dict[str, Any]:
    answer = api.get(url)
    assert answer.status_code == 200, answer.content
    page: dict[str, Any] = answer.json()
    assert set(page) == {"next", "previous", "results"}
    return page


def ids(page: dict[str, Any]) -> list[str]:
    return [entry["id"] for entry in page["results"]]


def walk(api: Api, link: str, url: str | None = "/tasks") -> Iterator[dict[str, Any]]:
    """Yield the page at that URL, and all that follow from it by `next` or by `previous`."""
    while url is not None:
        page = listed(api, url)
        yield page
        url = page[link]


def pending(api: Api, count: int) -> list[str]:
    """Create `count` tasks and return their ids, newest first; none of them ends, and one of them runs."""
    return [api.create("thread-single", do="sleep", seconds=600)["id"] for _ in range(count)][::-1]


def expire(*task_ids: str) -> None:
    """Cancel these tasks, and let them expire immediately."""
    for task_id in task_ids:
        get_registry().change(UUID(task_id), lambda now: replace(now.cancelled(), expires_at=datetime.now(UTC)))


# One page


def test_all_tasks_are_listed_newest_first_with_their_current_state(api: Api) -> None:
    assert listed(api) == {"next": None, "previous": None, "results": []}
    entries = [api.create("async"), api.create("task"), api.create("broken", how="x"), api.create("gate")]
    entries = [api.wait(entry) for entry in entries[:3]] + entries[3:]
    wait_for(lambda: api.poll(entries[3])["message"])
    entries[3] = api.poll(entries[3])
    assert listed(api) == {"next": None, "previous": None, "results": entries[::-1]}


def test_the_list_may_not_be_cached(api: Api) -> None:
    answer = api.get("/tasks")
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "no-store"


def test_a_trailing_slash_makes_no_difference(api: Api) -> None:
    pending(api, 1)
    assert ids(listed(api, "/tasks/")) == ids(listed(api))


def test_a_page_has_fifty_tasks(api: Api) -> None:
    everything = pending(api, 51)
    first = listed(api)
    assert ids(first) == everything[:50]
    assert ids(listed(api, first["next"])) == everything[50:]


def test_a_head_response_has_no_body(client: Client) -> None:
    answer = client.head("/tasks")
    assert (answer.status_code, answer.content) == (200, b"")


@modes.before_the_registry
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_list_is_read_only(client: Client, method: str) -> None:
    assert_problem(client.generic(method, "/tasks", b"{}", content_type="application/json"), 405, "GET")


def test_an_expired_task_is_not_listed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 600)  # so that no sweep drops it
    kept, expired = api.wait(api.create("async")), api.wait(api.create("async"))
    soon = datetime.now(UTC) + timedelta(seconds=0.1)
    get_registry().change(UUID(expired["id"]), lambda now: replace(now, expires_at=soon))
    wait_for(lambda: api.get(f"/poll-async/{expired['id']}").status_code == 410)
    assert ids(listed(api)) == [kept["id"]]
    assert ids(listed(api, "/tasks?status=completed&kind=async")) == [kept["id"]]


@pytest.mark.usefixtures("one_worker")
def test_a_refused_task_is_not_listed(api: Api) -> None:
    running = api.create("gate")
    wait_for(lambda: api.poll(running)["started_at"])
    waiting = api.create("gate")
    assert_problem(api.post("/create-gate", {"name": "x"}), 503)
    assert ids(listed(api)) == [waiting["id"], running["id"]]


# Filters


def test_the_list_can_be_filtered_by_kind_and_by_status(api: Api) -> None:
    gate, running = api.create("gate"), api.create("async", do="sleep", seconds=600)
    done, failed, cancelled = api.create("async"), api.create("thread", do="fail-for-good"), api.create("gate")
    api.delete(cancelled)
    for entry in (done, failed):
        api.wait(entry)
    expected = {
        "kind=gate": [cancelled, gate],
        "kind=async": [done, running],
        "kind=echo": [],
        "status=pending": [running, gate],
        "status=completed": [done],
        "status=failed": [failed],
        "status=cancelled": [cancelled],
        "kind=async&status=pending": [running],
        "status=cancelled&kind=gate": [cancelled],
        "kind=thread&status=completed": [],
        "other=1": [cancelled, failed, done, running, gate],
    }
    found = {query: ids(listed(api, f"/tasks?{query}")) for query in expected}
    assert found == {query: [entry["id"] for entry in entries] for query, entries in expected.items()}


@modes.before_the_registry
@pytest.mark.parametrize("kind", ["", "x", "Task", "task,gate", "task%20", "%00", "%FF", "%F0%9F%A7%AA"])
def test_an_unknown_kind_is_refused_and_the_known_kinds_are_named(api: Api, kind: str) -> None:
    problem = assert_problem(api.get(f"/tasks?kind={kind}"), 400, "`kind`")
    for known in get_kinds():
        assert known in problem["detail"]


@modes.before_the_registry
@pytest.mark.parametrize("status", ["", "x", "Pending", "running", "pending,failed", "None"])
def test_an_unknown_status_is_refused_and_the_known_statuses_are_named(api: Api, status: str) -> None:
    problem = assert_problem(api.get(f"/tasks?status={status}"), 400, "`status`")
    for known in ("pending", "completed", "failed", "cancelled"):
        assert known in problem["detail"]


# Walks through the pages


@pytest.mark.usefixtures("_small_pages")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6, 7])
def test_next_leads_to_the_oldest_and_previous_back_to_the_newest(api: Api, count: int) -> None:
    everything = pending(api, count)
    pages = list(walk(api, "next"))
    assert [ids(page) for page in pages] == [everything[start : start + 3] for start in range(0, max(count, 1), 3)]
    assert pages[0]["previous"] is None
    back = list(walk(api, "previous", pages[-2]["next"] if len(pages) > 1 else "/tasks"))
    assert [task_id for page in back[::-1] for task_id in ids(page)] == everything
    assert back[-1]["previous"] is None
    assert all(page["next"] for page in back[1:])


@pytest.mark.usefixtures("_small_pages")
def test_every_link_is_absolute_and_keeps_the_query_parameters(api: Api) -> None:
    pending(api, 9)
    second = listed(api, listed(api, "/tasks/?kind=thread-single&status=pending&x=%C3%A9")["next"])
    for link in ("next", "previous"):
        url = urlsplit(second[link])
        assert (url.scheme, url.netloc, url.path) == ("http", "testserver", "/tasks/")
        query = parse_qs(url.query)
        assert set(query) == {"kind", "status", "x", "cursor"}
        assert (query["kind"], query["status"], query["x"]) == (["thread-single"], ["pending"], ["é"])


@pytest.mark.usefixtures("_small_pages")
def test_filters_apply_to_all_pages(api: Api) -> None:
    wanted = []
    for _ in range(7):
        wanted += pending(api, 1)
        api.create("gate")
        api.delete(api.create("thread-single"))
    pages = list(walk(api, "next", "/tasks?kind=thread-single&status=pending"))
    assert [ids(page) for page in pages] == [wanted[::-1][start : start + 3] for start in (0, 3, 6)]
    back = list(walk(api, "previous", pages[1]["next"]))
    assert [task_id for page in back[::-1] for task_id in ids(page)] == wanted[::-1]


@pytest.mark.usefixtures("_small_pages")
def test_a_walk_is_not_disturbed_by_new_tasks(api: Api) -> None:
    everything = pending(api, 7)
    seen: list[str] = []
    new: list[str] = []
    for page in walk(api, "next"):
        seen += ids(page)
        new = pending(api, 2) + new
        last = page
    assert seen == everything
    assert last["previous"] is not None
    back = [ids(page) for page in walk(api, "previous", last["previous"])]
    assert [task_id for page in back[::-1] for task_id in page] == new + everything[:6]


@pytest.mark.usefixtures("_small_pages")
def test_a_walk_continues_after_the_tasks_of_its_page_have_expired(api: Api) -> None:
    everything = pending(api, 9)
    first = listed(api)
    second = listed(api, first["next"])
    expire(*everything[3:7])
    assert ids(listed(api, second["next"])) == everything[7:]
    assert ids(listed(api, second["previous"])) == everything[:3]
    assert [task_id for page in walk(api, "next") for task_id in ids(page)] == everything[:3] + everything[7:]


@pytest.mark.usefixtures("_small_pages")
def test_a_page_whose_tasks_have_all_expired_still_links_to_the_others(api: Api) -> None:
    everything = pending(api, 9)
    second = listed(api, listed(api)["next"])
    expire(*everything[:3])
    newer = listed(api, second["previous"])
    assert (ids(newer), newer["previous"]) == ([], None)
    assert [task_id for page in walk(api, "next", newer["next"]) for task_id in ids(page)] == everything[3:]
    expire(*everything[6:])
    older = listed(api, second["next"])
    assert (ids(older), older["next"]) == ([], None)
    assert [task_id for page in walk(api, "previous", older["previous"]) for task_id in ids(page)] == everything[3:6]


def test_no_walk_misses_or_repeats_a_task_while_others_come_and_go(
    api: Api, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pagination, "PAGE_SIZE", 7)
    settings.TASK_MAX_ENTRIES = 5  # so that ended tasks soon expire
    pending_ids: set[str] = set()
    stop = threading.Event()

    def come_and_go() -> None:
        for _ in range(150):
            if stop.is_set():
                return
            api.delete(api.create("thread-single"))
            api.create("async")
            pending_ids.update(pending(api, 1))

    pending_ids.update(pending(api, 20))
    with ThreadPoolExecutor(2) as others:
        running = [others.submit(come_and_go) for _ in range(2)]
        try:
            for _ in range(4):
                for link, url in (("next", "/tasks"), ("previous", oldest_page(api))):
                    before = set(pending_ids)
                    seen = [task_id for page in walk(api, link, url) for task_id in ids(page)]
                    assert len(seen) == len(set(seen))
                    assert before <= set(seen)
        finally:
            stop.set()
        for one in running:
            one.result()


def oldest_page(api: Api) -> str:
    """Return the URL of the page with the oldest tasks, where a walk to the newest begins."""
    *_, last = walk(api, "next")
    cursor = pagination.Cursor(Position(datetime(2020, 1, 1, tzinfo=UTC), UUID(TASK_ID)), is_after=True)
    assert last["next"] is None
    return f"/tasks?cursor={cursor}"


# Invalid cursors


MOMENT = "2026-01-02T03:04:05.678901"


def cursor(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


@modes.before_the_registry
@pytest.mark.parametrize(
    "value",
    [
        "", "x", "=", "before", "%F0%9F%A7%AA", "%00", "a" * 4000, cursor("x"), cursor("||"), cursor("|" * 20_000),
        base64.urlsafe_b64encode(b"\xff\xfe|\xff|\xff").decode(), cursor(f"before|{MOMENT}+00:00|{TASK_ID}")[:-3],
    ],
    ids=lambda value: value[:30],
)  # fmt: skip
def test_a_malformed_cursor_is_refused(api: Api, value: str) -> None:
    pending(api, 1)
    assert_problem(api.get(f"/tasks?cursor={value}"), 400, "`cursor`")


@modes.before_the_registry
@pytest.mark.parametrize(
    "text",
    [
        f"before|{MOMENT}+00:00|{TASK_ID}|", f"|before|{MOMENT}+00:00|{TASK_ID}", f"before|{MOMENT}+00:00",
        f"beside|{MOMENT}+00:00|{TASK_ID}", f"Before|{MOMENT}+00:00|{TASK_ID}", f"|{MOMENT}+00:00|{TASK_ID}",
        f"before|{MOMENT}|{TASK_ID}", f"after|2026-01-02|{TASK_ID}", f"before|{MOMENT}+99:00|{TASK_ID}",
        f"before|0001-01-01T00:00:00.000000+12:00|{TASK_ID}", f"before|9999-12-31T23:59:59.999999-12:00|{TASK_ID}",
        f"before|99999-01-01T00:00:00.000000+00:00|{TASK_ID}", f"before|2026-02-30T00:00:00.000000+00:00|{TASK_ID}",
        f"before|yesterday|{TASK_ID}", f"before||{TASK_ID}", f"before|1767323045|{TASK_ID}",
        f"before|{MOMENT}+00:00|x", f"before|{MOMENT}+00:00|", f"before|{MOMENT}+00:00|{TASK_ID}x",
        f"before|{'9' * 30_000}|{TASK_ID}", f"before|{MOMENT}+00:00|{'f' * 30_000}",
    ],
    ids=lambda text: text[:60],
)  # fmt: skip
def test_a_cursor_with_invalid_content_is_refused(api: Api, text: str) -> None:
    pending(api, 1)
    assert listed(api, f"/tasks?cursor={cursor(f'before|{MOMENT}+00:00|{TASK_ID}')}")["results"] == []
    assert_problem(api.get(f"/tasks?cursor={cursor(text)}"), 400, "`cursor`")


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00.000000+00:00", "9999-12-31T23:59:59.999999+00:00"])
def test_a_cursor_may_point_to_any_time(api: Api, moment: str) -> None:
    (task_id,) = pending(api, 1)
    for side in ("before", "after"):
        page = listed(api, f"/tasks?cursor={cursor(f'{side}|{moment}|{TASK_ID}')}")
        assert ids(page) == ([task_id] if (side == "after") is moment.startswith("0001") else [])


# In a browser


@pytest.mark.usefixtures("_small_pages")
def test_a_browser_sees_the_list_as_a_page(api: Api) -> None:
    entry = api.wait(api.create("echo", name="<script>alert('ěšč')</script>"))
    pending(api, 3)
    answer = api.get("/tasks", Accept=BROWSER)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    second = api.get(listed(api)["next"], Accept=BROWSER)
    page = Page(second.content.decode())
    assert entry["id"] in page.text
    assert "ěšč" in page.text
    assert "<script>alert(" not in page.text
    assert api.get("/tasks?cursor=x", Accept=BROWSER).status_code == 400
    assert len(stored()) == 4
