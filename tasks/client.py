"""A client of the service over HTTP: one task, created, followed to its end, or cancelled."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

Entry = dict[str, Any]

# So often in a row a request may fail.
_TRIES = 5
# A server that asks for more patience than this is not waited for.
_MAX_SECONDS = 60
_SECONDS = 1
# A stream of events says something each 15 seconds.
_TIMEOUT = httpx.Timeout(30, connect=5)


class ClientError(Exception):
    """The server cannot be reached, or refuses; the text tells a person what to do."""


class RemoteTask:
    """One task on a server. Each method raises ClientError; `say` is told of what takes long."""

    def __init__(self, url: str, kind: str, payload: dict[str, Any], say: Callable[[str], None]) -> None:
        self.entry: Entry = {}
        self.location: httpx.URL | None = None
        self._http = httpx.Client(timeout=_TIMEOUT)
        self._url = url
        self._create = f"{url}/create-{quote(kind, safe='')}"
        self._body = json.dumps(payload)
        self._key = str(uuid.uuid4())
        self._say = say
        self._may_exist = False
        self._by_events = True
        self._pause: float = _SECONDS

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def create(self) -> None:
        """Create the task: it has an `entry` and a `location` then.

        The same request is sent again where the server is full, and where its answer was lost; the key that goes
        with it keeps that from creating a second task.
        """
        for tries in range(1, _TRIES + 1):
            try:
                trouble, pause = self._post()
            except httpx.HTTPError as error:
                if tries == 1 and isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
                    raise ClientError(
                        f"Cannot reach {self._url} ({error}). Start the server, or name another one by --url."
                    ) from error
                trouble, pause = f"The answer was lost ({error}); the task may be there.", _SECONDS
            if self.location is not None:
                return
            if tries == _TRIES or pause > _MAX_SECONDS:
                break
            self._say(f"{trouble} Waiting {pause} s, then trying again.")
            time.sleep(pause)
        raise ClientError(f"{trouble} Gave up.")

    def follow(self) -> Iterator[Entry]:
        """The entry as it is, then as the server tells it again and again, to the end of the task.

        It tells it by server-sent events, which are resumed when they break off. Lazy they break off without any
        news, polls take their place.
        """
        yield self.entry
        misses, pause = 0, 0.0
        while not self._has_ended:
            time.sleep(pause)
            version = self.entry["version"]
            try:
                yield from self._events() if self._by_events else self._poll()
            except httpx.HTTPError as error:
                misses = misses + 1 if self.entry["version"] == version else 1
                if misses == _TRIES:
                    raise ClientError(
                        f"The server does not answer any more ({error}). The task may go on; poll it at {self.location}"
                    ) from error
                pause = self._pause * 2 ** (misses - 1)
            else:
                misses, pause = 0, self._pause

    def cancel(self) -> None:
        """Cancel the task, if there is one; its last entry is `entry` then. One that has ended stays as it is."""
        try:
            if self._may_exist and self.location is None:
                self._post()  # the answer to the first one was not waited for
            if self.location is not None:
                answer = self._http.delete(self.location)
                if answer.status_code == httpx.codes.CONFLICT:
                    answer = self._http.get(self.location)
                self.entry = _entry(answer)
        except httpx.HTTPError as error:
            raise ClientError(f"The task may go on, for its cancel was not answered ({error}).") from error

    @property
    def _has_ended(self) -> bool:
        return bool(self.entry["status"] != "pending")

    def _post(self) -> tuple[str, int]:
        """Ask for the task; where the server is full, return its sentence and how long to wait."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": self._key}
        self._may_exist = True
        answer = self._http.post(self._create, content=self._body, headers=headers)
        self._may_exist = answer.is_success
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Retry-After" in answer.headers:
            return _problem(answer), _retry_after(answer)
        self.entry = _entry(answer)
        self.location = answer.url.join(answer.headers.get("Location", ""))
        return "", 0

    def _events(self) -> Iterator[Entry]:
        version = self.entry["version"]
        with connect_sse(self._http, "GET", str(self.location), headers={"Last-Event-ID": str(version)}) as stream:
            try:
                for event in stream.iter_sse():
                    if event.retry is not None:
                        self._pause = event.retry / 1000
                    if event.data:
                        yield from self._news(_parsed(event.data, stream.response))
                    if self._has_ended:
                        return
            except httpx.HTTPError:
                self._by_events = self.entry["version"] != version
                raise

    def _poll(self) -> Iterator[Entry]:
        answer = self._http.get(str(self.location))
        self._pause = _retry_after(answer)
        if answer.is_server_error:
            raise httpx.HTTPStatusError(_status(answer), request=answer.request, response=answer)
        yield from self._news(_entry(answer))

    def _news(self, entry: Entry) -> Iterator[Entry]:
        self.entry = entry
        yield entry


def _entry(answer: httpx.Response) -> Entry:
    if not answer.is_success:
        raise ClientError(_problem(answer))
    return _parsed(answer.text, answer)


def _parsed(text: str, answer: httpx.Response) -> Entry:
    try:
        entry = json.loads(text)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or "version" not in entry:
        raise ClientError(f"{answer.url} answered with no task. Check --url: another server may be there.")
    return entry


def _problem(answer: httpx.Response) -> str:
    """The sentence of a refusal, and a line for each thing that is wrong in a field."""
    try:
        problem = answer.json()
        return "\n".join([problem["detail"], *_wrong_in("", problem.get("errors", {}))])
    except (ValueError, TypeError, KeyError):
        return f"{_status(answer)}. Check --url: another server may be there."


def _wrong_in(field: str, errors: Any) -> Iterator[str]:
    """A list of messages, or of what is wrong within the field, by name or by number."""
    if isinstance(errors, dict):
        for name, inner in errors.items():
            yield from _wrong_in(f"{field}.{name}" if field else name, inner)
    elif isinstance(errors, list):
        for inner in errors:
            yield from _wrong_in(field, inner)
    else:
        yield f"{field}: {errors}"


def _status(answer: httpx.Response) -> str:
    return f"{answer.url} answered {answer.status_code} {answer.reason_phrase}"


def _retry_after(answer: httpx.Response) -> int:
    seconds = answer.headers.get("Retry-After", "")
    return int(seconds) if seconds.isdecimal() else _SECONDS
