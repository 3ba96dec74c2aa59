import importlib.util
import os
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from uuid import UUID

import pytest
from django.test import Client

from tasks.entry import TaskEntry
from tasks.registry import get_registry
from tasks.waiting import get_waiter_limit

T = TypeVar("T")

PROJECT = Path(__file__).resolve().parent.parent
# The `Accept` header of a browser that loads a page.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def wait_for(look: Callable[[], T], timeout: float = 15) -> T:
    """Call `look` until it returns something true, and return that."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        assert time.monotonic() < deadline, "It did not happen in time."
        time.sleep(0.002)
    return seen


class Api:
    """A client of the service, with short calls for tests."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def post(self, path: str, body: Any, **headers: str) -> Any:
        """POST `body` as JSON: bytes as they are, anything else encoded."""
        return self.client.post(path, body, content_type="application/json", headers=headers)

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers)

    def delete(self, entry: dict[str, Any]) -> Any:
        """Cancel the task."""
        return self.client.delete(f"/poll-{entry['kind']}/{entry['id']}")

    def create(self, kind: str = "task", **fields: Any) -> dict[str, Any]:
        """Create a task that must be accepted, and return its entry."""
        answer = self.post(f"/create-{kind}", {"name": "sample_name", **fields})
        assert answer.status_code == 201, answer.content
        entry: dict[str, Any] = answer.json()
        return entry

    def poll(self, entry: dict[str, Any]) -> dict[str, Any]:
        answer = self.get(f"/poll-{entry['kind']}/{entry['id']}")
        assert answer.status_code == 200, answer.content
        polled: dict[str, Any] = answer.json()
        return polled

    def wait(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Poll until the task has ended."""
        return wait_for(lambda: (now := self.poll(entry)) and now["status"] != "pending" and now)


def assert_problem(answer: Any, status: int, hint: str = "") -> dict[str, Any]:
    """Check that it is a problem of RFC 9457 with this status and a detail that contains `hint`; return its members."""
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"] == "about:blank"
    assert hint in problem["detail"]
    assert len(problem["detail"]) > 20
    assert "Traceback" not in answer.content.decode()
    return problem


def stored() -> dict[UUID, TaskEntry]:
    """Return all entries, so that a test can check what a request has stored."""
    return {entry.id: entry for entry in get_registry().page(1_000_000)}


def read(answer: Any) -> bytes:
    """Return the whole body of a streamed response, and close its file."""
    body = b"".join(answer.streaming_content)
    answer.close()
    return body


def lack(what: str) -> NoReturn:
    """Skip the test because something is missing; with REQUIRE_SERVICES=1 fail it."""
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(what)
    pytest.skip(what)


def needs(module: str) -> None:
    """Skip the tests of the calling module if that package is missing; with REQUIRE_SERVICES=1 they fail."""
    if importlib.util.find_spec(module) is None and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip(f"{module} is missing: pip install -r requirements-dev.txt", allow_module_level=True)


def clean_environment(**settings: str) -> dict[str, str]:
    """Return this process's environment without the settings of the service, but with `settings`."""
    own = (
        "TASK_",
        "DJANGO_",
        "PYTEST_",
        "PYTHONDEVMODE",
        "DEBUG",
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "DATABASE_URL",
        "CELERY_",
    )
    return {name: value for name, value in os.environ.items() if not name.startswith(own)} | settings


def wait_for_waiters(count: int) -> None:
    """Wait until exactly `count` requests wait for changes."""
    wait_for(lambda: get_waiter_limit().in_use == count)


class Page(HTMLParser):
    """A page as a browser reads it: the URLs it refers to, and the fields of its forms."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text = html
        self.urls: list[str] = []
        self.loaded: list[str] = []
        self.fields: dict[str, dict[str, str]] = {}
        self.forms: list[dict[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        urls = [attributes[name] for name in ("src", "href", "action") if name in attributes]
        self.urls += urls
        if tag in {"script", "link", "img"}:
            self.loaded += urls
        if tag == "form":
            self.forms.append(attributes)
        if tag in {"input", "textarea", "select"} and "name" in attributes:
            self.fields[attributes["name"]] = attributes


def assert_stands_alone(page: Page, client: Client) -> None:
    """Check that the page refers to no other server, and that everything it loads exists."""
    assert [url for url in page.urls if "//" in url] == []
    assert page.loaded
    for url in page.loaded:
        answer: Any = client.get(url)
        assert answer.status_code == 200, url
        assert read(answer), url
