"""Answers that are not ready yet: the server waits for them, in a thread or, better, without one.

A server that can wait without a thread says so by HOLDS in the environ. It then gets a Held or an EventStream, goes
through its `steps`, and does what each asks: a number is the seconds to wait for the watcher, bytes are to be sent.
After the last step of a Held it passes the same request on once more, with that Held in RESUMED.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.request import Request

from tasks.waiting import Watcher

HOLDS = "tasks.holds"
RESUMED = "tasks.resumed"
# In the environ: a function that tells whether the client has broken the connection, where the server can tell.
IS_GONE = "tasks.is_gone"
_LOOK_SECONDS = 1

Steps = Iterator[float | bytes]


class Held(HttpResponse):
    """Stands for the answer to a request until its steps are over. `state` is what the view has found out so far."""

    def __init__(self, watcher: Watcher, steps: Steps, state: Any) -> None:
        super().__init__()
        self.watcher = watcher
        self.steps = steps
        self.state = state


class EventStream(StreamingHttpResponse):
    """Server-sent events."""

    def __init__(self, request: Request, watcher: Watcher | None, steps: Steps) -> None:
        if request.method == "HEAD":
            # Which asks for no event, so that there is nothing to wait for.
            if watcher is not None:
                watcher.close()
            watcher, steps = None, iter(())
        self.watcher = watcher
        self.steps = steps
        super().__init__(
            _Stream(request, watcher, steps),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


class _Stream:
    """The bytes of the steps, for a server that reads them in a thread."""

    def __init__(self, request: Request, watcher: Watcher | None, steps: Steps) -> None:
        self._watcher = watcher
        self._bytes = _in_this_thread(request, watcher, steps)

    def __iter__(self) -> Iterator[bytes]:
        return self._bytes

    def close(self) -> None:
        """Django calls it when the answer is over, broken off or not."""
        if self._watcher is not None:
            self._watcher.close()


def hold(request: Request, watcher: Watcher, steps: Steps, state: Any) -> Held | None:
    """Wait here until the steps are over, and return None; or return what a server holds that can do that itself."""
    if HOLDS in request.META:
        return Held(watcher, steps, state)
    try:
        for _ in _in_this_thread(request, watcher, steps):
            pass
    finally:
        watcher.close()
    return None


def _in_this_thread(request: Request, watcher: Watcher | None, steps: Steps) -> Iterator[bytes]:
    is_gone: Callable[[], bool] | None = request.META.get(IS_GONE)
    for step in steps:
        if isinstance(step, bytes):
            yield step
        elif watcher is not None and not _wait(watcher, step, is_gone):
            return


def _wait(watcher: Watcher, seconds: float, is_gone: Callable[[], bool] | None) -> bool:
    """Wait for the watcher, and meanwhile for the client to go away; False where it has."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if watcher.wait(left if is_gone is None else min(left, _LOOK_SECONDS)):
            return True
        if is_gone is not None and is_gone():
            return False
    return True
