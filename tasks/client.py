"""A client of the service over HTTP. It creates one task, follows it to its end, and can cancel it."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

from tasks.kinds.base import CREATE_PREFIX

Entry = dict[str, Any]

# The limit on attempts of a create, and on failures in a row while the task is followed.
_MAX_ATTEMPTS = 5
# After a longer Retry-After the create is not sent again.
_MAX_RETRY_SECONDS = 60
_RETRY_SECONDS = 1
# An idle stream of events gets a comment every 15 seconds.
_TIMEOUT = httpx.Timeout(30, connect=5)


class ClientError(Exception):
    """The server cannot be reached or refuses the request. The text says what to do."""


class RemoteTask:
    """One task on a server. Each method raises ClientError. `report` receives a sentence before each wait."""

    def __init__(self, url: str, kind: str, payload: dict[str, Any], report: Callable[[str], None]) -> None:
        self.entry: Entry = {}
        self.location: httpx.URL | None = None
        self._http = httpx.Client(timeout=_TIMEOUT)
        self._url = url
        self._create_url = f"{url}/{CREATE_PREFIX}{quote(kind, safe='')}"
        self._body = json.dumps(payload)
        self._idempotency_key = str(uuid.uuid4())
        self._report = report
        self._may_exist = False
        self._uses_events = True
        self._pause: float = _RETRY_SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create(self) -> None:
        """Create the task, and set `entry` and `location`.

        The request is sent again if the server is full or no response arrives. Its idempotency key prevents a second
        task.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                problem, pause = self._post()
            except httpx.HTTPError as error:
                if attempt == 1 and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise ClientError(
                        f"Cannot reach {self._url} ({error}). Start the server, or name another one with --url."
                    ) from error
                problem, pause = f"No response arrived ({error}). The task may exist.", _RETRY_SECONDS
            if self.location is not None:
                return
            if attempt == _MAX_ATTEMPTS or pause > _MAX_RETRY_SECONDS:
                break
            self._report(f"{problem} Waiting {pause} s before the next attempt.")
            time.sleep(pause)
        raise ClientError(f"{problem} No further attempt is made.")

    def follow(self) -> Iterator[Entry]:
        """Yield the entry as it is, then each change of it, until the task has ended.

        The changes arrive as server-sent events. A stream that breaks off is resumed. If it brought no change, the
        task is polled from then on.
        """
        yield self.entry
        failures, pause = 0, 0.0
        while not self._has_ended:
            time.sleep(pause)
            version = self.entry["version"]
            try:
                yield from self._events() if self._uses_events else self._poll()
            except httpx.HTTPError as error:
                failures = failures + 1 if self.entry["version"] == version else 1
                if failures == _MAX_ATTEMPTS:
                    raise ClientError(
                        f"The server no longer responds ({error}). The task may still be running. "
                        f"Poll it at {self.location}"
                    ) from error
                pause = self._pause * 2 ** (failures - 1)
            else:
                failures, pause = 0, self._pause

    def cancel(self) -> None:
        """Cancel the task, if it exists, and set `entry` to its last state. A task that has ended stays as it is."""
        try:
            if self._may_exist and self.location is None:
                self._post()  # the first response was not awaited, and it has the location
            if self.location is not None:
                response = self._http.delete(self.location)
                if response.status_code == httpx.codes.CONFLICT:
                    response = self._http.get(self.location)
                self.entry = _entry(response)
        except httpx.HTTPError as error:
            raise ClientError(f"The cancel got no response ({error}). The task may still be running.") from error

    @property
    def _has_ended(self) -> bool:
        return bool(self.entry["status"] != "pending")

    def _post(self) -> tuple[str, int]:
        """Send the create. Return the server's sentence and the seconds to wait if the server is full."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": self._idempotency_key}
        self._may_exist = True
        response = self._http.post(self._create_url, content=self._body, headers=headers)
        self._may_exist = response.is_success
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in response.headers:
            return _problem(response), _retry_after(response)
        self.entry = _entry(response)
        self.location = response.url.join(response.headers.get("Location", ""))
        return "", 0

    def _events(self) -> Iterator[Entry]:
        version = self.entry["version"]
        with connect_sse(self._http, "GET", str(self.location), headers={"Last-Event-ID": str(version)}) as stream:
            try:
                for event in stream.iter_sse():
                    if event.retry is not None:
                        self._pause = event.retry / 1000
                    if event.data:
                        yield self._updated(_parsed(event.data, stream.response))
                    if self._has_ended:
                        return
            except httpx.HTTPError:
                self._uses_events = self.entry["version"] != version
                raise

    def _poll(self) -> Iterator[Entry]:
        response = self._http.get(str(self.location))
        self._pause = _retry_after(response)
        if response.is_server_error:
            raise httpx.HTTPStatusError(_status(response), request=response.request, response=response)
        yield self._updated(_entry(response))

    def _updated(self, entry: Entry) -> Entry:
        self.entry = entry
        return entry


def _entry(response: httpx.Response) -> Entry:
    if not response.is_success:
        raise ClientError(_problem(response))
    return _parsed(response.text, response)


def _parsed(text: str, response: httpx.Response) -> Entry:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "version" not in entry:
        raise ClientError(f"{response.url} did not respond with a task. Check --url: it may name another server.")
    return entry


def _problem(response: httpx.Response) -> str:
    """Return the sentence of a refusal, and a line for each error in a field."""
    try:
        problem = response.json()
        return "\n".join([problem["detail"], *_field_errors("", problem.get("errors", {}))])
    except (ValueError, TypeError, KeyError):
        return f"{_status(response)}. Check --url: it may name another server."


def _field_errors(field: str, errors: Any) -> Iterator[str]:
    """Yield a line for each message; errors within a field are nested by name or by index."""
    if isinstance(errors, dict):
        for name, inner in errors.items():
            yield from _field_errors(f"{field}.{name}" if field else name, inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _field_errors(field, inner)
    else:
        yield f"{field}: {errors}"


def _status(response: httpx.Response) -> str:
    return f"{response.url} responded with {response.status_code} {response.reason_phrase}"


def _retry_after(response: httpx.Response) -> int:
    seconds = response.headers.get("Retry-After", "")
    return int(seconds) if seconds.isdecimal() else _RETRY_SECONDS
