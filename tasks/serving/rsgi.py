"""Serves the WSGI application on Granian's RSGI, so that a waiting client costs no thread and its end is noticed.

See docs/spec/RSGI.md of emmett-framework/granian, and PEP 3333 for the environ.
"""

import asyncio
import io
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Self
from wsgiref.util import FileWrapper

from django.conf import settings
from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]  # the library has it there to be imported

from tasks.kinds.base import POLL_PREFIX
from tasks.registry import get_registry
from tasks.serving.suspend import CAN_SUSPEND, RESUMED, EventStream, SuspendedResponse
from tasks.waiting import Subscription

Environ = dict[str, Any]

_UNPREFIXED = {"CONTENT_TYPE", "CONTENT_LENGTH"}
_POLL = f"/{POLL_PREFIX}"
_BLOCK_BYTES = 65_536
# So much of a body that is too large is read and dropped, for clients that read the response only after sending all.
_MAX_DROPPED_BYTES = 16_777_216
# Replaces the value of a header that is not ASCII, which Granian omits.
_UNREADABLE = "\xff"
_BASE = {
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "Granian",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": lambda file, _: FileWrapper(file, _BLOCK_BYTES),
    CAN_SUSPEND: True,
}


class _Response(NamedTuple):
    """The application's response: a body that is `whole`, or one that is made or waited for bit by bit."""

    status: int
    headers: list[tuple[str, str]]
    body: Any
    whole: bytes | None


class RSGIHandler:
    """Runs requests in `threads` threads, but polls of entries in memory, and waits for news, on the event loop."""

    def __init__(self, application: Callable[..., Iterable[bytes]], threads: int) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "tasks-request")

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        # Raised where the client disconnects in the middle of its body or of the response, or a HEAD has its headers.
        with suppress(ProtocolClosed):
            await self._respond(scope, protocol)

    async def _respond(self, scope: Any, protocol: Any) -> None:
        environ = await _environ(scope, protocol)
        response = await self._run(environ)
        if isinstance(response.body, SuspendedResponse):
            if not await self._wait(response.body, protocol):
                return
            response = await self._run(environ | {RESUMED: response.body})
        if response.whole is not None:
            protocol.response_bytes(response.status, response.headers, response.whole)
        else:
            await self._stream(response, protocol)

    async def _run(self, environ: Environ) -> _Response:
        if _never_blocks(environ):
            return self._call(environ)
        response: _Response = await self._in_thread(self._call, environ)
        return response

    def _call(self, environ: Environ) -> _Response:
        status = 0
        headers: list[tuple[str, str]] = []

        def start_response(line: str, fields: list[tuple[str, str]], _: Any = None) -> None:
            nonlocal status, headers
            status, headers = int(line[:3]), fields

        body = self._application(environ, start_response)
        if isinstance(body, SuspendedResponse | FileWrapper) or getattr(body, "streaming", False):
            return _Response(status, headers, body, None)
        try:
            return _Response(status, headers, None, b"".join(body))
        finally:
            _close(body)

    async def _wait(self, suspended: SuspendedResponse, protocol: Any) -> bool:
        """Iterate over the steps; False where the client disconnects meanwhile."""
        try:
            async with _Wait(suspended.subscription, protocol) as wait:
                while (step := await self._in_thread(next, suspended.steps, None)) is not None:
                    if not await wait.for_news(step):
                        return False
            return True
        finally:
            suspended.close()

    async def _stream(self, response: _Response, protocol: Any) -> None:
        transport = protocol.response_stream(response.status, response.headers)
        try:
            if isinstance(response.body, EventStream) and response.body.subscription is not None:
                async with _Wait(response.body.subscription, protocol) as wait:
                    while (step := await self._in_thread(next, response.body.steps, None)) is not None:
                        if isinstance(step, bytes):
                            await transport.send_bytes(step)
                        elif not await wait.for_news(step):
                            return
            else:
                blocks = iter(response.body)
                while (block := await self._in_thread(next, blocks, None)) is not None:
                    await transport.send_bytes(block)
        finally:
            await self._in_thread(_close, response.body)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


class _Wait:
    """Waits for a subscription, and for the client to disconnect."""

    def __init__(self, subscription: Subscription, protocol: Any) -> None:
        self._subscription = subscription
        self._protocol = protocol
        self._woken = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._gone = asyncio.ensure_future(self._protocol.client_disconnect())
        self._gone.add_done_callback(lambda _: self._woken.set())
        self._subscription.wake_by(partial(asyncio.get_running_loop().call_soon_threadsafe, self._woken.set))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.cancel()
        self._subscription.close()

    async def for_news(self, seconds: float) -> bool:
        """Wait for a change, `seconds` at most; False where the client has disconnected."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()
        return not self._gone.done()


def _never_blocks(environ: Environ) -> bool:
    """Whether it is a poll by a program of an entry in memory: to pass it to a thread would cost more than it saves."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ["PATH_INFO"].startswith(_POLL)
        and "text/html" not in environ.get("HTTP_ACCEPT", "")
        and not get_registry().does_io
    )


async def _environ(scope: Any, protocol: Any) -> Environ:
    """The environ of PEP 3333."""
    server, _, port = scope.server.rpartition(":")
    environ: Environ = _BASE | {
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": scope.path.encode().decode("latin-1"),
        "QUERY_STRING": scope.query_string.encode().decode("latin-1"),
        "SERVER_NAME": server,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0],
        "wsgi.url_scheme": scope.scheme,
    }
    for name in scope.headers:
        # A name with an underscore could imitate another, as X_Real-Ip does X-Real-Ip.
        if "_" not in name:
            key = name.upper().replace("-", "_")
            values = scope.headers.get_all(name)
            environ[key if key in _UNPREFIXED else f"HTTP_{key}"] = ",".join(values) if values else _UNREADABLE
    environ["wsgi.input"] = io.BytesIO(await _body(environ, protocol))
    return environ


async def _body(environ: Environ, protocol: Any) -> bytes:
    """The body, unless it is too large: the application then refuses it by its Content-Length."""
    length = environ.get("CONTENT_LENGTH", "")
    if not length.isdecimal():
        return b""
    if int(length) <= settings.TASK_MAX_BODY_BYTES:
        body: bytes = await protocol()
        return body
    if int(length) <= _MAX_DROPPED_BYTES and "HTTP_EXPECT" not in environ:
        async for _ in protocol:
            pass
    return b""


def _close(body: Any) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
