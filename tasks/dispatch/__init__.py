"""Who runs the tasks: what a dispatcher promises."""

from typing import NamedTuple, Protocol

from django.conf import settings
from django.utils.module_loading import import_string

from tasks.entry import TaskEntry
from tasks.utils.lazy import Lazy


class LaneCounts(NamedTuple):
    """Tasks that wait, tasks that run, and ended tasks whose code still runs."""

    waiting: int
    running: int
    orphaned: int


class Dispatcher(Protocol):
    """Runs stored tasks in the background; it needs no more of an entry than its id, its kind and its `delay`."""

    is_stopping: bool
    """Whether it refuses further tasks."""

    def start(self) -> None:
        """Start the periodic work of a process that serves. Without this call the first task starts it."""

    def dispatch(self, entry: TaskEntry) -> None:
        """Run the task, once its `delay` is over. Never waits for a worker.

        Raises DispatcherFull where no more tasks may wait, and its subclass DispatcherStopping after `drain`.
        """

    def cancel(self, entry: TaskEntry) -> None:
        """Stop the work on a task that has ended in the registry, as far as it can be stopped."""

    def retry_after(self, entry: TaskEntry) -> int:
        """How many whole seconds a client should wait before it polls the pending task again: 1 to 30."""

    def drain(self, timeout: float) -> bool:
        """Refuse further tasks, and give the running ones `timeout` seconds to end.

        Whatever has not ended by then is `failed` with the code `interrupted`; or, where the registry has leases,
        released for other processes and for the next start. False where there was such a task.
        """

    def counts(self) -> dict[str, LaneCounts]:
        """How many tasks each lane has, by the lane's name."""


def _build_dispatcher() -> Dispatcher:
    dispatcher: Dispatcher = import_string(settings.TASK_DISPATCHER)()
    return dispatcher


get_dispatcher = Lazy(_build_dispatcher)
