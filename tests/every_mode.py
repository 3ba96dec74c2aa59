"""The tests of HTTP in each mode but memory, a run for each: `python -m tests.every_mode [OPTIONS OF PYTEST]`.

The servers are those of TEST_DATABASE_URL, TEST_REDIS_URL and TEST_RABBITMQ_URL, or at their default addresses. A
mode without its servers is left out, which fails with REQUIRE_SERVICES=1.
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
# The promises of each mode, with a part of HTTP.
FEW = {
    "sqlite": ["test_registry.py", "test_shared.py", "test_takeover.py"],
    "postgresql": ["test_registry.py", "test_shared.py", "test_takeover.py"],
    "celery-redis": ["test_create.py", "test_celery.py"],
    "celery-rabbitmq": ["test_poll.py", "test_celery.py"],
}
# These do not concern HTTP, or one process and its surroundings, or are in FEW.
_OF_NO_MODE = [
    f"test_{name}.py"
    for name in (
        *("adding_a_kind", "checks", "databases", "dispatcher", "docs", "entry", "page", "peers", "readme"),
        *("readme_ru", "rsgi", "runner", "runserver", "runtask", "serve", "stop", "timer", "waiting"),
        *("celery", "registry", "shared", "takeover"),
    )
]


def missing(mode: str) -> str:
    """The server of the mode that does not respond; empty where all do."""
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


def command(mode: str, files: list[str], *options: str) -> list[str]:
    chosen = [f"tests/{name}" for name in files] or ["tests", *(f"--ignore=tests/{name}" for name in _OF_NO_MODE)]
    if "CELERY_BROKER_URL" in MODES[mode]:
        # A request that is refused before it reaches the registry never meets the broker.
        chosen.append("-mnot before_the_registry")
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
            continue
        run = subprocess.run(command(mode, [], *sys.argv[1:]), env=environment(mode), cwd=PROJECT, check=False)
        if run.returncode:
            failed.append(mode)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
