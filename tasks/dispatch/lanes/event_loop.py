"""Coroutines, all on one event loop, where one that waits costs a few kB."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from tasks.dispatch import runner
from tasks.dispatch.lanes.base import Lane
from tasks.dispatch.lanes.run import Run
from tasks.dispatch.runner import Outcome
from tasks.entry import TaskEntry
from tasks.job import Job
from tasks.utils.event_loop import is_on_event_loop

# Request threads compete with the loop for the GIL. While the loop is this late, each submit yields.
_LATE_SECONDS = 0.02
_YIELD_SECONDS = 0.002
# How long coroutines have to clean up when the lane ends.
_CLEAN_UP_SECONDS = 1


class AsyncLane(Lane):
    """The loop runs in a thread of its own, which starts with the first task."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop: asyncio.AbstractEventLoop | None = None
        # The runs to be started, and since when the loop is to start them.
        self._ready: deque[Run] = deque()
        self._notified_at: float | None = None

    def submit(self, entry: TaskEntry, *, force: bool = False) -> None:
        super().submit(entry, force=force)
        notified_at = self._notified_at
        if notified_at is not None and time.monotonic() - notified_at > _LATE_SECONDS:
            time.sleep(_YIELD_SECONDS)

    def shut_down(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _must_wake(self) -> bool:
        while run := self._begin():
            self._ready.append(run)
        if not self._ready or self._notified_at is not None:
            return False
        self._notified_at = time.monotonic()
        return True

    def _wake(self) -> None:
        # One thread at a time comes here: the one that set `_notified_at`.
        if self._loop is None:
            self._loop = _start_loop()
        self._loop.call_soon_threadsafe(self._start_all)

    def _interrupt(self, work: asyncio.Task[Outcome]) -> None:
        work.get_loop().call_soon_threadsafe(work.cancel)

    # What follows runs on the loop.

    def _start_all(self) -> None:
        self._notified_at = None
        while self._ready:
            self._offload(self._claim_and_start, self._ready.popleft())

    def _start(self, run: Run, entry: TaskEntry) -> None:
        job = Job(entry)
        work = asyncio.get_running_loop().create_task(runner.acall(entry, job))
        work.add_done_callback(partial(self._done, run, entry, job))
        self._set_work(run, work)

    def _done(self, run: Run, entry: TaskEntry, job: Job, work: asyncio.Task[Outcome]) -> None:
        self._offload(self._conclude, run, entry, job, work)

    # What follows runs on the loop, or offloaded.

    def _claim_and_start(self, run: Run) -> None:
        entry = self._claim(run)
        if entry is None:
            self._end(run)
        else:
            self._on_loop(self._start, run, entry)

    def _conclude(self, run: Run, entry: TaskEntry, job: Job, work: asyncio.Task[Outcome]) -> None:
        job.close()
        # A task cancelled before its first step has no outcome, and its entry has ended.
        if not work.cancelled():
            self._settle(run, entry, work.result())
        self._end(run)

    def _end(self, run: Run) -> None:
        self._finish(run)
        with self._lock:
            wakes = self._must_wake()
        if wakes:
            self._wake()

    def _on_loop(self, function: Callable[[Run, TaskEntry], None], run: Run, entry: TaskEntry) -> None:
        loop = self._loop
        if is_on_event_loop():
            function(run, entry)
        elif loop is not None:
            loop.call_soon_threadsafe(function, run, entry)


def _start_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=_run_loop, args=(loop,), name="tasks-loop", daemon=True).start()
    return loop


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        if tasks := asyncio.all_tasks(loop):  # interrupted before
            loop.run_until_complete(asyncio.wait(tasks, timeout=_CLEAN_UP_SECONDS))
    finally:
        loop.close()
