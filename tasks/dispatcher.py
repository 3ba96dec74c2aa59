"""Who gets the work done: the promises of a dispatcher, and the thread-based one."""

from typing import Protocol

from django.conf import settings

from tasks import runner
from tasks.entry import TaskEntry
from tasks.lanes import ThreadLane
from tasks.once import Once


class Dispatcher(Protocol):
    """Runs tasks without the caller. Only a task's id crosses it."""

    def dispatch(self, entry: TaskEntry) -> None:
        """See to it that the stored entry is run. Never waits for a worker.

        Raises DispatcherFull where no more tasks may wait, or where the dispatcher is stopping.
        """

    def drain(self, timeout: float) -> bool:
        """Take no more tasks and wait for those that are there; False where `timeout` seconds were not enough."""


class ThreadDispatcher:
    """Runs tasks in threads of this process. They start at the first dispatch, so a server may fork before."""

    def __init__(self) -> None:
        self._lane = ThreadLane(threads=settings.TASK_THREADS, queue_limit=settings.TASK_QUEUE_LIMIT)

    def dispatch(self, entry: TaskEntry) -> None:
        self._lane.submit(entry.id)

    def drain(self, timeout: float) -> bool:
        self._lane.close()
        return self._lane.wait_idle(timeout)


class ImmediateDispatcher:
    """Runs each task before `dispatch` returns, for tests of a kind."""

    def dispatch(self, entry: TaskEntry) -> None:
        runner.run(entry.id)

    def drain(self, timeout: float) -> bool:
        return True


def _build_dispatcher() -> Dispatcher:
    return ThreadDispatcher()


get_dispatcher = Once(_build_dispatcher)
