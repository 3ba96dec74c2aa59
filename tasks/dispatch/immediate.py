"""The dispatcher for tests of a kind."""

from tasks.dispatch import runner
from tasks.dispatch.threads import ThreadDispatcher
from tasks.entry import TaskEntry


class ImmediateDispatcher(ThreadDispatcher):
    """Makes all attempts of a task, in the calling thread, before `dispatch` returns."""

    def dispatch(self, entry: TaskEntry) -> None:
        while (settled := runner.run(entry.id)) is not None and not settled.ended:
            pass
