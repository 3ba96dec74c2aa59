"""Typed readers of environment variables; a value that cannot work stops the start with what to set."""

import os
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

# Some thirty years, which dates and timers can still count.
MOST_SECONDS = 1_000_000_000


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def flag(name: str) -> bool:
    value = text(name, "false").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; set it to true or false, or leave it unset.")


def integer(name: str, default: int, *, least: int = 1) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise ImproperlyConfigured(f"{name} is {value!r}; set it to a whole number of {least} or more.")
    return number


def seconds(name: str, default: float, *, least: float = 0) -> float:
    value = text(name, str(default))
    try:
        number = float(value)
    except ValueError:
        number = -1
    if not least <= number <= MOST_SECONDS:
        raise ImproperlyConfigured(
            f"{name} is {value!r}; set it to a number of seconds from {least:g} to {MOST_SECONDS:,}."
        )
    return number


# Waiting longer for a writer than this, a SQLite database answers that it is locked.
_SQLITE_LOCK_SECONDS = 20
_POOL_TIMEOUT_SECONDS = 5


def database(name: str) -> dict[str, Any]:
    """Django's DATABASES for a URL of SQLite or PostgreSQL; empty where there is none."""
    url = text(name)
    if not url:
        return {}
    try:
        config: dict[str, Any] = dict(dj_database_url.parse(url))
    except ValueError as error:
        raise _bad_url(name) from error
    options = config.setdefault("OPTIONS", {})
    match config["ENGINE"].rpartition(".")[2]:
        case "sqlite3" if config["NAME"] != ":memory:":
            # A thread that ends would leave its connection open. What will write waits for its turn at its beginning.
            config["CONN_MAX_AGE"] = 0
            options |= {
                "timeout": _SQLITE_LOCK_SECONDS,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            }
        case "postgresql":
            config["CONN_MAX_AGE"] = 0  # which is back to the pool
            options.setdefault("connect_timeout", 3)
            options["pool"] = {"min_size": 1, "max_size": 16, "timeout": _POOL_TIMEOUT_SECONDS}
        case _:
            raise _bad_url(name)
    return {"default": config}


def _bad_url(name: str) -> ImproperlyConfigured:
    # The URL itself may hold a password.
    return ImproperlyConfigured(
        f"{name} names no database that can keep the tasks; set it to a URL as postgresql://user:password@host/name or "
        "sqlite:////var/lib/tasks.sqlite3, or leave it unset to keep the tasks in memory."
    )
