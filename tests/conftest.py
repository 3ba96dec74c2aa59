import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client

from tasks.dispatcher import ThreadDispatcher, get_dispatcher
from tasks.registry import MemoryRegistry, get_registry
from tasks.waiting import get_places
from tests import kinds, servers
from tests.helpers import Api, wait_for


@pytest.fixture(autouse=True, scope="session")
def _only_servers_are_measured() -> None:
    """Tell no other process to measure its coverage, since it takes each of them its time."""
    name = "COVERAGE_PROCESS_CONFIG"
    if name in os.environ:
        servers.coverage[name] = os.environ.pop(name)


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
    get_registry.use(MemoryRegistry())
    get_dispatcher.use(ThreadDispatcher())
    get_places.use()
    yield
    kinds.gate.set()
    get_dispatcher().drain(timeout=0)
    wait_for(lambda: get_places().taken == 0)  # whoever waited has given back the place, whatever came in between


@pytest.fixture(scope="session")
def client() -> Client:
    """One for all tests: each new one would load the middleware and look for every static file anew."""
    return Client()


@pytest.fixture
def api(client: Client) -> Api:
    return Api(client)


@pytest.fixture
def one_worker(settings: LazySettings) -> None:
    """One task runs, one waits, and there is no room for a third."""
    settings.TASK_THREADS = settings.TASK_QUEUE_LIMIT = 1
    get_dispatcher.use(ThreadDispatcher())
