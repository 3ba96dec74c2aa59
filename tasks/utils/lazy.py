"""Objects that are built at their first use, and work that is done once, however many threads ask for it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lazy(Generic[T]):
    """Calls `build` at the first call and returns what it built from then on.

    Unlike `functools.cache` it keeps a lock while it builds, so racing threads all get the same object.
    """

    def __init__(self, build: Callable[[], T]) -> None:
        self.build = build
        self._lock = threading.RLock()
        self._built: list[T] = []

    def __call__(self) -> T:
        if not self._built:
            with self._lock:
                if not self._built:
                    self._built.append(self.build())
        return self._built[0]

    def override(self, value: T) -> None:
        """Return `value` from now on."""
        with self._lock:
            self._built[:] = [value]

    def reset(self) -> None:
        """Build again at the next call."""
        with self._lock:
            self._built.clear()


class RunOnce:
    """Calls `function` at the first call, and never again once it has returned. Racing threads wait for it."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._lock = threading.RLock()
        self._has_run = False

    def __call__(self) -> None:
        if not self._has_run:
            with self._lock:
                if not self._has_run:
                    self._function()
                    self._has_run = True
