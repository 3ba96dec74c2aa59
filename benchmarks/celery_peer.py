"""Throughput with PostgreSQL and Celery beside the usual way to have tasks with them, which `benchmarks.usual` is.

Rounds of the two alternate, each with a server and a worker of its own, so that whatever else the machine does meets
both; a figure is the median of its rounds.
"""

import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat

import psycopg

from benchmarks.server import PORT, Client, running

_ROUNDS, _TASKS, _WARM_UP, _CLIENTS = 5, 2000, 200, 8
_PYTHON = sys.executable
_WORKER = ("worker", "-c", "2", "-l", "critical")


@dataclass(frozen=True, kw_only=True)
class _Way:
    name: str
    settings: dict[str, str]
    migrate: tuple[str, ...]
    server: tuple[str, ...]
    worker: tuple[str, ...]
    table: str
    completed: str


_SERVICE = _Way(
    name="this service",
    settings={"DJANGO_SETTINGS_MODULE": "taskproject.settings", "TASK_KINDS": "benchmarks.kinds.ANSWER"},
    migrate=("manage.py", "migrate"),
    server=("manage.py", "serve", "--port", str(PORT)),
    worker=("-m", "celery", "-A", "taskproject", *_WORKER),
    table="tasks_database_task",
    completed="completed",
)
_USUAL = _Way(
    name="the usual way",
    settings={"DJANGO_SETTINGS_MODULE": "benchmarks.usual.settings"},
    migrate=("-m", "django", "migrate"),
    server=(
        *("-m", "granian", "--interface", "wsgi", "--blocking-threads", "4", "--port", str(PORT)),
        *("--factory", "django.core.wsgi:get_wsgi_application"),
    ),
    worker=("-m", "celery", "-A", "benchmarks.usual.celery", *_WORKER),
    table="django_celery_results_taskresult",
    completed="SUCCESS",
)


def celery() -> None:
    """Print how many creates are answered and how many tasks completed a second, by both."""
    missing = [name for name in ("DATABASE_URL", "CELERY_BROKER_URL") if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"Set {' and '.join(missing)}, to an empty PostgreSQL database and a Redis, and try again.")
    figures: dict[str, list[tuple[float, float]]] = {}
    for way in (_SERVICE, _USUAL):
        with running(*way.migrate, **way.settings) as process:
            process.wait()
    for _ in range(_ROUNDS):
        for way in (_SERVICE, _USUAL):
            figures.setdefault(way.name, []).append(_round(way))
    print(f"{_TASKS} tasks by {_CLIENTS} clients, two worker processes; creates and completed tasks a second:")
    medians = []
    for name, rounds in figures.items():
        medians.append([statistics.median(kind) for kind in zip(*rounds, strict=True)])
        all_rounds = ", ".join(f"{created:.0f}/{completed:.0f}" for created, completed in rounds)
        print(f"  {name}: {medians[-1][0]:.0f} and {medians[-1][1]:.0f} (rounds {all_rounds})")
    print("  ratio: " + " and ".join(f"{own / usual:.2f}" for own, usual in zip(*medians, strict=True)))


def _round(way: _Way) -> tuple[float, float]:
    """Creates and completed tasks a second."""
    with ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
        connection.execute(f"TRUNCATE {way.table}")  # type: ignore[call-overload]  # this module's own
        for command in (way.server, way.worker):
            stack.enter_context(running(*command, **way.settings))
        _create(_WARM_UP)
        _wait_for(connection, way, _WARM_UP)
        begin = time.perf_counter()
        _create(_TASKS)
        created = time.perf_counter() - begin
        _wait_for(connection, way, _WARM_UP + _TASKS)
        completed = time.perf_counter() - begin
    return _TASKS / created, _TASKS / completed


def _create(count: int) -> None:
    def create_some(share: int) -> None:
        client = Client(patient=True)
        for _ in range(share):
            client.create("answer")

    with ThreadPoolExecutor(_CLIENTS) as pool:
        list(pool.map(create_some, repeat(count // _CLIENTS, _CLIENTS)))


def _wait_for(connection: "psycopg.Connection[tuple[int]]", way: _Way, count: int) -> None:
    query = f"SELECT count(*) FROM {way.table} WHERE status = '{way.completed}'"  # noqa: S608 - this module's own
    while (found := connection.execute(query).fetchone()) is None or found[0] < count:  # type: ignore[call-overload]
        time.sleep(0.02)
