"""What cannot work is refused at the start, with a sentence that says what to do."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

_OLDEST_POSTGRESQL = 15


@register
def check_mode(**_: Any) -> list[CheckMessage]:
    """Where the tasks are kept and done. Looks at the settings alone."""
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


def obstacle() -> str:
    """What has to be done before a process can serve or work, as the database and the broker tell; empty if nothing."""
    return _database_obstacle() or _broker_obstacle()


def _database_obstacle() -> str:
    if not settings.HAS_DATABASE:
        return ""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
        version = connection.get_database_version()
    except DatabaseError as error:
        return f"The database of DATABASE_URL cannot be used ({str(error).strip()}). Start it, or mend DATABASE_URL."
    finally:
        # Processes that are forked from this one must not share what it has used.
        connection.close()
        if connection.vendor == "postgresql":
            connection.close_pool()  # type: ignore[attr-defined]  # which PostgreSQL alone has
    if plan:
        return "The database lacks tables that this version needs. Run `python manage.py migrate`, then start again."
    if connection.vendor == "postgresql" and version[0] < _OLDEST_POSTGRESQL:
        return f"The database is PostgreSQL {version[0]}; use {_OLDEST_POSTGRESQL} or newer."
    return ""


def _broker_obstacle() -> str:
    if not settings.CELERY_BROKER_URL.startswith(("redis:", "rediss:")):
        return ""
    import redis  # noqa: PLC0415 - a library that most processes have no use for

    try:
        with redis.Redis.from_url(settings.CELERY_BROKER_URL, socket_connect_timeout=1, socket_timeout=1) as server:
            policy = str(server.info("memory")["maxmemory_policy"])
    except (redis.RedisError, OSError, KeyError):
        return ""  # it may come back, and the tasks are stored meanwhile
    if policy.startswith("allkeys"):
        return (
            f"The Redis of CELERY_BROKER_URL may throw messages away (maxmemory-policy {policy}). Set it to "
            "noeviction, or use a Redis that is no cache."
        )
    return ""
