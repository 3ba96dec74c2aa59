"""Settings and servers that cannot work stop the start, with a sentence that says what to do."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

_OLDEST_POSTGRESQL = 15


@register
def check_registry(**_: Any) -> list[CheckMessage]:
    """Whether TASK_REGISTRY names a registry, and one that works with the broker."""
    backend = settings.TASK_REGISTRY
    if not isinstance(backend, dict) or "BACKEND" not in backend:
        return [
            Error(
                "TASK_REGISTRY names no registry.",
                hint="Set it to a dictionary, as in {'BACKEND': 'tasks.registry.memory.MemoryRegistry'}.",
                id="tasks.E003",
            )
        ]
    if settings.CELERY_BROKER_URL and "redelivery_seconds" not in backend.get("OPTIONS", {}):
        return [
            Error(
                "CELERY_BROKER_URL is set, and TASK_REGISTRY does not say when to deliver a message again.",
                hint="Add 'OPTIONS': {'redelivery_seconds': (15, 60)} to TASK_REGISTRY.",
                id="tasks.E004",
            )
        ]
    return []


@register
def check_mode(**_: Any) -> list[CheckMessage]:
    """Whether the settings for the database and the broker can work together."""
    if not settings.CELERY_BROKER_URL:
        return []
    if not settings.HAS_DATABASE:
        return [
            Error(
                "CELERY_BROKER_URL is set and DATABASE_URL is not: the workers would never see the server's tasks.",
                hint="Set DATABASE_URL to a PostgreSQL database that all of them reach, or unset CELERY_BROKER_URL.",
                id="tasks.E001",
            )
        ]
    if connection.vendor == "sqlite":
        return [
            Error(
                "CELERY_BROKER_URL is set and DATABASE_URL names an SQLite file: workers on other machines cannot "
                "reach it, and it takes one writer at a time.",
                hint="Set DATABASE_URL to a PostgreSQL database, or unset CELERY_BROKER_URL.",
                id="tasks.E002",
            )
        ]
    return []


def startup_problem() -> str:
    """Why this process cannot serve or work, judging by the database and the broker; empty where it can."""
    return _database_problem() or _broker_problem()


def _database_problem() -> str:
    if not settings.HAS_DATABASE:
        return ""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        version = connection.get_database_version()
    except DatabaseError as error:
        return f"The database of DATABASE_URL cannot be used ({str(error).strip()}). Start it, or correct DATABASE_URL."
    finally:
        # Processes that are forked from this one must not share its connections.
        connection.close()
        if connection.vendor == "postgresql":
            connection.close_pool()  # type: ignore[attr-defined]  # which PostgreSQL alone has
    if plan:
        return "The database lacks tables that this version needs. Run `python manage.py migrate`, then start again."
    if connection.vendor == "postgresql" and version[0] < _OLDEST_POSTGRESQL:
        return f"The database is PostgreSQL {version[0]}; use {_OLDEST_POSTGRESQL} or newer."
    return ""


def _broker_problem() -> str:
    if not settings.CELERY_BROKER_URL.startswith(("redis:", "rediss:")):
        return ""
    import redis  # noqa: PLC0415 - most processes do not use it

    try:
        with redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_connect_timeout=1, socket_timeout=1) as server:
            policy = str(server.info("memory")["maxmemory_policy"])
    except (redis.RedisError, OSError, KeyError):
        return ""  # it may come back, and tasks are stored meanwhile
    if policy.startswith("allkeys"):
        return (
            f"The Redis of CELERY_BROKER_URL may evict messages (maxmemory-policy {policy}). Set the policy to "
            "noeviction, or use a Redis that is not a cache."
        )
    return ""
