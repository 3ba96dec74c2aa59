"""Coroutines, all on one event loop, where one that waits costs a few kB."""

import asyncio
import threading
from typing import Any

from tasks import runner
from tasks.job import Job
from tasks.lanes.base import Lane, Run


class AsyncLane(Lane):
    """The loop runs in a thread of its own, which starts with the first task."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop: asyncio.AbstractEventLoop | None = None

    def shut_down(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _wake(self) -> None:
        while run := self._begin():
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._work, args=(self._loop,), name="tasks-loop", daemon=True).start()
            self._loop.call_soon_threadsafe(self._start, self._loop, run)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()

    def _start(self, loop: asyncio.AbstractEventLoop, run: Run) -> None:
        task = loop.create_task(self._attempt(run))
        with self._lock:
            run.interrupt = lambda: loop.call_soon_threadsafe(task.cancel)

    async def _attempt(self, run: Run) -> None:
        try:
            entry = runner.claim(run.task_id)
            if entry is not None:
                deadline = self._limit_time(run, entry)
                self._settle(entry, await runner.acall(entry, Job(entry)), deadline)
        finally:
            with self._lock:
                self._finish(run)
                self._wake()
