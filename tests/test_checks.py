"""What cannot work stops the start, with a sentence that says what to do."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from tasks import checks
from tests.helpers import PROJECT, clean_environment, lack, wait_for
from tests.servers import free_port


def refused(*command: str, **settings: str) -> str:
    """What a start that must be refused prints."""
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


@pytest.mark.parametrize(
    ("mode", "hint"),
    [
        (
            {"CELERY_BROKER_URL": "redis://127.0.0.1"},
            "Set DATABASE_URL to a PostgreSQL database that all of them reach",
        ),
        (
            {"CELERY_BROKER_URL": "redis://127.0.0.1", "DATABASE_URL": "sqlite:////nowhere/x"},
            "Set DATABASE_URL to a PostgreSQL database, or unset CELERY_BROKER_URL",
        ),
        ({"DATABASE_URL": "mysql://host/name"}, "Set it to a URL such as postgresql://user:password@host/name"),
        ({"DATABASE_URL": "nonsense"}, "Set it to a URL such as postgresql://user:password@host/name"),
        ({"DATABASE_URL": "sqlite://:memory:"}, "Set it to a URL such as postgresql://user:password@host/name"),
        ({"DATABASE_URL": NO_DATABASE}, "Start it, or correct DATABASE_URL."),
        ({"TASK_LEASE_SECONDS": "0"}, "TASK_LEASE_SECONDS is '0'"),
    ],
)
def test_a_server_that_cannot_work_does_not_start(mode: dict[str, str], hint: str) -> None:
    assert hint in refused(*SERVE, **mode)


def test_the_sentence_holds_no_password() -> None:
    assert "secret" not in refused(*SERVE, DATABASE_URL="mysql://me:secret@host/name")


def test_a_database_without_its_tables_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.sqlite3"
    assert "Run `python manage.py migrate`" in refused(*SERVE, DATABASE_URL=url)


def test_a_worker_that_cannot_work_does_not_start() -> None:
    mode = {"CELERY_BROKER_URL": "redis://127.0.0.1", "DATABASE_URL": NO_DATABASE}
    assert "Start it, or correct DATABASE_URL." in refused(*WORKER, **mode)


@pytest.fixture
def forgetful_redis() -> Iterator[str]:
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
    forgetful_redis: str, monkeypatch: pytest.MonkeyPatch, settings: LazySettings
) -> None:
    settings.CELERY_BROKER_URL = forgetful_redis
    monkeypatch.setattr(checks, "_database_problem", str)
    assert "Set the policy to noeviction" in checks.startup_problem()
