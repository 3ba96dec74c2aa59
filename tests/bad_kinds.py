"""A kind that takes another one's name."""

from tasks.kinds.base import TaskKind

TAKEN = TaskKind(name="task", process=print)
