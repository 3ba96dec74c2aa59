"""Heavy functions, each in a process of its own that can be killed at any time."""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import django

from tasks.dispatch import runner
from tasks.dispatch.lanes.run import Run
from tasks.dispatch.lanes.threads import ThreadLane, ThreadWorker
from tasks.dispatch.runner import Outcome
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import ATTEMPT_OVER, StaleAttempt
from tasks.job import RemoteJob
from tasks.registry import Transition, get_registry, retry_until_available

logger = logging.getLogger(__name__)

# A fresh interpreter shares no locks and no threads with this one.
_spawn = multiprocessing.get_context("spawn")
_NICENESS = 19


class ProcessLane(ThreadLane):
    """Each thread of the lane owns a process, which runs the code and is killed to stop it."""

    can_orphan = False
    thread_name = "tasks-process"

    def _interrupt(self, work: BaseProcess) -> None:
        work.kill()

    def _new_worker(self) -> ThreadWorker:
        return ProcessWorker(self._set_work)


class ProcessWorker(ThreadWorker):
    """The parent's side of a process. Each has a pipe of its own, so that killing one harms no other."""

    def __init__(self, set_work: Callable[[Run, Any], None]) -> None:
        """`set_work` is the lane's."""
        self._set_work = set_work
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    def prepare(self) -> None:
        """Start the process unless it runs, and wait until it is ready; where that fails, `call` says so."""
        if self._process is not None and self._process.is_alive():
            return
        self.close()
        self._pipe, child_pipe = _spawn.Pipe()
        process = _spawn.Process(target=_main, args=(child_pipe,), name="tasks-process", daemon=True)
        try:
            with child_pipe:
                process.start()
            self._process = process
            self._pipe.recv()
        except (EOFError, OSError):
            logger.exception("A process for heavy tasks could not be started")

    def call(self, run: Run, entry: TaskEntry) -> Outcome:
        """Run the code there; the failure has the code `crashed` where the process ends in the middle of it."""
        self.prepare()
        process, pipe = self._process, self._pipe
        if process is None or pipe is None:
            return _crashed("The process that runs such tasks could not be started.")
        self._set_work(run, process)
        try:
            pipe.send(entry)
            while not isinstance(message := pipe.recv(), Outcome):
                pipe.send(_is_made(entry, message))
        except (EOFError, OSError):
            process.join()
            return _crashed(f"The process that ran the task ended with exit code {process.exitcode}.")
        finally:
            self._set_work(run, None)
        if run.is_stopped:
            self.close()  # it may have been killed after its last word
        return message

    def close(self) -> None:
        """Kill the process and wait for its end."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


def _is_made(entry: TaskEntry, change: Transition) -> bool:
    """Make the change that the code reports; False where its attempt is over."""
    try:
        retry_until_available(lambda: get_registry().change(entry.id, change))
    except ATTEMPT_OVER:
        return False
    return True


def _crashed(detail: str) -> Outcome:
    return Outcome(error=TaskFailure("crashed", detail))


def _main(pipe: "Connection[Any, Any]") -> None:
    """Run each entry that the pipe brings, until it is closed: the child's side."""
    # Control-C at a terminal reaches this process too, but its parent decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
    _lower_priority()
    threading.Thread(target=_end_with_parent, name="tasks-parent-watch", daemon=True).start()
    django.setup()
    line = _Line(pipe)
    with suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            line.run(pipe.recv())


def _lower_priority() -> None:
    """Take the lowest priority of the system, so that requests on the same machine come first."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    # A container may refuse it, and with niceness alone a request sometimes waits for a tick of the clock.
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class _Line:
    """The child's end of the pipe. The parent answers each report, and each comes before the task's outcome."""

    def __init__(self, pipe: "Connection[Any, Any]") -> None:
        self._pipe = pipe
        self._talking = threading.Lock()
        self._current: TaskEntry | None = None

    def run(self, entry: TaskEntry) -> None:
        with self._talking:
            self._current = entry
        outcome = runner.call(entry, RemoteJob(entry, partial(self._report, entry)))
        with self._talking:
            self._current = None
            self._pipe.send(outcome)

    def _report(self, entry: TaskEntry, change: Transition) -> None:
        with self._talking:
            # A thread that a task left behind may still report.
            if entry is not self._current:
                raise StaleAttempt
            self._pipe.send(change)
            if not self._pipe.recv():
                raise StaleAttempt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
