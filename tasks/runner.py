"""One attempt at a task, from claim to end. The only place that catches what the code of a kind raises."""

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import ATTEMPT_OVER
from tasks.job import Job
from tasks.json_value import as_json, readable
from tasks.kinds import get_kinds
from tasks.registry import get_registry

logger = logging.getLogger(__name__)

_DETAIL_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the code of a kind ended: with a result, or with the failure that its client may read."""

    result: Any = None
    error: TaskFailure | None = None


def run(task_id: UUID) -> None:
    """Make one attempt at the task. Never raises: what goes wrong is in the entry and in the log."""
    entry = claim(task_id)
    outcome = call(entry) if entry else None
    if entry and outcome:
        settle(entry, outcome)


def claim(task_id: UUID) -> TaskEntry | None:
    """Begin an attempt; None where there is nothing left to do."""
    try:
        return get_registry().change(task_id, TaskEntry.claimed)
    except ATTEMPT_OVER as reason:
        logger.info("Task %s was not started: %s", task_id, reason)
        return None


def call(entry: TaskEntry) -> Outcome | None:
    """Run the code of the entry's kind; None where it stopped because its attempt was over."""
    try:
        result = get_kinds()[entry.kind].process(Job(entry), entry.input)
    except ATTEMPT_OVER as reason:
        logger.info("Attempt %d at task %s stopped: %s", entry.attempt, entry.id, reason)
        return None
    except BaseException as error:  # noqa: BLE001 - SystemExit from a kind must not end a worker either
        return _failed(entry, "exception", error)
    try:
        return Outcome(result=as_json(result))
    except (TypeError, ValueError, RecursionError) as error:
        return _failed(entry, "invalid-result", error)


def _failed(entry: TaskEntry, code: str, error: BaseException) -> Outcome:
    logger.error("Task %s (%s) failed in attempt %d", entry.id, entry.kind, entry.attempt, exc_info=error)
    detail = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return Outcome(error=TaskFailure(code, readable(detail, _DETAIL_LENGTH)))


def settle(entry: TaskEntry, outcome: Outcome) -> None:
    """Write the end of the attempt that `entry` claimed."""

    def end(current: TaskEntry) -> TaskEntry:
        if outcome.error is None:
            return current.completed(entry.attempt, outcome.result)
        return current.failed(entry.attempt, outcome.error)

    try:
        get_registry().change(entry.id, end)
    except ATTEMPT_OVER as reason:
        logger.info("What attempt %d at task %s returned was dropped: %s", entry.attempt, entry.id, reason)
