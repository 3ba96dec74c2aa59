"""A kind with the name of another kind."""

from tasks.kinds.base import TaskKind

DUPLICATE = TaskKind(name="task", process=print)
