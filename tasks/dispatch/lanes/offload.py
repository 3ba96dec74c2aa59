"""Where a lane makes the calls that may wait for a database."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

_THREADS = 4

Submit = Callable[..., None]


def inline(function: Callable[..., Any], *args: Any) -> None:
    """Call the function immediately: for a registry that does no I/O."""
    function(*args)


class Offload:
    """Calls functions in a few threads, so that neither an event loop nor a timer waits for them."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "tasks-offload")

    def __call__(self, function: Callable[..., Any], *args: Any) -> None:
        with suppress(RuntimeError):  # closed: whatever was to be done has been released or aborted
            self._threads.submit(self._call, function, *args)

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False)

    def _call(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except Exception:
            logger.exception("A step of a task failed")
