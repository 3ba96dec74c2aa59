"""How a process learns what all of them changed."""

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
from tasks.once import Once
from tasks.watchers import Notify, Watchers

logger = logging.getLogger(__name__)

CHANNEL = "tasks_changed"
# What a notification may hold, less some (https://www.postgresql.org/docs/current/sql-notify.html).
_PAYLOAD_CHARACTERS = 7500
_MOST_UNSAID = 100_000
# What changes within such a pause after something was said is said together.
_PAUSE_SECONDS = 0.02
# SQLite tells nobody, so that its file has to be looked at.
_LOOK_SECONDS = 0.01
_AGAIN_SECONDS = 1
_BEGIN_SECONDS = 2
_END_SECONDS = 5


class Signals:
    """Tells the watchers of `changes`, and of `cancels` among them, what this process or another has changed.

    On PostgreSQL each process notifies the others after its changes, many at once: a notification within a change's
    own transaction would have all commits wait for each other. So one that is killed may not have told of its last.
    """

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._listen = Once(self._start_listening)
        self._speak = Once(self._start_speaking)
        self.changes = _Listened(self._listen)
        self.cancels = _Listened(self._listen)
        self._listening = threading.Event()
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._unsaid: queue.Queue[tuple[UUID, str] | None] = queue.Queue(_MOST_UNSAID)

    def say(self, task_id: UUID, status: str) -> None:
        """Tell all processes of a change that was made, this one at once."""
        if connection.vendor != "postgresql":
            return  # a trigger has listed it
        self._tell(task_id, status)
        try:
            self._speak()
            self._unsaid.put_nowait((task_id, status))
        except (queue.Full, threading.ThreadError) as error:  # the change itself was made
            logger.warning("Other processes hear late of a change: %r", error)

    def close(self) -> None:
        """End the threads, once all is said."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._unsaid.put(None)
        if self._listening.is_set():
            self._wake.send(b"closed")
        for thread in self._threads:
            thread.join(_END_SECONDS)
        if self._listening.is_set():
            self._wake.close()
            self._woken.close()

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _tell(self, task_id: UUID, status: str) -> None:
        if status == Status.CANCELLED:
            self.cancels.tell(task_id)
        self.changes.tell(task_id)

    # What is said to others.

    def _start_speaking(self) -> None:
        self._begin("tasks-notify", self._say_all)

    def _say_all(self) -> None:
        while (change := self._unsaid.get()) is not None:
            payload = self._id
            while change is not None:
                payload += f" {change[0]} {change[1]}"
                if len(payload) > _PAYLOAD_CHARACTERS or self._unsaid.empty():
                    break
                change = self._unsaid.get()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
            except Error:
                connection.close()  # who listens was cut off as well, and looks again once it is not
            if connection.settings_dict["CONN_MAX_AGE"] == 0:
                connection.close()  # back to the pool
            if change is None:
                return
            time.sleep(_PAUSE_SECONDS)

    # What is heard of others.

    def _start_listening(self) -> None:
        self._wake, self._woken = socket.socketpair()
        if connection.vendor == "postgresql":
            parameters = connection.get_connection_params()
            self._begin("tasks-signals", lambda: self._keep_on(self._listen_to_postgresql, parameters))
        else:
            path = connection.settings_dict["NAME"]
            self._begin("tasks-signals", lambda: self._keep_on(self._listen_to_sqlite, path))
        # So that nothing is missed that changes from now on; without a database everything is, until it is back.
        self._listening.wait(_BEGIN_SECONDS)

    def _keep_on(self, listen: Callable[[Any], None], place: Any) -> None:
        is_away = False
        while not self._closed.is_set():
            try:
                listen(place)
            except (psycopg.Error, sqlite3.Error, OSError) as error:
                if not is_away and not self._closed.is_set():
                    logger.warning("No news of changes until the database is back: %s", str(error).strip())
                is_away = True
                self._closed.wait(_AGAIN_SECONDS)

    def _has_begun(self) -> None:
        """From now on nothing is missed; before, anything may have been."""
        self._listening.set()
        self.changes.tell_all()
        self.cancels.tell_all()

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
                    speaker, *words = notice.extra.decode().split()
                    if speaker != self._id:
                        for task_id, status in zip(words[::2], words[1::2], strict=True):
                            self._tell(UUID(task_id), status)

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
                    time.sleep(_LOOK_SECONDS)
                    continue
                seen = version
                changes = "SELECT id, task_id, status FROM tasks_database_change WHERE id > ?"
                for change, task_id, status in listening.execute(changes, (last,)).fetchall():
                    self._tell(UUID(task_id), status)
                    last = change
        finally:
            listening.close()


class _Listened(Watchers):
    def __init__(self, listen: Callable[[], None]) -> None:
        super().__init__()
        self._listen = listen

    def add(self, notify: Notify, task_id: UUID | None = None) -> None:
        self._listen()
        super().add(notify, task_id)
