"""Where a lane does what may have to wait for a database."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

_THREADS = 4

Do = Callable[..., None]


def at_once(function: Callable[..., Any], *args: Any) -> None:
    """For a registry in memory, where nothing waits."""
    function(*args)


class Aside:
    """In a few threads, so that neither an event loop nor a timer waits."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "tasks-aside")

    def __call__(self, function: Callable[..., Any], *args: Any) -> None:
        with suppress(RuntimeError):  # it is closed, and what was to be done has been given up
            self._threads.submit(self._do, function, *args)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    def _do(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            logger.exception("A step of a task failed")
