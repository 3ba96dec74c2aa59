"""Creates and completed tasks a second, with PostgreSQL and Celery over Redis, compared with the baseline.

DATABASE_URL and CELERY_BROKER_URL name the servers; what is in that database is deleted.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection

import psycopg
import redis

from benchmarks.server import free_port

_TASKS = 2000
_ROUNDS = 5
_CLIENTS = 8
_THREADS = 4
_PROCESSES = 2


@dataclass(frozen=True)
class Way:
    """One of the two: how it is prepared, served and worked for, and what it has done."""

    name: str
    path: str
    settings: str
    app: str
    server: tuple[str, ...]
    done: str
    tables: str


WAYS = (
    Way(
        name="this service",
        path="/create-return",
        settings="taskproject.settings",
        app="taskproject",
        server=("manage.py", "serve", "--port", "{port}", "--threads", str(_THREADS)),
        done="SELECT count(*) FROM tasks_database_task WHERE status = 'completed'",
        tables="tasks_database_task",
    ),
    Way(
        name="the baseline",
        path="/create",
        settings="benchmarks.baseline.settings",
        app="benchmarks.baseline.app",
        server=(
            *("-m", "granian", "--interface", "wsgi", "--port", "{port}", "--blocking-threads", str(_THREADS)),
            *("--log-level", "warning", "benchmarks.baseline.wsgi:application"),
        ),
        done="SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'",
        tables="django_celery_results_taskresult",
    ),
)


@contextmanager
def _process(way: Way, *command: str) -> Iterator[None]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": way.settings, "TASK_KINDS": "benchmarks.kinds.RETURN"}
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _running(way: Way) -> Iterator[int]:
    """A server with one process, and a worker with two."""
    port = free_port()
    worker = ("-m", "celery", "-A", way.app, "worker", f"--concurrency={_PROCESSES}", "--loglevel=ERROR")
    with ExitStack() as stack:
        stack.enter_context(_process(way, *(word.format(port=port) for word in way.server)))
        stack.enter_context(_process(way, *worker))
        deadline = time.monotonic() + 30
        while not _answers(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The server of {way.name} does not answer.")
            time.sleep(0.1)
        yield port


def _answers(port: int) -> bool:
    try:
        HTTPConnection("127.0.0.1", port, timeout=2).request("GET", "/")
    except OSError:
        return False
    return True


def _create(port: int, path: str, count: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        connection.request("POST", path, json.dumps({"name": "benchmark"}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status not in {201, 202}:
            raise RuntimeError(f"{path}: {answer.status} {content.decode()}")
    connection.close()


def _rates(way: Way, port: int, database: "psycopg.Connection[tuple[int]]", count: int) -> tuple[float, float]:
    """Creates a second, and completed tasks a second, of so many tasks."""
    database.execute(f"DELETE FROM {way.tables}")  # noqa: S608 - one of the two above
    began = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(partial(_create, port, way.path), [count // _CLIENTS] * _CLIENTS))
    created = time.monotonic()
    while database.execute(way.done).fetchone() != (count // _CLIENTS * _CLIENTS,):
        if time.monotonic() - created > 300:
            raise TimeoutError(f"Not all tasks of {way.name} were completed.")
        time.sleep(0.05)
    return count / (created - began), count / (time.monotonic() - began)


def celery() -> None:
    redis.Redis.from_url(os.environ["CELERY_BROKER_URL"]).flushdb()
    for way in WAYS:
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": way.settings}
        migrate = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
        subprocess.run(migrate, env=environment, check=True)
    rates: dict[str, list[tuple[float, float]]] = {way.name: [] for way in WAYS}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        for number in range(_ROUNDS):
            for way in WAYS:
                # One pair of processes at a time has the machine.
                with _running(way) as port:
                    _rates(way, port, database, 200)
                    rates[way.name].append(_rates(way, port, database, _TASKS))
            print(f"round {number + 1} of {_ROUNDS}: {_last(rates)}", flush=True)
    print(f"{_TASKS} tasks, the medians of {_ROUNDS} rounds, and of the ratios in each:")
    for what, ours, baseline in zip(("creates", "completed tasks"), *map(_columns, rates.values()), strict=True):
        ratio = statistics.median(one / other for one, other in zip(ours, baseline, strict=True))
        one, other = statistics.median(ours), statistics.median(baseline)
        print(f"  {what} a second: this service {one:.0f}, the baseline {other:.0f}, ratio {ratio:.2f}")


def _columns(found: list[tuple[float, float]]) -> Iterator[tuple[float, ...]]:
    return zip(*found, strict=True)


def _last(rates: dict[str, list[tuple[float, float]]]) -> str:
    return ", ".join(f"{name} {found[-1][0]:.0f} and {found[-1][1]:.0f}" for name, found in rates.items())
