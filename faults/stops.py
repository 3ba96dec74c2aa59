"""stopped-worker: a worker is stopped past its lease, another takes over its tasks, and the first one continues."""

import signal
import time

from faults.checks import Verdict, check
from faults.effects import read_lines
from faults.scene import LEASE_SECONDS, scene
from faults.services import REDIS_URL

_TASKS = 12
_END_SECONDS = 60
_AWAKE_SECONDS = 4


def stopped_worker(*, short: bool) -> Verdict:
    """A worker is stopped past its lease and then continued; its late reports must change nothing."""
    changed: list[str] = []
    in_the_middle = 0
    with scene("stopped-worker", short=short, broker=REDIS_URL) as where:
        where.web()
        workers = [where.worker(), where.worker()]
        where.wait()
        for number in range(1 if short else 6):
            worker = workers[number % 2]
            # Each task runs for one to two seconds, so that the worker is in the middle of some.
            with where.load(["load"] * _TASKS, per_second=2 * _TASKS, steps=(20, 40)) as load:
                time.sleep(1)
                pids = worker.pids
                where.journal.killed(f"{worker.name} (stopped)", pids)
                stopped = time.time()
                worker.signal(signal.SIGSTOP)
                time.sleep(2 * LEASE_SECONDS + 1)
                load.wait_for_ends(_END_SECONDS)
                before, woken = dict(load.ended), time.time()
                worker.signal(signal.SIGCONT)
                time.sleep(_AWAKE_SECONDS)
                load.finish(_END_SECONDS)
            changed += [task_id for task_id, entry in before.items() if where.client.poll(task_id).entry != entry]
            noted = [line for line in read_lines(where.effects) if line["pid"] in pids]
            began = {
                (line["id"], line["attempt"]) for line in noted if line["event"] == "began" and line["at"] < stopped
            }
            done = {(line["id"], line["attempt"]) for line in noted if line["event"] == "done" and line["at"] < woken}
            in_the_middle += len(began - done)
        verdict = check("stopped-worker", where.journal.path, where.effects, LEASE_SECONDS)
    verdict.other += [f"{task_id} was changed by a late report" for task_id in changed]
    if not in_the_middle:
        verdict.other.append("no worker was stopped in the middle of a task")
    return verdict
