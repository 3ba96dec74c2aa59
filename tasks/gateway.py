"""Serves the WSGI application on Granian's RSGI, so that a waiting client costs no thread and is missed when it goes.

See docs/spec/RSGI.md of emmett-framework/granian, and PEP 3333 for what the application is told.
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

from tasks.registry import get_registry
from tasks.rest.held import HOLDS, RESUMED, EventStream, Held
from tasks.waiting import Watcher

Environ = dict[str, Any]

_UNPREFIXED = {"CONTENT_TYPE", "CONTENT_LENGTH"}
_BLOCK_BYTES = 65_536
# So much of a body that is too large is read and dropped: a client that sends all before it reads can then be told.
_MOST_DROPPED_BYTES = 16_777_216
# Stands for the value of a header that is not ASCII, which Granian leaves out: there was one, and it says nothing.
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
    HOLDS: True,
}


class _Answer(NamedTuple):
    """What the application answers: a body that is `whole`, or one that is made or waited for bit by bit."""

    status: int
    headers: list[tuple[str, str]]
    body: Any
    whole: bytes | None


class Gateway:
    """Requests that may have to wait for something run in `threads` threads, and leave them to wait for news."""

    def __init__(self, application: Callable[..., Iterable[bytes]], threads: int) -> None:
        self._application = application
        self._threads = ThreadPoolExecutor(threads, "tasks-request")

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        # Raised where the client has gone in the middle of its body or of the answer, or a HEAD has its headers.
        with suppress(ProtocolClosed):
            await self._answer(scope, protocol)

    async def _answer(self, scope: Any, protocol: Any) -> None:
        environ = await _environ(scope, protocol)
        answer = await self._called(environ)
        if isinstance(answer.body, Held):
            if not await self._wait(answer.body, protocol):
                return
            answer = await self._called(environ | {RESUMED: answer.body})
        if answer.whole is not None:
            protocol.response_bytes(answer.status, answer.headers, answer.whole)
        else:
            await self._stream(answer, protocol)

    async def _called(self, environ: Environ) -> _Answer:
        if _waits_for_nothing(environ):
            return self._call(environ)
        answer: _Answer = await self._in_thread(self._call, environ)
        return answer

    def _call(self, environ: Environ) -> _Answer:
        status = 0
        headers: list[tuple[str, str]] = []

        def start_response(line: str, fields: list[tuple[str, str]], _: Any = None) -> None:
            nonlocal status, headers
            status, headers = int(line[:3]), fields

        body = self._application(environ, start_response)
        if isinstance(body, Held | FileWrapper) or getattr(body, "streaming", False):
            return _Answer(status, headers, body, None)
        try:
            return _Answer(status, headers, None, b"".join(body))
        finally:
            _close(body)

    async def _wait(self, held: Held, protocol: Any) -> bool:
        """Go through the steps; False where the client goes away meanwhile."""
        try:
            async with _Wait(held.watcher, protocol) as wait:
                while (step := await self._in_thread(next, held.steps, None)) is not None:
                    if not await wait.for_news(step):
                        return False
            return True
        finally:
            held.close()

    async def _stream(self, answer: _Answer, protocol: Any) -> None:
        transport = protocol.response_stream(answer.status, answer.headers)
        try:
            if isinstance(answer.body, EventStream) and answer.body.watcher is not None:
                async with _Wait(answer.body.watcher, protocol) as wait:
                    while (step := await self._in_thread(next, answer.body.steps, None)) is not None:
                        if isinstance(step, bytes):
                            await transport.send_bytes(step)
                        elif not await wait.for_news(step):
                            return
            else:
                blocks = iter(answer.body)
                while (block := await self._in_thread(next, blocks, None)) is not None:
                    await transport.send_bytes(block)
        finally:
            await self._in_thread(_close, answer.body)

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)


class _Wait:
    """Waits for a watcher, and for the client to go away."""

    def __init__(self, watcher: Watcher, protocol: Any) -> None:
        self._watcher = watcher
        self._protocol = protocol
        self._woken = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._gone = asyncio.ensure_future(self._protocol.client_disconnect())
        self._gone.add_done_callback(lambda _: self._woken.set())
        self._watcher.wake_by(partial(asyncio.get_running_loop().call_soon_threadsafe, self._woken.set))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._gone.cancel()
        self._watcher.close()

    async def for_news(self, seconds: float) -> bool:
        """Wait for a change, `seconds` at most; False where the client has gone away."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        self._woken.clear()
        return not self._gone.done()


def _waits_for_nothing(environ: Environ) -> bool:
    """Whether it is a poll by a program, of what is in memory: to pass it to a thread would cost more than it saves."""
    return (
        environ["REQUEST_METHOD"] == "GET"
        and environ["PATH_INFO"].startswith("/poll-")
        and "text/html" not in environ.get("HTTP_ACCEPT", "")
        and not get_registry().is_shared
    )


async def _environ(scope: Any, protocol: Any) -> Environ:
    """What PEP 3333 has an application be told of a request."""
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
        # A name with an underscore could pass for another, as X_Real-Ip for X-Real-Ip.
        if "_" not in name:
            key = name.upper().replace("-", "_")
            values = scope.headers.get_all(name)
            environ[key if key in _UNPREFIXED else f"HTTP_{key}"] = ",".join(values) if values else _UNREADABLE
    environ["wsgi.input"] = io.BytesIO(await _body(environ, protocol))
    return environ


async def _body(environ: Environ, protocol: Any) -> bytes:
    """The body, unless it is larger than any that the application reads: that is refused by what was announced."""
    announced = environ.get("CONTENT_LENGTH", "")
    if not announced.isdecimal():
        return b""
    if int(announced) <= settings.TASK_MAX_BODY_BYTES:
        body: bytes = await protocol()
        return body
    if int(announced) <= _MOST_DROPPED_BYTES and "HTTP_EXPECT" not in environ:
        async for _ in protocol:
            pass
    return b""


def _close(body: Any) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
