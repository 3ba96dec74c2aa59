"""A client that repeats a create until one of the servers responds."""

import json
import time
import uuid
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import Any, NamedTuple

from faults.journal import Journal

_RETRY_SECONDS = 0.2
_CREATE_TIMEOUT_SECONDS = 120
# Shorter than the timeout of a create, so that a server that does not respond is abandoned for another one.
_REQUEST_TIMEOUT_SECONDS = 30


class Response(NamedTuple):
    http: int
    entry: dict[str, Any]


class Client:
    """Sends requests to the servers in turn, each over a new connection, since a kill breaks open connections."""

    def __init__(self, ports: list[int], journal: Journal) -> None:
        self._ports = ports
        self._turn = count()
        self._journal = journal

    def create(self, name: str, steps: int) -> str | None:
        """Create a task and return its id; None if no server accepted it in time."""
        body = json.dumps({"name": name, "steps": steps})
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        deadline = time.monotonic() + _CREATE_TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            response = self._request("create", "POST", "/create-steps", body, headers)
            if response.http == 201:
                return str(response.entry["id"])
            time.sleep(_RETRY_SECONDS)
        return None

    def poll(self, task_id: str) -> Response:
        return self._request("poll", "GET", f"/poll-steps/{task_id}")

    def _request(self, event: str, method: str, path: str, body: str | None = None, headers: Any = None) -> Response:
        port = self._ports[next(self._turn) % len(self._ports)]
        connection = HTTPConnection("127.0.0.1", port, timeout=_REQUEST_TIMEOUT_SECONDS)
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
        if event == "poll" and http in {404, 410}:
            entry = {"id": path.rpartition("/")[2]}
        self._journal.responded(event, http, time.monotonic() - began, entry if http < 500 else {})
        return Response(http, entry)
