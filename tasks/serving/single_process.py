"""Detects that several processes of one server keep tasks in memory, each its own, so that no poll is reliable."""

import fcntl
import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import orjson

from tasks.utils.problem import MEDIA_TYPE, problem

logger = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_DETAIL = (
    "This server runs several processes, and each keeps its tasks in its own memory: a poll may reach a process that "
    "does not know the task. Run the server with one process, or set DATABASE_URL."
)


class SingleProcessGuard:
    """Passes requests on to a WSGI application, but answers 503 where a sibling process serves the same address.

    Siblings have the same parent, as the workers of any server have. The first of them to get a request locks a
    file in the folder for temporary files, as long as it lives.
    """

    def __init__(self, application: Application) -> None:
        self._application = application
        self._checking = threading.Lock()
        self._lock_file: int | None = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if self._lock_file is None and not self._is_single(environ):
            logger.critical("%s", _DETAIL)
            start_response("503 Service Unavailable", [("Content-Type", MEDIA_TYPE)])
            return [orjson.dumps(problem(503, _DETAIL))]
        return self._application(environ, start_response)

    def _is_single(self, environ: dict[str, Any]) -> bool:
        address = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        key = hashlib.sha256(address.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"tasks-{os.getuid()}-{key}.lock"
        parent = str(os.getppid()).encode()
        with self._checking:
            if self._lock_file is not None:
                return True
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if os.pread(file, 20, 0) == parent:
                    os.close(file)
                    return False
            else:
                os.ftruncate(file, 0)
                os.pwrite(file, parent, 0)
            self._lock_file = file
            return True
