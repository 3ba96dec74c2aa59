"""Where the tasks are kept and done while the tests run: as DATABASE_URL and CELERY_BROKER_URL say.

Without them, in memory and in threads.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote
from uuid import UUID

import pytest
from django.conf import settings
from django.db import connection

from tasks.registry import Registry, get_registry

HAS_DATABASE = bool(settings.HAS_DATABASE)
HAS_BROKER = bool(settings.CELERY_BROKER_URL)
# A stop in memory fails what others could do where there are any.
alone = pytest.mark.skipif(HAS_DATABASE, reason="DATABASE_URL is set: other processes go on with the tasks")
# Of what a database adds.
in_a_database = pytest.mark.skipif(not HAS_DATABASE, reason="DATABASE_URL is not set; tests/test_databases.py sets it")
# Of requests that are refused before they reach the registry: the broker makes no difference to them.
before_the_registry = pytest.mark.before_the_registry
in_lanes = pytest.mark.skipif(HAS_BROKER, reason="CELERY_BROKER_URL is set: the work is done by Celery, in no lane")
DATABASE_REGISTRIES: list[Callable[[], Registry]] = []
if HAS_DATABASE:
    from tasks.contrib.database.models import Expired, Task
    from tasks.contrib.database.registry import DatabaseRegistry

    DATABASE_REGISTRIES.append(DatabaseRegistry)


def empty_database() -> None:
    """Begin with no task. The processes keep their leases: a server may serve a whole module of tests."""
    if not HAS_DATABASE:
        return
    for model in (Task, Expired):
        model.objects.all().delete()


def for_servers() -> dict[str, str]:
    """The variables by which a server uses the test database."""
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return {"DATABASE_URL": f"sqlite:///{config['NAME']}"}
    user = f"{config['USER']}:{quote(config['PASSWORD'])}" if config["PASSWORD"] else config["USER"]
    return {"DATABASE_URL": f"postgresql://{user}@{config['HOST']}:{config['PORT'] or 5432}/{config['NAME']}"}


@contextmanager
def celery_worker() -> Iterator[None]:
    """Where there is a broker, a worker of Celery, in threads of this process so that it has the settings of a test."""
    if not HAS_BROKER:
        yield
        return
    from celery.contrib.testing.worker import start_worker  # noqa: PLC0415 - an optional part of the service

    from taskproject.celery import app  # noqa: PLC0415 - the same
    from tasks.contrib.celery.worker import get_worker  # noqa: PLC0415 - the same

    # Each test has a registry and a dispatcher of its own, which this worker would not know.
    get_worker().stop()
    app.control.purge()
    # A worker that has not ended by then ends with this process.
    with suppress(RuntimeError), start_worker(app, concurrency=32, pool="threads", perform_ping_check=False):
        yield


def stop_cancelled_coroutines() -> None:
    """Where there is a broker, let the worker stop coroutines whose task is cancelled in the registry of this test."""
    leases = get_registry().leases
    if not HAS_BROKER or leases is None:
        return
    from tasks.contrib.celery.worker import get_worker  # noqa: PLC0415 - an optional part of the service

    def cancel(task_id: UUID | None) -> None:
        if task_id is not None:
            get_worker().cancel(task_id)

    leases.cancellations.subscribe(cancel)


def end_other_connections() -> None:
    """Those of threads that have not ended yet would keep the test database from being dropped."""
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # which PostgreSQL has
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
