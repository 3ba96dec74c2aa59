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


def page_of(response: Any, status: int = 200) -> Page:
    """Return the page in the response, which must have the status."""
    assert response.status_code == status
    assert response["Content-Type"].startswith("text/html")
    return Page(response.content.decode())


@pytest.mark.parametrize("kind", ["task", "prime-count"])
def test_a_create_endpoint_shows_a_browser_a_form(api: Api, kind: str) -> None:
    page = page_of(api.get(f"/create-{kind}", Accept=BROWSER), 405)
    assert set(FIELDS[kind]) <= set(page.fields)
    assert {form["action"] for form in page.forms if form.get("method") == "POST"} == {f"/create-{kind}"}
    assert f"Create {kind}" in page.text
    assert stored() == {}


@pytest.mark.parametrize("kind", FIELDS)
def test_the_form_creates_a_task(api: Api, client: Client, kind: str) -> None:
    headers = {"Accept": BROWSER, "Origin": "http://testserver"}
    response: Any = client.post(f"/create-{kind}", FIELDS[kind], headers=headers)
    page = page_of(response, 201)
    (task_id,) = map(str, stored())
    assert task_id in page.text
    assert response["Location"] == f"/poll-{kind}/{task_id}"
    done = api.wait({"kind": kind, "id": task_id})
    assert done["status"] == "completed"
    assert done["name"] == FIELDS[kind]["name"]


def test_an_invalid_form_is_shown_again_with_its_errors(client: Client) -> None:
    response = client.post("/create-prime-count", {"name": "x", "limit": "many"}, headers={"Accept": BROWSER})
    page = page_of(response, 400)
    assert "A valid integer is required." in page.text
    assert stored() == {}


@pytest.mark.parametrize("kind", ["gate", "echo"])
def test_a_poll_endpoint_shows_a_browser_the_entry(api: Api, kind: str) -> None:
    kinds.gate.set()
    entry = api.wait(api.create(kind, name="<script>alert('ěšč')</script>"))
    page = page_of(api.get(f"/poll-{kind}/{entry['id']}", Accept=BROWSER))
    assert entry["id"] in page.text
    assert "completed" in page.text
    assert "ěšč" in page.text
    assert "<script>alert(" not in page.text


@pytest.mark.parametrize("kind", ["task", "prime-count"])
def test_the_pages_of_a_kind_refer_to_no_other_server(api: Api, client: Client, kind: str) -> None:
    entry = api.wait(api.create(kind, **({"limit": 10} if kind == "prime-count" else {})))
    assert_stands_alone(page_of(api.get(f"/create-{kind}", Accept=BROWSER), 405), client)
    assert_stands_alone(page_of(api.get(f"/poll-{kind}/{entry['id']}", Accept=BROWSER)), client)


def test_every_link_of_a_page_works(api: Api) -> None:
    entry = api.wait(api.create())
    page = page_of(api.get(f"/poll-task/{entry['id']}", Accept=BROWSER))
    links = {url for url in page.urls if not url.startswith(("#", "/static/"))}
    assert links
    for url in links:
        response = api.get(url, Accept=BROWSER)
        response.close()  # one of them is a stream of events
        assert response.status_code == 200, url
