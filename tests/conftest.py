import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_django
from django.conf import LazySettings
from django.test import Client
from django.test.utils import setup_databases, teardown_databases

from tasks.dispatch import get_dispatcher
from tasks.dispatch.threads import ThreadDispatcher
from tasks.registry import get_registry
from tasks.waiting import get_waiter_limit
from tests import kinds, modes, servers
from tests.helpers import Api, wait_for


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the longest tests evenly, after the shuffle, so that each process of a run begins with one of them."""
    longest = [item for item in items if item.path.stem == "test_databases"]
    for item in longest:
        items.remove(item)
    for number, item in enumerate(longest):
        items.insert(number * (len(items) + 1) // len(longest), item)


@pytest.fixture(autouse=True, scope="session")
def _only_servers_are_measured() -> None:
    """Tell no other process to measure its coverage, since it takes each of them its time."""
    name = "COVERAGE_PROCESS_CONFIG"
    if name in os.environ:
        servers.coverage[name] = os.environ.pop(name)


@pytest.fixture(autouse=True, scope="session")
def _database(django_db_blocker: pytest_django.DjangoDbBlocker) -> Iterator[None]:
    """Where DATABASE_URL names a database, all tests use a test database there, and so do the servers they start."""
    if not modes.HAS_DATABASE:
        yield
        return
    with django_db_blocker.unblock():
        databases = setup_databases(verbosity=0, interactive=False)
        servers.mode.update(modes.for_servers())
        with modes.celery_worker():
            yield
        modes.end_other_connections()
        teardown_databases(databases, verbosity=0)


@pytest.fixture(autouse=True)
def _fresh(settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test an empty registry, idle workers and a files root of its own."""
    monkeypatch.setenv("TASK_FILES_ROOT", str(tmp_path / "files"))  # for the child processes
    settings.STORAGES = {
        **settings.STORAGES,
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": tmp_path / "files", "allow_overwrite": True},
        },
    }
    kinds.gate.clear()
    kinds.tidied.clear()
    modes.empty_database()
    get_registry.reset()
    get_dispatcher.reset()
    get_waiter_limit.reset()
    modes.stop_cancelled_coroutines()
    yield
    kinds.gate.set()
    get_dispatcher().drain(timeout=0)
    get_registry().close()
    wait_for(lambda: get_waiter_limit().in_use == 0)  # no waiter is left over, whatever happened


@pytest.fixture(scope="session")
def client() -> Client:
    """One for all tests: a new one loads the middleware and looks for every static file again."""
    return Client()


@pytest.fixture
def api(client: Client) -> Api:
    return Api(client)


@pytest.fixture
def one_worker(settings: LazySettings) -> None:
    """One task runs, one waits, and there is no room for a third."""
    settings.TASK_THREADS = settings.TASK_QUEUE_LIMIT = 1
    get_dispatcher.override(ThreadDispatcher())
