"""Settings and servers that cannot work stop the start, with a sentence that says what to do."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured

from tasks import checks
from tests.helpers import PROJECT, clean_environment, lack, wait_for
from tests.servers import free_port


def refused(*command: str, **settings: str) -> str:
    """The output of a start that must be refused."""
    run = subprocess.run(
        [sys.executable, *command],
        env=clean_environment(**settings),
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    return run.stdout + run.stderr


SERVE = ("manage.py", "serve", "--port", "0")
WORKER = ("-m", "celery", "-A", "taskproject", "worker", "--concurrency=1")
NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
A_URL = "Set it to a URL such as postgresql://user:password@host/name"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("DATABASE_URL", "mysql://me:secret@host/name", A_URL),
        ("DATABASE_URL", "nonsense", A_URL),
        ("DATABASE_URL", "sqlite://:memory:", A_URL),
        ("TASK_LEASE_SECONDS", "0", "TASK_LEASE_SECONDS is '0'"),
        ("TASK_DATABASE_POOL_SIZE", "none", "set it to a whole number of 1 or more"),
    ],
)
def test_settings_that_cannot_work_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, hint: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured) as refusal:
        runpy.run_path(str(PROJECT / "taskproject" / "settings.py"))
    assert hint in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("has_database", "hint"),
    [
        (False, "Set DATABASE_URL to a PostgreSQL database that all of them reach"),
        (True, "Set DATABASE_URL to a PostgreSQL database, or unset CELERY_BROKER_URL"),
    ],
)
def test_a_broker_without_a_database_server_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: LazySettings, *, has_database: bool, hint: str
) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1"
    settings.HAS_DATABASE = has_database
    monkeypatch.setattr(checks, "connection", Mock(vendor="sqlite"))
    [error] = checks.check_mode()
    assert hint in str(error.hint)


@pytest.mark.parametrize(
    ("registry", "hint"),
    [
        ("tasks.registry.memory.MemoryRegistry", "Set it to a dictionary"),
        ({}, "Set it to a dictionary"),
        ({"BACKEND": "tasks.contrib.database.registry.DatabaseRegistry"}, "'redelivery_seconds': (15, 60)"),
    ],
)
def test_a_registry_that_cannot_work_is_refused(settings: LazySettings, registry: object, hint: str) -> None:
    settings.CELERY_BROKER_URL = "redis://127.0.0.1"
    settings.TASK_REGISTRY = registry
    [error] = checks.check_registry()
    assert hint in str(error.hint)


def test_a_database_without_its_tables_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.sqlite3"
    assert "Run `python manage.py migrate`" in refused(*SERVE, DATABASE_URL=url)


def test_a_refused_setting_ends_the_command_with_its_sentence_alone() -> None:
    said = refused(*SERVE, DATABASE_URL="mysql://me:secret@host/name")
    assert A_URL in said
    assert "secret" not in said


def test_a_refused_mode_ends_the_command_with_its_sentence() -> None:
    assert "Set DATABASE_URL to a PostgreSQL database" in refused(*SERVE, CELERY_BROKER_URL="redis://127.0.0.1")


def test_a_server_without_its_database_does_not_start() -> None:
    assert "Start it, or correct DATABASE_URL." in refused(*SERVE, DATABASE_URL=NO_DATABASE)


def test_a_worker_without_its_database_does_not_start() -> None:
    mode = {"CELERY_BROKER_URL": "redis://127.0.0.1", "DATABASE_URL": NO_DATABASE}
    assert "Start it, or correct DATABASE_URL." in refused(*WORKER, **mode)


@pytest.fixture
def evicting_redis() -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        lack("There is no redis-server here: install it, as by `apt-get install redis-server`.")
    port = free_port()
    options = ["--port", str(port), "--save", "", "--maxmemory", "10mb", "--maxmemory-policy", "allkeys-lru"]
    with subprocess.Popen([program, *options], stdout=subprocess.PIPE, text=True) as redis:
        assert redis.stdout is not None
        wait_for(lambda: redis.stdout and "Ready to accept" in redis.stdout.readline())
        yield f"redis://127.0.0.1:{port}/0"
        redis.terminate()
        redis.stdout.read()


def test_a_redis_that_may_evict_messages_is_refused(
    evicting_redis: str, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.CELERY_BROKER_URL = evicting_redis
    monkeypatch.setattr(checks, "_database_problem", str)
    assert "Set the policy to noeviction" in checks.startup_problem()
