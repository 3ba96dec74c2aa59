"""kill-web, kill-worker, kill-both: processes are repeatedly killed and restarted under load."""

import time
from dataclasses import dataclass
from itertools import cycle

from faults.checks import Verdict, check
from faults.groups import Group
from faults.scene import LEASE_SECONDS, Scene, scene
from faults.services import REDIS_URL

# A message that is lost with its process is published again after 15 seconds, then after twice as long each time.
_END_SECONDS = 120


@dataclass(frozen=True)
class _Pace:
    rounds: int
    seconds: float
    per_second: float


def kill_web(*, short: bool) -> Verdict:
    """Servers that run tasks in threads are killed, alternately as a whole and only the process that serves."""
    with scene("kill-web", short=short) as where:
        targets = [where.web(), where.web()]
        return _kill(where, "kill-web", [targets], _Pace(3 if short else 40, 2, 25))


def kill_worker(*, short: bool) -> Verdict:
    """Celery workers are killed, alternately as a whole and only one child process."""
    with scene("kill-worker", short=short, broker=REDIS_URL) as where:
        where.web()
        targets = [where.worker(), where.worker()]
        return _kill(where, "kill-worker", [targets], _Pace(3 if short else 30, 2.5, 20))


def kill_both(*, short: bool) -> Verdict:
    """Servers and Celery workers are killed at the same time."""
    with scene("kill-both", short=short, broker=REDIS_URL) as where:
        webs = [where.web(), where.web()]
        workers = [where.worker(), where.worker()]
        return _kill(where, "kill-both", [webs, workers], _Pace(2 if short else 15, 4, 25))


def _kill(where: Scene, fault: str, targets: list[list[Group]], pace: _Pace) -> Verdict:
    """Kill one group of each list in every round, then check the run."""
    where.wait()
    turns = [cycle(groups) for groups in targets]
    with where.load(["load"] * round(pace.rounds * pace.seconds * pace.per_second), per_second=pace.per_second) as load:
        for number in range(pace.rounds):
            time.sleep(pace.seconds)
            for turn in turns:
                # Alternate so that each of the two groups is killed both as a whole and by one child.
                where.fleet.kill(next(turn), child=number % 4 in {1, 2})
        load.finish(_END_SECONDS)
    return check(fault, where.journal.path, where.effects, LEASE_SECONDS)
