"""Call functions at their time, from one thread."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger(__name__)

_COMPACT_FROM = 64


class Call:
    """A call to come."""

    __slots__ = ("_timer", "function", "order", "when")

    def __init__(self, timer: "Timer", when: float, order: int, function: Callable[[], Any]) -> None:
        self._timer = timer
        self.when = when
        self.order = order
        self.function: Callable[[], Any] | None = function

    def __lt__(self, other: "Call") -> bool:
        return (self.when, self.order) < (other.when, other.order)

    def cancel(self) -> None:
        """See to it that the call does not come, unless it is there already."""
        self._timer.cancel(self)


class Timer:
    """Its thread lives as long as there are calls to come. What is called must neither wait nor be slow."""

    def __init__(self, name: str) -> None:
        """`name` is the thread's."""
        self._name = name
        self._changed = threading.Condition()
        self._calls: list[Call] = []
        self._cancelled = 0
        self._order = itertools.count()
        self._runs = False

    def call_later(self, seconds: float, function: Callable[[], Any]) -> Call:
        with self._changed:
            call = Call(self, time.monotonic() + seconds, next(self._order), function)
            heapq.heappush(self._calls, call)
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            elif self._calls[0] is call:
                self._changed.notify()
        return call

    def cancel(self, call: Call) -> None:
        with self._changed:
            if call.function is None:
                return
            call.function = None
            self._cancelled += 1
            if self._cancelled > _COMPACT_FROM and self._cancelled * 2 > len(self._calls):
                self._calls = [call for call in self._calls if call.function is not None]
                heapq.heapify(self._calls)
                self._cancelled = 0

    def clear(self) -> None:
        """Drop all calls to come."""
        with self._changed:
            self._calls.clear()
            self._changed.notify()

    def _run(self) -> None:
        while function := self._next():
            try:
                function()
            except Exception:
                logger.exception("A timed call failed")

    def _next(self) -> Callable[[], Any] | None:
        """Wait for the next call that is due; None once there are no more."""
        with self._changed:
            while self._calls:
                wait = self._calls[0].when - time.monotonic()
                if wait <= 0:
                    call = heapq.heappop(self._calls)
                    function, call.function = call.function, None
                    if function is not None:
                        return function
                    self._cancelled -= 1
                else:
                    self._changed.wait(wait)
            self._runs = False
            return None
