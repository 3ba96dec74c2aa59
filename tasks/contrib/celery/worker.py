"""Runs tasks in the processes of Celery workers."""

import asyncio
import os
import sys
from contextlib import suppress
from typing import Any
from uuid import UUID

from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_init, worker_process_init, worker_process_shutdown
from django.conf import settings
from django.db import connections

from tasks.checks import startup_problem
from tasks.contrib.celery.app import RUN_TASK, app
from tasks.dispatch import get_dispatcher, runner
from tasks.dispatch.recovery import LeaseKeeper
from tasks.dispatch.runner import Outcome
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherStopping
from tasks.job import Job
from tasks.kinds import get_kinds
from tasks.registry import get_registry
from tasks.utils.lazy import Lazy
from tasks.utils.timer import Timer

# Celery raises it in the code whose time is over. Its limit may come before ours, since its clock starts earlier.
_TIME_LIMIT_ERRORS = (SoftTimeLimitExceeded,)
# A worker yields to a server on the same machine, but not so far that it could miss its heartbeats.
_NICENESS = 10


@app.task(name=RUN_TASK)
def run_task(task_id: str) -> None:
    """Make one attempt at the task, unless there is nothing left to do."""
    get_worker().run(UUID(task_id))


class Worker:
    """Runs tasks in a process of a Celery worker, and keeps their leases."""

    def __init__(self) -> None:
        self._timer = Timer("tasks-timer")
        # The tasks that run here, and the coroutines among them. Adding to a dictionary and removing are atomic.
        self._running: dict[UUID, _Coroutine | None] = {}
        leases = get_registry().leases
        if leases is None:
            raise RuntimeError("Celery workers need a registry that processes share. Set DATABASE_URL.")
        self._lease_keeper = LeaseKeeper(leases, lambda: set(self._running), get_dispatcher().dispatch, self.cancel)
        get_dispatcher().start()
        self._lease_keeper.start()

    def stop(self) -> None:
        self._lease_keeper.stop()
        get_dispatcher().drain(settings.TASK_DRAIN_SECONDS)
        get_registry().close()

    def run(self, task_id: UUID) -> None:
        entry = runner.claim(task_id)
        if entry is None:
            return
        self._running[task_id] = None
        seconds = get_kinds()[entry.kind].timeout
        deadline = None if seconds is None else self._timer.call_later(seconds, lambda: self._time_out(entry, seconds))
        try:
            outcome = self._call(entry)
            if outcome is not None:
                _settle(entry, outcome)
        finally:
            if deadline is not None:
                deadline.cancel()
            del self._running[task_id]

    def cancel(self, task_id: UUID) -> None:
        """Stop a coroutine whose task has ended; Celery stops a function, by ending its process."""
        coroutine = self._running.get(task_id)
        if coroutine is not None:
            coroutine.cancel()

    def _call(self, entry: TaskEntry) -> Outcome | None:
        job = Job(entry)
        if not get_kinds()[entry.kind].is_async:
            return runner.call(entry, job, time_limit_errors=_TIME_LIMIT_ERRORS)
        with suppress(asyncio.CancelledError):
            return asyncio.run(self._acall(entry, job))
        return None

    async def _acall(self, entry: TaskEntry, job: Job) -> Outcome:
        self._running[entry.id] = _Coroutine()
        outcome = await runner.acall(entry, job, time_limit_errors=_TIME_LIMIT_ERRORS)
        await asyncio.to_thread(job.close)
        return outcome

    def _time_out(self, entry: TaskEntry, seconds: float) -> None:
        # Celery's limits stop the code as well; they know nothing of the entry.
        _settle(entry, runner.timeout_outcome(seconds))
        self.cancel(entry.id)


class _Coroutine:
    """The asyncio task that is current when this is made, which any thread can cancel."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()

    def cancel(self) -> None:
        if self._task is not None:
            with suppress(RuntimeError):  # its loop has closed meanwhile: the coroutine has returned
                self._loop.call_soon_threadsafe(self._task.cancel)


def _settle(entry: TaskEntry, outcome: Outcome) -> None:
    settled = runner.settle(entry, outcome)
    if settled is not None and not settled.ended:
        with suppress(DispatcherStopping):  # another process publishes it
            get_dispatcher().dispatch(settled)


get_worker = Lazy(Worker)


@worker_init.connect
def _begin_worker(**_: Any) -> None:
    if problem := startup_problem():
        sys.exit(problem)
    os.nice(_NICENESS)


@worker_process_init.connect
def _begin_process(**_: Any) -> None:
    # Celery closes a process's connections after each task, and the whole pool with them; so it has none.
    connections.settings["default"]["OPTIONS"].pop("pool", None)
    connections.settings["default"]["CONN_MAX_AGE"] = None
    get_worker()


@worker_process_shutdown.connect
def _end_process(**_: Any) -> None:
    get_worker().stop()
