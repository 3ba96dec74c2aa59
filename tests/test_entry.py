"""The state machine of an entry, driven by Hypothesis from several threads at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
import pytest
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import ATTEMPT_OVER, TaskNotFound
from tasks.registry.memory import MemoryRegistry

_MAX_ENTRIES = 4
_ERROR = TaskFailure("exception", "broken")
_ENDING = {"complete", "fail", "abort", "cancel"}


def transition(action: str, attempt: int, percent: int) -> Callable[[TaskEntry], TaskEntry]:
    actions: dict[str, Callable[[TaskEntry], TaskEntry]] = {
        "claim": TaskEntry.claimed,
        "progress": lambda entry: entry.progressed(attempt, percent, f"{percent} %"),
        "store": lambda entry: entry.with_file(attempt, f"file-{attempt}"),
        "retry": lambda entry: entry.retrying(attempt, _ERROR, 0),
        "complete": lambda entry: entry.completed(attempt, "done"),
        "fail": lambda entry: entry.failed(attempt, _ERROR),
        "abort": lambda entry: entry.aborted(_ERROR),
        "cancel": TaskEntry.cancelled,
    }
    return actions[action]


actions = st.tuples(
    st.sampled_from(["claim", "claim", "progress", "store", "retry", "complete", "fail", "abort", "cancel"]),
    st.integers(-1, 1),  # the offset of the worker's attempt from that of the entry
    st.integers(-10, 120),
)


class Life(RuleBasedStateMachine):
    """Any number of tasks, each changed by any mix of workers and clients at the same time."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.settings = override_settings(TASK_MAX_ENTRIES=_MAX_ENTRIES)
        self.settings.enable()
        self.registry = MemoryRegistry()
        self.pool = ThreadPoolExecutor(4)
        # Every state in which an entry was seen, by version.
        self.seen: dict[UUID, dict[int, TaskEntry]] = {}
        # The action that made each version, and the attempt it came from.
        self.made_by: dict[UUID, dict[int, tuple[str, int]]] = {}
        self.ends: dict[UUID, int] = {}
        self.expired: set[UUID] = set()

    def teardown(self) -> None:
        self.pool.shutdown()
        self.settings.disable()

    @rule(target=tasks)
    def create(self) -> UUID:
        entry = self.registry.add(TaskEntry(kind="task", name="sample_name"))
        self.seen[entry.id] = {entry.version: entry}
        self.made_by[entry.id] = {}
        self.ends[entry.id] = 0
        return entry.id

    @rule(task_id=tasks, together=st.lists(actions, min_size=1, max_size=4))
    def act(self, task_id: UUID, together: list[tuple[str, int, int]]) -> None:
        try:
            attempt = self.registry.get(task_id).attempt
        except TaskNotFound:
            self.expired.add(task_id)
            return
        start = threading.Barrier(len(together))

        def change(action: tuple[str, int, int]) -> tuple[str, int, TaskEntry | None]:
            name, offset, percent = action
            start.wait()
            try:
                entry = self.registry.change(task_id, transition(name, attempt + offset, percent))
            except ATTEMPT_OVER:
                return name, attempt + offset, None
            return name, attempt + offset, entry

        for name, by, entry in self.pool.map(change, together):
            if entry is None:
                continue
            assert self.seen[task_id].setdefault(entry.version, entry) == entry, "two changes made one version"
            if name != "store":  # which may leave the entry as it is
                self.made_by[task_id][entry.version] = name, by
            self.ends[task_id] += name in _ENDING

    @rule(task_id=consumes(tasks))
    def remove(self, task_id: UUID) -> None:
        self.registry.remove(task_id)
        with pytest.raises(TaskNotFound):
            self.registry.get(task_id)
        del self.seen[task_id], self.made_by[task_id], self.ends[task_id]
        self.expired.discard(task_id)

    @rule(target=tasks)
    def expire(self) -> Any:
        """End as many tasks as are kept, so that all tasks that had ended before expire."""
        for _ in range(_MAX_ENTRIES):
            entry = self.registry.add(TaskEntry(kind="task", name="one of many"))
            self.registry.change(entry.id, TaskEntry.cancelled)
        self.registry.purge()
        for task_id, states in self.seen.items():
            if states[max(states)].ended:
                self.expired.add(task_id)
        return multiple()

    @invariant()
    def no_task_goes_backwards(self) -> None:
        for states in self.seen.values():
            history = [states[version] for version in sorted(states)]
            for before, after in pairwise(history):
                assert not before.ended, "a change after the end"
                assert after.attempt >= before.attempt
                assert after.progress >= before.progress
                assert 0 <= after.progress <= 100

    @invariant()
    def only_the_running_attempt_changes_an_entry(self) -> None:
        for task_id, makers in self.made_by.items():
            for version, (name, attempt) in makers.items():
                before = self.seen[task_id][version - 1]
                if name == "claim":
                    assert before.started_at is None, "claimed while it was running"
                elif name not in {"cancel", "abort"}:
                    assert before.attempt == attempt, "another attempt changed the entry"
                    assert before.started_at is not None, "changed by an attempt while none was running"

    @invariant()
    def no_task_ends_twice(self) -> None:
        assert all(ends <= 1 for ends in self.ends.values())
        for task_id, states in self.seen.items():
            ended = sum(entry.ended for entry in states.values())
            assert ended == self.ends[task_id]

    @invariant()
    def every_change_was_stored_and_only_ended_tasks_expire(self) -> None:
        for task_id, states in self.seen.items():
            last = states[max(states)]
            try:
                assert self.registry.get(task_id) == last
            except TaskNotFound:
                assert last.ended, "a pending task expired"
                self.expired.add(task_id)
            else:
                assert task_id not in self.expired, "an expired task came back"


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_a_transition_does_not_change_the_entry_it_starts_from() -> None:
    entry = TaskEntry(kind="task", name="sample_name")
    claimed = entry.claimed()
    assert (entry.attempt, entry.version, entry.started_at) == (0, 1, None)
    assert (claimed.attempt, claimed.version) == (1, 2)


def test_the_file_of_a_task_is_shown_after_the_task_has_completed() -> None:
    claimed = TaskEntry(kind="task", name="sample_name").claimed()
    stored = claimed.with_file(1, "task_1.json")
    assert stored.with_file(1, "task_1.json") is stored
    assert stored.file_path == ""
    assert stored.failed(1, _ERROR).file_path == ""
    assert stored.completed(1, None).file_path == "files/task_1.json"
