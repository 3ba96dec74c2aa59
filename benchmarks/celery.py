"""Creates and completed tasks per second, with PostgreSQL and Celery over Redis, compared with the baseline.

DATABASE_URL and CELERY_BROKER_URL name the servers. The tasks in that database and the Redis database are deleted.
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
class Candidate:
    """One of the two services: how its server and its worker are started, and how its completed tasks are counted."""

    name: str
    path: str
    settings: str
    app: str
    server: tuple[str, ...]
    completed: str
    table: str


CANDIDATES = (
    Candidate(
        name="this service",
        path="/create-return",
        settings="taskproject.settings",
        app="taskproject",
        server=("manage.py", "serve", "--port", "{port}", "--threads", str(_THREADS)),
        completed="SELECT count(*) FROM tasks_database_task WHERE status = 'completed'",
        table="tasks_database_task",
    ),
    Candidate(
        name="baseline",
        path="/create",
        settings="benchmarks.baseline.settings",
        app="benchmarks.baseline.app",
        server=(
            *("-m", "granian", "--interface", "wsgi", "--port", "{port}", "--blocking-threads", str(_THREADS)),
            *("--log-level", "warning", "benchmarks.baseline.wsgi:application"),
        ),
        completed="SELECT count(*) FROM django_celery_results_taskresult WHERE status = 'SUCCESS'",
        table="django_celery_results_taskresult",
    ),
)


@contextmanager
def _process(candidate: Candidate, *command: str) -> Iterator[None]:
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": candidate.settings, "TASK_KINDS": "benchmarks.kinds.RETURN"}
    process = subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _running(candidate: Candidate) -> Iterator[int]:
    """Run a server with one process and a worker with two; yield the port."""
    port = free_port()
    worker = ("-m", "celery", "-A", candidate.app, "worker", f"--concurrency={_PROCESSES}", "--loglevel=ERROR")
    with ExitStack() as stack:
        stack.enter_context(_process(candidate, *(word.format(port=port) for word in candidate.server)))
        stack.enter_context(_process(candidate, *worker))
        deadline = time.monotonic() + 30
        while not _responds(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The server of {candidate.name} does not respond.")
            time.sleep(0.1)
        yield port


def _responds(port: int) -> bool:
    try:
        HTTPConnection("127.0.0.1", port, timeout=2).request("GET", "/")
    except OSError:
        return False
    return True


def _create(port: int, path: str, count: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for _ in range(count):
        connection.request("POST", path, json.dumps({"name": "benchmark"}), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status not in {201, 202}:
            raise RuntimeError(f"{path}: {response.status} {content.decode()}")
    connection.close()


def _rates(
    candidate: Candidate, port: int, database: "psycopg.Connection[tuple[int]]", count: int
) -> tuple[float, float]:
    """Create and complete `count` tasks; return the creates and the completed tasks per second."""
    database.execute(f"DELETE FROM {candidate.table}")  # noqa: S608 - a table named above
    began = time.monotonic()
    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(partial(_create, port, candidate.path), [count // _CLIENTS] * _CLIENTS))
    created = time.monotonic()
    while database.execute(candidate.completed).fetchone() != (count // _CLIENTS * _CLIENTS,):
        if time.monotonic() - created > 300:
            raise TimeoutError(f"Not all tasks of {candidate.name} were completed.")
        time.sleep(0.05)
    return count / (created - began), count / (time.monotonic() - began)


def celery() -> None:
    redis.Redis.from_url(os.environ["CELERY_BROKER_URL"]).flushdb()
    for candidate in CANDIDATES:
        environment = os.environ | {"DJANGO_SETTINGS_MODULE": candidate.settings}
        migrate = [sys.executable, "-m", "django", "migrate", "--verbosity=0"]
        subprocess.run(migrate, env=environment, check=True)
    rates: dict[str, list[tuple[float, float]]] = {candidate.name: [] for candidate in CANDIDATES}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        for number in range(_ROUNDS):
            for candidate in CANDIDATES:
                # Only one candidate runs at a time.
                with _running(candidate) as port:
                    _rates(candidate, port, database, 200)
                    rates[candidate.name].append(_rates(candidate, port, database, _TASKS))
            print(f"round {number + 1} of {_ROUNDS}: {_last(rates)}", flush=True)
    print(f"{_TASKS} tasks; medians of {_ROUNDS} rounds, and the median of their ratios:")
    for measure, ours, baseline in zip(("creates", "completed tasks"), *map(_columns, rates.values()), strict=True):
        ratio = statistics.median(one / other for one, other in zip(ours, baseline, strict=True))
        one, other = statistics.median(ours), statistics.median(baseline)
        print(f"  {measure} per second: this service {one:.0f}, baseline {other:.0f}, ratio {ratio:.2f}")


def _columns(rates: list[tuple[float, float]]) -> Iterator[tuple[float, ...]]:
    return zip(*rates, strict=True)


def _last(rates: dict[str, list[tuple[float, float]]]) -> str:
    return ", ".join(f"{name} {rounds[-1][0]:.0f} and {rounds[-1][1]:.0f}" for name, rounds in rates.items())
