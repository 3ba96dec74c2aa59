"""How a process learns what other processes changed."""

import logging
import queue
import selectors
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
from django.db import Error, connection

from tasks.entry import Status
from tasks.registry.notifier import Callback, Notifier
from tasks.utils.lazy import RunOnce

logger = logging.getLogger(__name__)

CHANNEL = "tasks_changed"
# The size limit of a notification, less a margin (https://www.postgresql.org/docs/current/sql-notify.html).
_PAYLOAD_CHARACTERS = 7500
_MAX_OUTBOX = 100_000
# Changes within such a pause after a notification go out together.
_PAUSE_SECONDS = 0.02
# SQLite notifies nobody, so its file is polled.
_POLL_SECONDS = 0.01
_RECONNECT_SECONDS = 1
# A process that was killed may not have published its last change, so a subscriber also looks for itself.
_RECHECK_SECONDS = 5
_BEGIN_SECONDS = 2
_END_SECONDS = 5


class LazyNotifier(Notifier):
    """Begins to listen to other processes at its first subscription."""

    recheck_seconds = _RECHECK_SECONDS

    def __init__(self, listen: Callable[[], None]) -> None:
        super().__init__()
        self._listen = listen

    def subscribe(self, callback: Callback, task_id: UUID | None = None) -> None:
        self._listen()
        super().subscribe(callback, task_id)


class ChangeNotifier:
    """Notifies the subscribers of what this process or another has changed, or cancelled.

    On PostgreSQL each process notifies the others after its changes, many at once: a notification within a change's
    own transaction would have all commits wait for each other. So a killed process may not have sent its last one.
    """

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        listen = RunOnce(self._start_listening)
        self.notifier = LazyNotifier(listen)
        self.cancellations = LazyNotifier(listen)
        self._start_publishing = RunOnce(lambda: self._begin("tasks-notify", self._publish_all))
        self._listening = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._outbox: queue.Queue[tuple[UUID, str] | None] = queue.Queue(_MAX_OUTBOX)

    def publish(self, task_id: UUID, status: str) -> None:
        """Notify all processes of a change that was made, this one immediately."""
        if connection.vendor != "postgresql":
            return  # a trigger has recorded it
        self._notify(task_id, status)
        try:
            self._start_publishing()
            self._outbox.put_nowait((task_id, status))
        except (queue.Full, threading.ThreadError) as error:  # the change itself was made
            logger.warning("Other processes learn of a change late: %r", error)

    def close(self) -> None:
        """End the threads, once the outbox is empty, and notify every subscriber for the last time."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._outbox.put(None)
        if self._listening.is_set():
            self._wake.send(b"closed")
        for thread in self._threads:
            thread.join(_END_SECONDS)
        if self._listening.is_set():
            self._wake.close()
            self._woken.close()
        self.notifier.close()
        self.cancellations.close()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _notify(self, task_id: UUID, status: str) -> None:
        if status == Status.CANCELLED:
            self.cancellations.notify(task_id)
        self.notifier.notify(task_id)

    # Publishing to other processes.

    def _publish_all(self) -> None:
        while (change := self._outbox.get()) is not None:
            payload = self._id
            while change is not None:
                payload += f" {change[0]} {change[1]}"
                if len(payload) > _PAYLOAD_CHARACTERS or self._outbox.empty():
                    break
                change = self._outbox.get()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
            except Error:
                connection.close()  # the listeners were cut off as well, and look again once they reconnect
            if connection.settings_dict["CONN_MAX_AGE"] == 0:
                connection.close()  # back to the pool
            if change is None:
                return
            time.sleep(_PAUSE_SECONDS)

    # Listening to other processes.

    def _start_listening(self) -> None:
        self._wake, self._woken = socket.socketpair()
        if connection.vendor == "postgresql":
            parameters = connection.get_connection_params()
            self._begin("tasks-listen", lambda: self._keep_listening(self._listen_to_postgresql, parameters))
        else:
            path = connection.settings_dict["NAME"]
            self._begin("tasks-listen", lambda: self._keep_listening(self._listen_to_sqlite, path))
        # So that no change from now on is missed; while the database is away all are missed, until it is back.
        self._listening.wait(_BEGIN_SECONDS)

    def _keep_listening(self, listen: Callable[[Any], None], database: Any) -> None:
        is_away = False
        while not self._closed.is_set():
            try:
                listen(database)
            except (psycopg.Error, sqlite3.Error, OSError) as error:
                if not is_away and not self._closed.is_set():
                    logger.warning("Changes of other processes are missed until the database is back: %s", error)
                is_away = True
                self._closed.wait(_RECONNECT_SECONDS)

    def _has_begun(self) -> None:
        """From now on nothing is missed; before, anything may have been."""
        self._listening.set()
        self.notifier.notify_all()
        self.cancellations.notify_all()

    def _listen_to_postgresql(self, parameters: dict[str, Any]) -> None:
        with psycopg.connect(**parameters, autocommit=True) as listening, selectors.DefaultSelector() as selector:
            listening.execute(f"LISTEN {CHANNEL}")
            pgconn = listening.pgconn
            selector.register(pgconn.socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            self._has_begun()
            while not self._closed.is_set():
                selector.select()
                pgconn.consume_input()
                while (notice := pgconn.notifies()) is not None:
                    publisher, *words = notice.extra.decode().split()
                    if publisher != self._id:
                        for task_id, status in zip(words[::2], words[1::2], strict=True):
                            self._notify(UUID(task_id), status)

    def _listen_to_sqlite(self, path: str) -> None:
        # data_version of https://www.sqlite.org/pragma.html changes when another connection has written.
        listening = sqlite3.connect(path, timeout=20, isolation_level=None)
        try:
            (last,) = listening.execute("SELECT coalesce(max(id), 0) FROM tasks_database_change").fetchone()
            self._has_begun()
            seen = None
            while not self._closed.is_set():
                version = listening.execute("PRAGMA data_version").fetchone()
                if version == seen:
                    time.sleep(_POLL_SECONDS)
                    continue
                seen = version
                changes = "SELECT id, task_id, status FROM tasks_database_change WHERE id > ?"
                for change, task_id, status in listening.execute(changes, (last,)).fetchall():
                    self._notify(UUID(task_id), status)
                    last = change
        finally:
            listening.close()
