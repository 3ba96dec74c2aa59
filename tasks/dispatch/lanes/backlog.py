"""The tasks that wait in a lane."""

import itertools
from collections import OrderedDict
from collections.abc import Callable
from uuid import UUID


class Backlog:
    """First come, first served, but a kind that may not run now delays no other. Not safe without a lock."""

    def __init__(self) -> None:
        self._tasks: dict[str, OrderedDict[UUID, int]] = {}
        self._age = itertools.count()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def push(self, kind: str, task_id: UUID) -> None:
        self._tasks.setdefault(kind, OrderedDict())[task_id] = next(self._age)
        self._count += 1

    def next_kind(self, may_run: Callable[[str], bool]) -> str | None:
        """The kind of the oldest task whose kind may run; None where there is none."""
        oldest = [(next(iter(tasks.values())), kind) for kind, tasks in self._tasks.items() if tasks and may_run(kind)]
        return min(oldest)[1] if oldest else None

    def ahead_of(self, kind: str, task_id: UUID) -> int:
        """How many tasks at most have their turn before this one."""
        age = self._tasks[kind].get(task_id) if kind in self._tasks else None
        if age is None:
            return 0
        oldest = min(next(iter(tasks.values())) for tasks in self._tasks.values() if tasks)
        return min(age - oldest, self._count - 1)

    def ids(self) -> list[UUID]:
        return [task_id for tasks in self._tasks.values() for task_id in tasks]

    def pop(self, kind: str) -> UUID:
        """Remove the oldest task of a kind that has one."""
        task_id, _ = self._tasks[kind].popitem(last=False)
        self._count -= 1
        return task_id

    def discard(self, task_id: UUID) -> None:
        for tasks in self._tasks.values():
            if tasks.pop(task_id, None) is not None:
                self._count -= 1

    def clear(self) -> list[UUID]:
        """Remove all tasks."""
        task_ids = self.ids()
        self._tasks.clear()
        self._count = 0
        return task_ids
