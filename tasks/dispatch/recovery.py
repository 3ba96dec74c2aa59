"""Tasks that a process left behind are found and run again."""

from collections.abc import Callable
from uuid import UUID

from django.conf import settings

from tasks.dispatch import runner
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import RegistryUnavailable, TaskNotFound
from tasks.kinds import get_kinds
from tasks.registry import Leases, get_registry
from tasks.utils.periodic import PeriodicThread

RECOVERY_SECONDS = 1
# Heartbeats in each lease, so that some may be missed.
_HEARTBEATS = 4
# So many tasks are taken over at a time, so that other processes take over some, too.
_BATCH = 100
_LOST = TaskFailure("lost", "The process that ran the task is gone, and no attempt was left.")

Resume = Callable[[TaskEntry], None]


def recovery_thread(leases: Leases, resume: Resume, room: Callable[[], int]) -> PeriodicThread:
    """Rescues every second as many tasks as there is `room` for."""
    return PeriodicThread(
        "tasks-recovery", RECOVERY_SECONDS, lambda: rescue(leases, resume, room()), outage=RegistryUnavailable
    )


def rescue(leases: Leases, resume: Resume, limit: int) -> None:
    """Resume at most `limit` tasks that nobody is about to run: those of a process that is gone, and unowned ones."""
    kinds = get_kinds()
    while limit > 0:
        stalled = leases.stalled(min(limit, _BATCH), kinds)
        for entry in stalled:
            next_attempt = runner.abandon(entry, _LOST)
            if next_attempt is not None and not next_attempt.ended:
                resume(next_attempt)
        waiting = leases.acquire(min(limit, _BATCH), kinds)
        for entry in waiting:
            resume(entry)
        limit -= len(stalled) + len(waiting)
        if len(stalled) < _BATCH and len(waiting) < _BATCH:
            return


def recover(task_id: UUID, resume: Resume) -> None:
    """Resume a task that this process owns and does not know; an attempt at it that had begun is abandoned."""
    try:
        entry: TaskEntry | None = get_registry().get(task_id)
    except TaskNotFound:
        return
    if entry is not None and entry.started_at is not None:
        entry = runner.abandon(entry, _LOST)
    if entry is not None and not entry.ended:
        resume(entry)


class LeaseReconciler:
    """Compares the tasks in this process with those that it owns in the registry.

    They differ for good where the answer to a change was lost on its way, or where this process slept so long that
    others took over its tasks. Only a difference that is seen twice in a row counts.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._forgotten: set[UUID] = set()
        self._foreign: set[UUID] = set()

    def compare(self, local: set[UUID]) -> tuple[set[UUID], set[UUID]]:
        """The owned tasks that are not in this process, and the tasks in it that it no longer owns."""
        owned = self._leases.owned_ids()
        forgotten, foreign = owned - local, local - owned
        confirmed = forgotten & self._forgotten, foreign & self._foreign
        self._forgotten, self._foreign = forgotten, foreign
        return confirmed


class LeaseKeeper:
    """Keeps the leases of this process in step with the tasks in it.

    It sends heartbeats, resumes owned tasks that the process does not know, and stops tasks that it no longer owns
    or that any process cancelled.
    """

    def __init__(
        self, leases: Leases, local_ids: Callable[[], set[UUID]], resume: Resume, stop: Callable[[UUID], None]
    ) -> None:
        """`local_ids` returns the tasks that wait or run in this process. `stop` stops one; it must not block."""
        self._leases = leases
        self._local_ids = local_ids
        self._resume = resume
        self._stop = stop
        self._reconciler = LeaseReconciler(leases)
        seconds = settings.TASK_LEASE_SECONDS / _HEARTBEATS
        self._thread = PeriodicThread("tasks-heartbeat", seconds, self.heartbeat, outage=RegistryUnavailable)

    def start(self) -> None:
        self._leases.cancellations.subscribe(self._stop_cancelled)
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()
        self._leases.cancellations.unsubscribe(self._stop_cancelled)

    def heartbeat(self) -> None:
        """Renew the lease, then settle what differs."""
        self._leases.heartbeat()
        forgotten, foreign = self._reconciler.compare(self._local_ids())
        for task_id in forgotten:
            recover(task_id, self._resume)
        for task_id in foreign:
            self._stop(task_id)

    def _stop_cancelled(self, task_id: UUID | None) -> None:
        if task_id is not None:
            self._stop(task_id)
