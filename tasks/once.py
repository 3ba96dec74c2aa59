"""Build an object at its first use, once, however many threads ask for it."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """Calls `build` at the first call and returns what it built from then on.

    Unlike `functools.cache` it holds a lock while it builds, so racing threads all get the same object.
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

    def use(self, *built: T) -> None:
        """Return `built` from now on; without one, the next call builds again."""
        with self._lock:
            self._built[:] = built
