"""broker-down, database-restart: the broker or the database fails under load, and recovers."""

import time
from contextlib import closing

from faults.checks import Verdict, check
from faults.scene import LEASE_SECONDS, scene
from faults.services import REDIS_URL, OwnPostgres, OwnRedis

_PER_SECOND = 10
_END_SECONDS = 180
_BETWEEN_SECONDS = 3
_SLOWEST_CREATE_SECONDS = 2


def broker_down(*, short: bool) -> Verdict:
    """Redis is killed with all its messages and restarted, then hangs and continues; no create may be delayed."""
    seconds = 5 if short else 30
    with closing(OwnRedis()) as redis, scene("broker-down", short=short, broker=redis.url) as where:
        where.web()
        where.worker()
        where.wait()
        with where.load(["load"] * _PER_SECOND * (2 * seconds + 2 * _BETWEEN_SECONDS), per_second=_PER_SECOND) as load:
            for down, up in ((redis.stop, redis.start), (redis.hang, redis.resume)):
                time.sleep(_BETWEEN_SECONDS)
                where.journal.killed(down.__name__, [])
                down()
                time.sleep(seconds)
                up()
            load.finish(_END_SECONDS)
        verdict = check("broker-down", where.journal.path, where.effects, LEASE_SECONDS)
    if verdict.slowest_create > _SLOWEST_CREATE_SECONDS:
        verdict.other.append(f"a create took {verdict.slowest_create:.2f} s")
    return verdict


def database_restart(*, short: bool) -> Verdict:
    """PostgreSQL restarts as after a crash, while servers run tasks in threads."""
    return _restart("database-restart", "", short=short)


def database_restart_celery(*, short: bool) -> Verdict:
    """PostgreSQL restarts as after a crash, while Celery workers run the tasks."""
    return _restart("database-restart-celery", REDIS_URL, short=short)


def _restart(fault: str, broker: str, *, short: bool) -> Verdict:
    rounds = 1 if short else 5
    with closing(OwnPostgres()) as postgres, scene(fault, short=short, database=postgres.url, broker=broker) as where:
        where.web()
        if broker:
            where.worker()
        else:
            where.web()
        where.wait()
        with where.load(["load"] * _PER_SECOND * 2 * _BETWEEN_SECONDS * rounds, per_second=_PER_SECOND) as load:
            for _ in range(rounds):
                time.sleep(_BETWEEN_SECONDS)
                where.journal.killed("postgresql", [])
                postgres.restart()
                time.sleep(_BETWEEN_SECONDS)
            load.finish(_END_SECONDS)
        return check(fault, where.journal.path, where.effects, LEASE_SECONDS)
