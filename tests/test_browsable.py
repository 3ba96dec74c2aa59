from typing import Any

import pytest
from django.test import Client

from tests import kinds
from tests.helpers import BROWSER, Api, Page, assert_stands_alone, stored

FIELDS = {
    "task": {"name": "sample name"},
    "prime-count": {"name": "primes", "limit": "10"},
    "echo": {"name": "echo", "when": "2026-02-28", "amount": "12.50"},
}


def page_of(answer: Any, status: int = 200) -> Page:
    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/html")
    return Page(answer.content.decode())


@pytest.mark.parametrize("kind", ["task", "prime-count"])
def test_a_browser_sees_a_form_for_a_create(api: Api, kind: str) -> None:
    page = page_of(api.get(f"/create-{kind}", Accept=BROWSER), 405)
    assert set(FIELDS[kind]) <= set(page.fields)
    assert {form["action"] for form in page.forms if form.get("method") == "POST"} == {f"/create-{kind}"}
    assert f"Create {kind}" in page.text
    assert stored() == {}


@pytest.mark.parametrize("kind", FIELDS)
def test_the_form_of_a_browser_creates_a_task(api: Api, client: Client, kind: str) -> None:
    headers = {"Accept": BROWSER, "Origin": "http://testserver"}
    answer: Any = client.post(f"/create-{kind}", FIELDS[kind], headers=headers)
    page = page_of(answer, 201)
    (task_id,) = map(str, stored())
    assert task_id in page.text
    assert answer["Location"] == f"/poll-{kind}/{task_id}"
    done = api.wait({"kind": kind, "id": task_id})
    assert done["status"] == "completed"
    assert done["name"] == FIELDS[kind]["name"]


def test_a_wrong_form_comes_back_with_what_is_wrong(client: Client) -> None:
    answer = client.post("/create-prime-count", {"name": "x", "limit": "many"}, headers={"Accept": BROWSER})
    page = page_of(answer, 400)
    assert "A valid integer is required." in page.text
    assert stored() == {}


@pytest.mark.parametrize("kind", ["gate", "echo"])
def test_a_browser_sees_the_entry_of_a_poll(api: Api, kind: str) -> None:
    kinds.gate.set()
    entry = api.wait(api.create(kind, name="<script>alert('ěšč')</script>"))
    page = page_of(api.get(f"/poll-{kind}/{entry['id']}", Accept=BROWSER))
    assert entry["id"] in page.text
    assert "completed" in page.text
    assert "ěšč" in page.text
    assert "<script>alert(" not in page.text


@pytest.mark.parametrize("kind", ["task", "prime-count"])
def test_the_pages_of_a_pair_need_no_other_server(api: Api, client: Client, kind: str) -> None:
    entry = api.wait(api.create(kind, **({"limit": 10} if kind == "prime-count" else {})))
    assert_stands_alone(page_of(api.get(f"/create-{kind}", Accept=BROWSER), 405), client)
    assert_stands_alone(page_of(api.get(f"/poll-{kind}/{entry['id']}", Accept=BROWSER)), client)


def test_every_link_of_a_page_leads_somewhere(api: Api) -> None:
    entry = api.wait(api.create())
    page = page_of(api.get(f"/poll-task/{entry['id']}", Accept=BROWSER))
    links = {address for address in page.addresses if not address.startswith(("#", "/static/"))}
    assert links
    for address in links:
        answer = api.get(address, Accept=BROWSER)
        answer.close()  # one of them is a stream of events
        assert answer.status_code == 200, address
