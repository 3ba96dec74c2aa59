"""The tests in each mode but in memory, a run for each: `python -m tests.every_mode [OPTIONS OF PYTEST]`.

Servers are looked for where TEST_DATABASE_URL, TEST_REDIS_URL and TEST_RABBITMQ_URL say, or at their usual addresses. A
mode whose servers are not there is left out, which fails with REQUIRE_SERVICES=1.
"""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from tests.helpers import PROJECT

_DATABASE = os.environ.get("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/test")
_REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
_RABBITMQ = os.environ.get("TEST_RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//")
_PORTS = {"postgresql": 5432, "redis": 6379, "amqp": 5672}

MODES = {
    "sqlite": {"DATABASE_URL": f"sqlite:///{Path(tempfile.gettempdir()) / f'tasks-{os.getpid()}.sqlite3'}"},
    "postgresql": {"DATABASE_URL": _DATABASE},
    "celery-redis": {"DATABASE_URL": _DATABASE, "CELERY_BROKER_URL": _REDIS},
    "celery-rabbitmq": {"DATABASE_URL": _DATABASE, "CELERY_BROKER_URL": _RABBITMQ},
}
# What each mode promises besides, without the whole of HTTP.
FEW = {
    "sqlite": ["test_registry.py", "test_shared.py", "test_takeover.py"],
    "postgresql": ["test_registry.py", "test_shared.py", "test_takeover.py"],
    "celery-redis": ["test_create.py", "test_celery.py"],
    "celery-rabbitmq": ["test_poll.py", "test_celery.py"],
}
# What is not about HTTP, or about one process and what surrounds it, or stands in FEW.
_OF_NO_MODE = [
    f"test_{name}.py"
    for name in (
        *(
            "adding_a_kind",
            "checks",
            "databases",
            "dispatcher",
            "entry",
            "rsgi",
            "page",
            "peers",
            "readme",
            "runner",
        ),
        *("runserver", "runtask", "serve", "stop", "timer", "waiting"),
        *("celery", "registry", "shared", "takeover"),
    )
]


def missing(mode: str) -> str:
    """Which server of the mode does not answer; empty where all do."""
    for url in MODES[mode].values():
        address = urlsplit(url)
        if address.scheme == "sqlite":
            continue
        try:
            socket.create_connection(
                (address.hostname or "", address.port or _PORTS[address.scheme]), timeout=3
            ).close()
        except OSError as error:
            return f"{address.scheme} at {address.hostname} does not answer ({error})"
    return ""


def command(files: list[str], *options: str) -> list[str]:
    chosen = [f"tests/{name}" for name in files] or ["tests", *(f"--ignore=tests/{name}" for name in _OF_NO_MODE)]
    return [sys.executable, "-m", "pytest", "--no-cov", "--quiet", *chosen, *options]


def environment(mode: str) -> dict[str, str]:
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "CELERY_", "PYTEST_"))
    }
    return own | MODES[mode]


def main() -> None:
    failed = []
    for mode in MODES:
        print(f"== {mode}", flush=True)  # noqa: T201 - it is run at a terminal
        if reason := missing(mode):
            print(f"left out: {reason}", flush=True)  # noqa: T201 - it is run at a terminal
            if os.environ.get("REQUIRE_SERVICES") == "1":
                failed.append(mode)
        elif subprocess.run(command([], *sys.argv[1:]), env=environment(mode), cwd=PROJECT, check=False).returncode:
            failed.append(mode)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
