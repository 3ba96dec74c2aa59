"""One attempt at a task, from claim to end. Only this module catches what the code of a kind raises."""

import asyncio
import copy
import logging
import random
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import close_old_connections

from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import ATTEMPT_OVER, KindUnknown, PermanentFailure
from tasks.job import Job
from tasks.kinds import get_kinds
from tasks.kinds.base import TaskKind
from tasks.registry import Transition, get_registry, retry_until_available
from tasks.utils.json_value import as_json, readable

logger = logging.getLogger(__name__)

_DETAIL_LENGTH = 1000
_MAX_RETRY_SECONDS = 300
_MAX_DOUBLINGS = 30

TimeLimitErrors = tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: with a result, or with the failure that the client may read and a trace for the log.

    An `abandoned` attempt did not fail: its process is gone, so nobody knows how far it got.
    """

    result: Any = None
    error: TaskFailure | None = None
    trace: str = ""
    permanent: bool = False
    abandoned: bool = False


def run(task_id: UUID) -> TaskEntry | None:
    """Make one attempt at the task, in the calling thread, and return what `settle` does."""
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
        return retry_until_available(lambda: get_registry().change(task_id, _claimed))
    except (*ATTEMPT_OVER, KindUnknown) as reason:
        logger.info("Task %s was not started: %s", task_id, reason)
        return None


def _claimed(entry: TaskEntry) -> TaskEntry:
    if entry.kind not in get_kinds():
        raise KindUnknown
    return entry.claimed()


def call(entry: TaskEntry, job: Job, *, time_limit_errors: TimeLimitErrors = ()) -> Outcome:
    """Run the code of the entry's kind. Never raises.

    `time_limit_errors` are raised in that code by whatever enforces its kind's `timeout` from outside.
    """
    kind = get_kinds()[entry.kind]
    try:
        outcome = _returned(kind.process(job, copy.deepcopy(entry.input)))
    except BaseException as error:  # noqa: BLE001 - SystemExit from a kind must not end a worker either
        outcome = _raised(error, kind, time_limit_errors)
    job.close()
    close_old_connections()  # the code of a kind may have used one; the next task may be long in coming
    return outcome


async def acall(entry: TaskEntry, job: Job, *, time_limit_errors: TimeLimitErrors = ()) -> Outcome:
    """Await the code of the entry's kind, as `call` does. The caller then closes the job, outside the event loop."""
    kind = get_kinds()[entry.kind]
    try:
        outcome = _returned(await kind.process(job, copy.deepcopy(entry.input)))
    except BaseException as error:  # noqa: BLE001 - as in call; whatever cancels an attempt has ended it before
        outcome = _raised(error, kind, time_limit_errors)
    return outcome


def end(task_id: UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
    """Make a change that may end the task, and return the entry; raises what the registry's `change` does.

    Every end of a task, however it came about, is made here: whatever should happen at an end is called from here.
    """
    return get_registry().change(task_id, transition, seen)


def settle(entry: TaskEntry, outcome: Outcome) -> TaskEntry | None:
    """Write the end of the attempt that `entry` claimed; return the entry as it is then.

    That entry is `pending` where another attempt follows. None means that the attempt was already over, and that
    its outcome was dropped.
    """
    try:
        settled = retry_until_available(lambda: end(entry.id, _transition(entry, outcome), seen=entry))
    except ATTEMPT_OVER as reason:
        logger.info("The outcome of attempt %d of task %s was dropped: %s", entry.attempt, entry.id, reason)
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


def abandon(entry: TaskEntry, error: TaskFailure) -> TaskEntry | None:
    """End an attempt whose process is gone or going. Another follows immediately, unless there were too many.

    Returns what `settle` does.
    """
    return settle(entry, Outcome(error=error, abandoned=True))


def abort(task_id: UUID, error: TaskFailure) -> None:
    """End a task, waiting or running, without a further attempt; nothing happens where it has ended."""
    with suppress(*ATTEMPT_OVER):
        retry_until_available(lambda: end(task_id, lambda entry: entry.aborted(error)))


def timeout_outcome(seconds: float) -> Outcome:
    """The outcome of an attempt that its kind's `timeout` ended."""
    return Outcome(error=TaskFailure("timeout", f"The attempt took longer than {seconds:g} seconds."))


def retry_delay(entry: TaskEntry) -> float:
    """Seconds from a failed attempt to the next: doubled for each attempt, with jitter, and capped."""
    doubled = get_kinds()[entry.kind].retry_delay * 2.0 ** min(entry.attempt - 1, _MAX_DOUBLINGS)
    return min(doubled, _MAX_RETRY_SECONDS) * random.uniform(0.5, 1)  # noqa: S311 - jitter needs no secret


def _transition(entry: TaskEntry, outcome: Outcome) -> Transition:
    attempt, error = entry.attempt, outcome.error
    if error is None:
        return lambda current: current.completed(attempt, outcome.result)
    kind = get_kinds()[entry.kind]
    max_attempts = kind.effective_max_attempts
    attempts = max_attempts if outcome.abandoned else min(kind.retries + 1, max_attempts)
    if outcome.permanent or attempt >= attempts:
        return lambda current: current.failed(attempt, error)
    delay = 0 if outcome.abandoned else retry_delay(entry)
    return lambda current: current.retrying(attempt, error, delay)


def _returned(result: Any) -> Outcome:
    try:
        return Outcome(result=as_json(result))
    except (TypeError, ValueError, RecursionError) as error:
        return _failed("invalid-result", error)


def _raised(error: BaseException, kind: TaskKind, time_limit_errors: TimeLimitErrors) -> Outcome:
    if kind.timeout is not None and isinstance(error, time_limit_errors):
        return timeout_outcome(kind.timeout)
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
