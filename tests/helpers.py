import time
from collections.abc import Callable
from typing import Any, TypeVar

from django.test import Client

T = TypeVar("T")


def wait_for(look: Callable[[], T], timeout: float = 10) -> T:
    """Look again and again until something true is seen, and return that."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        assert time.monotonic() < deadline, "It did not come."
        time.sleep(0.002)
    return seen


class Api:
    """A client of the service, as short to write as a test wants it."""

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
    """Check that it is an answer of RFC 9457 with this status and a sentence that holds `hint`; return its members."""
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
