"""crash-points: processes die between two steps of a task, where a crash could lose or repeat work."""

import random

from faults.checks import Verdict, check
from faults.scene import LEASE_SECONDS, scene
from faults.services import REDIS_URL

# The same names as in faults.crash_points, which only a process of the service can import.
CRASH_POINTS = (
    "after the row is stored",
    "before the publish",
    "after the publish",
    "after the effect, before the finish",
    "after the finish, before the ack",
)
_END_SECONDS = 90


def crash_points(*, short: bool) -> Verdict:
    """A process dies at each crash point, once per task."""
    names = [point for point in CRASH_POINTS for _ in range(2 if short else 20)]
    random.shuffle(names)
    with scene("crash-points", short=short, broker=REDIS_URL) as where:
        for start in (where.web, where.web, where.worker):
            start()
        where.wait()
        # Three of the five crash points end a server, which then needs time to start.
        with where.load(names, per_second=2 if short else 1, steps=(1, 3)) as load:
            load.finish(_END_SECONDS)
        verdict = check("crash-points", where.journal.path, where.effects, LEASE_SECONDS)
        if verdict.kills != len(names):
            verdict.other.append(f"{verdict.kills} deaths instead of {len(names)}")
        return verdict
