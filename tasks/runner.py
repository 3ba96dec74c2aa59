"""One attempt at a task, from claim to end. The only place that catches what the code of a kind raises."""

import asyncio
import copy
import logging
import random
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import close_old_connections

from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import ATTEMPT_OVER, KindUnknown, PermanentFailure
from tasks.job import Job
from tasks.json_value import as_json, readable
from tasks.kinds import get_kinds
from tasks.registry import get_registry, insist

logger = logging.getLogger(__name__)

_DETAIL_LENGTH = 1000
_MAX_RETRY_SECONDS = 300
_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with a result, or with the failure that the client may read and a trace for the log.

    One that is `lost` has not failed: its process is gone, so that nobody knows how far it came.
    """

    result: Any = None
    error: TaskFailure | None = None
    trace: str = ""
    permanent: bool = False
    lost: bool = False


def run(task_id: UUID) -> TaskEntry | None:
    """Make one attempt at the task, here and now, and return what `settle` does."""
    entry = claim(task_id)
    if entry is None:
        return None
    job = Job(entry)
    if get_kinds()[entry.kind].is_async:
        outcome = asyncio.run(acall(entry, job))
        job.close()
        return settle(entry, outcome)
    return settle(entry, call(entry, job))


def claim(task_id: UUID) -> TaskEntry | None:
    """Begin an attempt; None where there is nothing left to do."""
    try:
        return insist(lambda: get_registry().change(task_id, _claimed))
    except (*ATTEMPT_OVER, KindUnknown) as reason:
        logger.info("Task %s was not started: %s", task_id, reason)
        return None


def _claimed(entry: TaskEntry) -> TaskEntry:
    if entry.kind not in get_kinds():
        raise KindUnknown
    return entry.claimed()


def call(entry: TaskEntry, job: Job) -> Outcome:
    """Run the code of the entry's kind. Never raises."""
    try:
        outcome = _returned(get_kinds()[entry.kind].process(job, copy.deepcopy(entry.input)))
    except BaseException as error:  # noqa: BLE001 - SystemExit from a kind must not end a worker either
        outcome = _raised(error)
    job.close()
    close_old_connections()  # the code of a kind may have used one; the next task may be long in coming
    return outcome


async def acall(entry: TaskEntry, job: Job) -> Outcome:
    """Await the code of the entry's kind; the job is then to be closed, elsewhere than on the loop. Never raises."""
    try:
        outcome = _returned(await get_kinds()[entry.kind].process(job, copy.deepcopy(entry.input)))
    except BaseException as error:  # noqa: BLE001 - as in call; what cancels an attempt has ended it before
        outcome = _raised(error)
    return outcome


def settle(entry: TaskEntry, outcome: Outcome) -> TaskEntry | None:
    """Write the end of the attempt that `entry` claimed; return the entry as it is then.

    That entry is `pending` where another attempt is to follow. None says that the attempt was over already, and
    that what came of it was dropped.
    """
    try:
        settled = insist(lambda: get_registry().change(entry.id, _end_of(entry, outcome), seen=entry))
    except ATTEMPT_OVER as reason:
        logger.info("What attempt %d at task %s came to was dropped: %s", entry.attempt, entry.id, reason)
        return None
    if outcome.error is not None:
        logger.error(
            "Task %s (%s) failed in attempt %d: %s%s",
            entry.id,
            entry.kind,
            entry.attempt,
            outcome.error.code,
            f"\n{outcome.trace}" if outcome.trace else f": {outcome.error.detail}",
        )
    return settled


def lose(entry: TaskEntry, error: TaskFailure) -> TaskEntry | None:
    """End an attempt whose process is gone, or is going. Another follows at once, unless there were too many.

    Returns what `settle` does.
    """
    return settle(entry, Outcome(error=error, lost=True))


def retry_delay(entry: TaskEntry) -> float:
    """How many seconds a task waits before its next attempt: twice as long each time, with jitter, and capped."""
    doubled = get_kinds()[entry.kind].retry_delay * 2.0 ** min(entry.attempt - 1, _MAX_DOUBLINGS)
    return min(doubled, _MAX_RETRY_SECONDS) * random.uniform(0.5, 1)  # noqa: S311 - jitter needs no secret


def fail(task_id: UUID, error: TaskFailure) -> None:
    """End a task that waits or runs, with no further attempt; nothing happens where it has ended."""
    with suppress(*ATTEMPT_OVER):
        insist(lambda: get_registry().change(task_id, lambda entry: entry.given_up(error)))


def _end_of(entry: TaskEntry, outcome: Outcome) -> Callable[[TaskEntry], TaskEntry]:
    attempt, error = entry.attempt, outcome.error
    if error is None:
        return lambda current: current.completed(attempt, outcome.result)
    kind = get_kinds()[entry.kind]
    attempts = kind.most_attempts if outcome.lost else min(kind.retries + 1, kind.most_attempts)
    if outcome.permanent or attempt >= attempts:
        return lambda current: current.failed(attempt, error)
    delay = 0 if outcome.lost else retry_delay(entry)
    return lambda current: current.retrying(attempt, error, delay)


def _returned(result: Any) -> Outcome:
    try:
        return Outcome(result=as_json(result))
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("invalid-result", error)


def _raised(error: BaseException) -> Outcome:
    if isinstance(error, PermanentFailure):
        return Outcome(
            error=TaskFailure("permanent", readable(str(error), _DETAIL_LENGTH)),
            trace=_trace(error),
            permanent=True,
        )
    return _failed("exception", error)


def _failed(code: str, error: BaseException) -> Outcome:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the kind's own class wrote that __str__
        text = ""
    detail = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return Outcome(error=TaskFailure(code, readable(detail, _DETAIL_LENGTH)), trace=_trace(error))


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
