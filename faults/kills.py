"""kill-web, kill-worker, kill-both: processes are killed under load, again and again, and started again."""

import time
from dataclasses import dataclass
from itertools import cycle

from faults.checks import Verdict, check
from faults.groups import Group
from faults.scene import LEASE_SECONDS, Scene, scene
from faults.services import REDIS_URL

# What dies with its process is published again after 15 seconds, then twice as late each time.
_END_SECONDS = 120


@dataclass(frozen=True)
class _Pace:
    rounds: int
    seconds: float
    per_second: float


def kill_web(*, short: bool) -> Verdict:
    """Servers that do the work in threads: in turn all of one dies, and only its process that serves."""
    with scene("kill-web", short=short) as where:
        targets = [where.web(), where.web()]
        return _kill(where, "kill-web", [targets], _Pace(3 if short else 40, 2, 25))


def kill_worker(*, short: bool) -> Verdict:
    """Celery workers: in turn all of one dies, and only one of its children."""
    with scene("kill-worker", short=short, broker=REDIS_URL) as where:
        where.web()
        targets = [where.worker(), where.worker()]
        return _kill(where, "kill-worker", [targets], _Pace(3 if short else 30, 2.5, 20))


def kill_both(*, short: bool) -> Verdict:
    """Servers and Celery workers at once."""
    with scene("kill-both", short=short, broker=REDIS_URL) as where:
        webs = [where.web(), where.web()]
        workers = [where.worker(), where.worker()]
        return _kill(where, "kill-both", [webs, workers], _Pace(2 if short else 15, 4, 25))


def _kill(where: Scene, fault: str, targets: list[list[Group]], pace: _Pace) -> Verdict:
    """Each round kills one of each list."""
    where.wait()
    turns = [cycle(groups) for groups in targets]
    with where.load(["load"] * round(pace.rounds * pace.seconds * pace.per_second), per_second=pace.per_second) as load:
        for number in range(pace.rounds):
            time.sleep(pace.seconds)
            for turn in turns:
                # Two groups, and two ways to die: each group dies in both.
                where.fleet.kill(next(turn), child=number % 4 in {1, 2})
        load.finish(_END_SECONDS)
    return check(fault, where.journal.path, where.effects, LEASE_SECONDS)
