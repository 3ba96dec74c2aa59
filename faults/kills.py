"""kill-web, kill-worker, kill-both: processes are killed under load, again and again, and started again."""

import time
from itertools import cycle

from faults.checks import Verdict, check
from faults.groups import Group
from faults.scene import LEASE_SECONDS, Scene, scene
from faults.services import REDIS_URL

# What dies with its process is published again after 15 seconds, then twice as late each time.
_END_SECONDS = 120


def kill_web(*, short: bool) -> Verdict:
    """Servers that do the work in threads: in turn all of one dies, and only its process that serves."""
    with scene("kill-web", short=short) as where:
        targets = [where.web(), where.web()]
        return _kill(where, "kill-web", [targets], rounds=3 if short else 40, seconds=2, per_second=25)


def kill_worker(*, short: bool) -> Verdict:
    """Celery workers: in turn all of one dies, and only one of its children."""
    with scene("kill-worker", short=short, broker=REDIS_URL) as where:
        where.web()
        targets = [where.worker(), where.worker()]
        return _kill(where, "kill-worker", [targets], rounds=3 if short else 30, seconds=2.5, per_second=20)


def kill_both(*, short: bool) -> Verdict:
    """Servers and Celery workers at once."""
    with scene("kill-both", short=short, broker=REDIS_URL) as where:
        webs = [where.web(), where.web()]
        workers = [where.worker(), where.worker()]
        return _kill(where, "kill-both", [webs, workers], rounds=2 if short else 15, seconds=4, per_second=25)


def _kill(  # noqa: PLR0913 - what a run is made of
    where: Scene, fault: str, targets: list[list[Group]], *, rounds: int, seconds: float, per_second: float
) -> Verdict:
    """Each round kills one of each list."""
    where.wait()
    turns = [cycle(groups) for groups in targets]
    with where.load(["load"] * round(rounds * seconds * per_second), per_second=per_second) as load:
        for number in range(rounds):
            time.sleep(seconds)
            for turn in turns:
                # Two groups, and two ways to die: each group dies in both.
                where.fleet.kill(next(turn), child=number % 4 in {1, 2})
        load.finish(_END_SECONDS)
    return check(fault, where.journal.path, where.effects, LEASE_SECONDS)
