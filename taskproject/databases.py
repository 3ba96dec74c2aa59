"""Django's DATABASES from a URL: the options with which SQLite and PostgreSQL keep the tasks."""

from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from taskproject import environment

# After waiting so long for another writer, SQLite reports that the database is locked.
_SQLITE_LOCK_SECONDS = 20
_CONNECT_SECONDS = 3
_POOL_TIMEOUT_SECONDS = 5


def from_environment(name: str, *, pool_size: int) -> dict[str, Any]:
    """DATABASES for the URL in that variable, of SQLite or PostgreSQL; empty where it is unset.

    `pool_size` is the most connections that a process has to PostgreSQL. Raises ImproperlyConfigured.
    """
    url = environment.text(name)
    if not url:
        return {}
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError as error:
        raise _bad_url(name) from error
    options = config.setdefault("OPTIONS", {})
    match config["ENGINE"].rpartition(".")[2]:
        case "sqlite3" if config["NAME"] != ":memory:":
            # A thread that ends would leave its connection open. IMMEDIATE: a writer waits for its turn when it begins.
            config["CONN_MAX_AGE"] = 0
            options |= {
                "timeout": _SQLITE_LOCK_SECONDS,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            }
        case "postgresql":
            config["CONN_MAX_AGE"] = 0  # closed means back to the pool
            options.setdefault("connect_timeout", _CONNECT_SECONDS)
            options["pool"] = {"min_size": 1, "max_size": pool_size, "timeout": _POOL_TIMEOUT_SECONDS}
        case _:
            raise _bad_url(name)
    return {"default": config}


def _bad_url(name: str) -> ImproperlyConfigured:
    # The message leaves out the URL, which may contain a password.
    return ImproperlyConfigured(
        f"{name} names no database that can store the tasks. Set it to a URL such as "
        "postgresql://user:password@host/name or sqlite:////var/lib/tasks.sqlite3, or unset it to keep the tasks in "
        "memory."
    )
