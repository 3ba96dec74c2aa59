"""Answers that are not ready yet: the server waits for them, in a thread or, better, without one.

A server that can wait without a thread puts CAN_SUSPEND into the environ. It then gets a SuspendedResponse or an
EventStream, iterates over its `steps`, and does what each says: a number is the seconds to wait for the subscription,
bytes are to be sent. After the last step of a SuspendedResponse it passes the same request on once more, with that
response in RESUMED.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from rest_framework.request import Request

from tasks.waiting import Subscription

CAN_SUSPEND = "tasks.can_suspend"
RESUMED = "tasks.resumed"
# In the environ: a function that returns whether the client has disconnected, where the server can know.
IS_GONE = "tasks.is_gone"
_CHECK_SECONDS = 1

Steps = Iterator[float | bytes]


class Suspend(Exception):
    """A view raises it to suspend its request; its hook for exceptions responds with `response`."""

    def __init__(self, response: "SuspendedResponse") -> None:
        super().__init__()
        self.response = response


class SuspendedResponse(HttpResponse):
    """Stands for the response to a request until its steps are over. `state` is what the view has found out so far."""

    def __init__(self, subscription: Subscription, steps: Steps, state: Any) -> None:
        super().__init__()
        self.subscription = subscription
        self.steps = steps
        self.state = state


class EventStream(StreamingHttpResponse):
    """Server-sent events."""

    def __init__(self, request: Request, subscription: Subscription | None, steps: Steps) -> None:
        if request.method == "HEAD":
            # HEAD gets no event, so there is nothing to wait for.
            if subscription is not None:
                subscription.close()
            subscription, steps = None, iter(())
        self.subscription = subscription
        self.steps = steps
        super().__init__(
            _Stream(request.META, subscription, steps),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


class _Stream:
    """The bytes of the steps, for a server that reads them in a thread."""

    def __init__(self, environ: Mapping[str, Any], subscription: Subscription | None, steps: Steps) -> None:
        self._subscription = subscription
        self._bytes = _in_this_thread(environ, subscription, steps)

    def __iter__(self) -> Iterator[bytes]:
        return self._bytes

    def close(self) -> None:
        """Django calls it when the response is over, completely sent or not."""
        if self._subscription is not None:
            self._subscription.close()


def suspend(environ: Mapping[str, Any], subscription: Subscription, steps: Steps, state: Any) -> None:
    """Wait in this thread until the steps are over; or raise Suspend, where the server can wait without a thread."""
    if CAN_SUSPEND in environ:
        raise Suspend(SuspendedResponse(subscription, steps, state))
    try:
        for _ in _in_this_thread(environ, subscription, steps):
            pass
    finally:
        subscription.close()


def _in_this_thread(environ: Mapping[str, Any], subscription: Subscription | None, steps: Steps) -> Iterator[bytes]:
    is_gone: Callable[[], bool] | None = environ.get(IS_GONE)
    for step in steps:
        if isinstance(step, bytes):
            yield step
        elif subscription is not None and not _wait(subscription, step, is_gone):
            return


def _wait(subscription: Subscription, seconds: float, is_gone: Callable[[], bool] | None) -> bool:
    """Wait for the subscription, and meanwhile for the client to disconnect; False where it has."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if subscription.wait(left if is_gone is None else min(left, _CHECK_SECONDS)):
            return True
        if is_gone is not None and is_gone():
            return False
    return True
