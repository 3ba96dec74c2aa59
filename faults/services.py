"""Databases and brokers for the service: shared ones, and private ones that a fault may stop."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from kombu.connection import Connection

from faults.groups import wait_until

DATABASE_URL = os.environ.get("TEST_DATABASE_URL") or "postgresql://postgres@127.0.0.1/test"
REDIS_URL = os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379/0"
RABBITMQ_URL = os.environ.get("TEST_RABBITMQ_URL") or "amqp://guest:guest@127.0.0.1:5672//"
_START_SECONDS = 30


class Missing(Exception):
    """A service or a program that a fault needs is missing."""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def database(server: str = DATABASE_URL) -> Iterator[str]:
    """Create a database on that server, and yield its URL. Raises Missing."""
    name = f"faults_{uuid.uuid4().hex[:8]}"
    maintenance = urlsplit(server)._replace(path="/postgres").geturl()
    try:
        with psycopg.connect(maintenance, autocommit=True, connect_timeout=3) as connection:
            connection.execute(f"CREATE DATABASE {name}")
    except psycopg.OperationalError as error:
        raise Missing(f"PostgreSQL cannot be reached at TEST_DATABASE_URL: {error}") from error
    try:
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(maintenance, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def queue_at(broker: str, queue: str) -> Iterator[None]:
    """Check that the broker can be reached, and delete the queue of that name at the end. Raises Missing."""
    try:
        with _connection(broker) as connection:
            connection.ensure_connection(max_retries=1, timeout=3)
    except Exception as error:
        raise Missing(f"The broker cannot be reached at {broker}: {error!r}") from error
    try:
        yield
    finally:
        # A broker that is gone needs no cleanup.
        with suppress(Exception), _connection(broker) as connection:
            connection.default_channel.queue_delete(queue)


class OwnRedis:
    """A private Redis that stores nothing on disk, so that a stop loses every message."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing("redis-server is not in PATH.")
        self._port = free_port()
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(lambda: _listens(self._port), _START_SECONDS)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)


class OwnPostgres:
    """A private PostgreSQL cluster in a temporary folder, with the default settings for durability."""

    def __init__(self) -> None:
        found = shutil.which("pg_ctl") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), default=None)
        if found is None:
            raise Missing("pg_ctl is neither in PATH nor in /usr/lib/postgresql.")
        self._programs = Path(found).parent
        self._folder = Path(tempfile.mkdtemp(prefix="faults-postgresql-"))
        # PostgreSQL refuses to run as root.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self._as_user:
            shutil.chown(self._folder, "postgres")
        port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self._options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder}"
        self._run("initdb", "-A", "trust", "-U", "postgres")
        self._run("pg_ctl", "-w", "-o", self._options, "-l", str(self._folder / "log"), "start")

    def restart(self) -> None:
        """Break every connection, and let the database recover from its log."""
        self._run("pg_ctl", "-w", "-m", "immediate", "-o", self._options, "-l", str(self._folder / "log"), "restart")

    def close(self) -> None:
        self._run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, str(self._programs / program), "-D", str(self._folder / "data"), *arguments],
            check=True,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _connection(broker: str) -> Any:
    # A broker that hangs must not block the cleanup after a fault.
    return Connection(broker, connect_timeout=3)
