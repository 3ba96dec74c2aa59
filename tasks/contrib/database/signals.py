"""How a process learns what all of them changed: triggers tell of each change, and a thread here listens."""

import logging
import selectors
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection

from tasks.once import Once
from tasks.watchers import Notify, Watchers

logger = logging.getLogger(__name__)

CHANNEL = "tasks_changed"
# SQLite tells nobody, so that its file has to be looked at.
_LOOK_SECONDS = 0.01
_AGAIN_SECONDS = 1
_BEGIN_SECONDS = 2
_END_SECONDS = 5
_CANCELLED = "cancelled"


class Signals:
    """Tells watchers of `changes`, and of `cancels` among them. The thread starts with the first watcher."""

    def __init__(self) -> None:
        self._start = Once(self._start_thread)
        self.changes = _Listened(self._start)
        self.cancels = _Listened(self._start)
        self._listening = threading.Event()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End the thread."""
        if not self._closed.is_set() and self._thread is not None:
            self._closed.set()
            self._wake.send(b"closed")
            self._thread.join(_END_SECONDS)
            self._wake.close()
            self._woken.close()

    def _start_thread(self) -> None:
        listen: Callable[[Signals, Any], None] = _listen_to_sqlite
        parameters = connection.settings_dict["NAME"]
        if connection.vendor == "postgresql":
            listen, parameters = _listen_to_postgresql, connection.get_connection_params()
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(listen, parameters), name="tasks-signals", daemon=True)
        self._thread.start()
        # So that nothing is missed that changes from now on; without a database everything is, until it is back.
        self._listening.wait(_BEGIN_SECONDS)

    def _run(self, listen: Callable[["Signals", Any], None], parameters: Any) -> None:
        is_known = False
        while not self._closed.is_set():
            try:
                listen(self, parameters)
            except (psycopg.Error, sqlite3.Error, OSError) as error:
                if not is_known and not self._closed.is_set():
                    logger.warning("No news of changes until the database is back: %s", str(error).strip())
                is_known = True
                self._closed.wait(_AGAIN_SECONDS)
            else:
                is_known = False

    def began(self) -> None:
        """From now on nothing is missed; before, anything may have been."""
        self._listening.set()
        self.changes.tell_all()
        self.cancels.tell_all()

    def tell(self, task_id: UUID, status: str) -> None:
        if status == _CANCELLED:
            self.cancels.tell(task_id)
        self.changes.tell(task_id)

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    def selector(self, file: int) -> selectors.BaseSelector:
        """Waits until there is something to read, or this is closed."""
        selector = selectors.DefaultSelector()
        selector.register(file, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        return selector


class _Listened(Watchers):
    def __init__(self, start: Callable[[], None]) -> None:
        super().__init__()
        self._start = start

    def add(self, notify: Notify, task_id: UUID | None = None) -> None:
        self._start()
        super().add(notify, task_id)


def _listen_to_postgresql(signals: Signals, parameters: dict[str, Any]) -> None:
    # https://www.postgresql.org/docs/current/sql-notify.html
    parameters = {name: value for name, value in parameters.items() if name in _CONNECTING}
    with psycopg.connect(**parameters, autocommit=True) as listening:
        listening.execute(f"LISTEN {CHANNEL}")
        signals.began()
        pgconn = listening.pgconn
        with signals.selector(pgconn.socket) as selector:
            while not signals.is_closed:
                selector.select()
                pgconn.consume_input()
                while (notice := pgconn.notifies()) is not None:
                    task_id, _, status = notice.extra.decode().partition(" ")
                    signals.tell(UUID(task_id), status)


_CONNECTING = {
    "dbname",
    "user",
    "password",
    "host",
    "port",
    "connect_timeout",
    "options",
    "service",
    "passfile",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
}


def _listen_to_sqlite(signals: Signals, path: str) -> None:
    # data_version of https://www.sqlite.org/pragma.html changes when another connection has written.
    listening = sqlite3.connect(path, timeout=20, isolation_level=None)
    try:
        (last,) = listening.execute("SELECT coalesce(max(id), 0) FROM tasks_database_change").fetchone()
        signals.began()
        seen = None
        while not signals.is_closed:
            version = listening.execute("PRAGMA data_version").fetchone()
            if version == seen:
                time.sleep(_LOOK_SECONDS)
                continue
            seen = version
            rows = listening.execute("SELECT id, task_id, status FROM tasks_database_change WHERE id > ?", (last,))
            for change, task_id, status in rows.fetchall():
                signals.tell(UUID(task_id), status)
                last = change
    finally:
        listening.close()
