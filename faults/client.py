"""A client that sends a create again until it is answered, to whichever server does."""

import json
import time
import uuid
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Any, NamedTuple

from faults.journal import Journal

_AGAIN_SECONDS = 0.2
_GIVE_UP_SECONDS = 120
# A server that is there, and does not answer, is given up sooner than the test.
_TIMEOUT_SECONDS = 30


class Answer(NamedTuple):
    http: int
    entry: dict[str, Any]


class Client:
    """Asks each server in turn, over a new connection each time, since a kept one would break with its server."""

    def __init__(self, ports: list[int], journal: Journal) -> None:
        self._ports = ports
        self._turn = count()
        self._journal = journal

    def create(self, name: str, steps: int) -> str | None:
        """The id of a new task; None where no server would take it."""
        body = json.dumps({"name": name, "steps": steps})
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while time.monotonic() < deadline:
            answer = self._ask("create", "POST", "/create-steps", body, headers)
            if answer.http == 201:
                return str(answer.entry["id"])
            time.sleep(_AGAIN_SECONDS)
        return None

    def poll(self, task_id: str) -> Answer:
        return self._ask("poll", "GET", f"/poll-steps/{task_id}")

    def _ask(self, what: str, method: str, path: str, body: str | None = None, headers: Any = None) -> Answer:
        port = self._ports[next(self._turn) % len(self._ports)]
        connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
        began = time.monotonic()
        http = 0
        entry: dict[str, Any] = {}
        try:
            connection.request(method, path, body, {"Accept": "application/json", **(headers or {})})
            response = connection.getresponse()
            content = response.read()
            http = response.status
            entry = json.loads(content)
        except (OSError, HTTPException, ValueError):
            pass
        finally:
            connection.close()
        if what == "poll" and http in {404, 410}:
            entry = {"id": path.rpartition("/")[2]}
        self._journal.answered(what, http, time.monotonic() - began, entry if http < 500 else {})
        return Answer(http, entry)
