"""A task that runs in a lane, and how long the tasks of its kind take."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasks.entry import TaskEntry
from tasks.utils.timer import Call

# The weight of the latest run in the moving average.
_LATEST_WEIGHT = 0.2
_UNKNOWN_SECONDS = 1


@dataclass(eq=False, slots=True)
class Run:
    """A task that has a slot of a lane.

    `work` is what its lane interrupts to stop it, where it can. `deadline` is the call that comes at its timeout.
    `next_attempt` is the entry of a task that is to be retried once this run has freed its slot. `is_stopped` says
    that the task has ended in the registry.
    """

    task_id: UUID
    kind: str
    began: float
    work: Any = None
    deadline: Call | None = None
    next_attempt: TaskEntry | None = None
    is_stopped: bool = False


class RunTimes:
    """An exponential moving average for each kind. Not safe without a lock."""

    def __init__(self) -> None:
        self._means: dict[str, float] = {}

    def add(self, kind: str, seconds: float) -> None:
        mean = self._means.get(kind, seconds)
        self._means[kind] = mean + _LATEST_WEIGHT * (seconds - mean)

    def mean(self, kind: str) -> float:
        """In seconds; one second for a kind that has not run yet."""
        return self._means.get(kind, _UNKNOWN_SECONDS)
