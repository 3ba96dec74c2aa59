"""A steady load: tasks are created at a constant rate, and each is polled until it has ended."""

import queue
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Self

from tqdm import tqdm

from faults.client import Client

_CREATORS = 4
_POLLERS = 4
_POLL_SECONDS = 0.3


class Load:
    """Creates and polls tasks from the beginning of the block; `finish` waits for the end of all tasks.

    Only one thread at a time polls a task, so that the responses are in order.
    """

    def __init__(self, client: Client, names: Sequence[str], *, per_second: float, steps: tuple[int, int]) -> None:
        self._client = client
        self._steps = steps
        self._pause = _CREATORS / per_second
        self._names = deque(names)
        self.ids: list[str] = []
        self.ended: dict[str, dict[str, Any]] = {}
        self._pending: queue.Queue[tuple[float, str]] = queue.Queue()
        self._is_over = threading.Event()
        self._creators = [threading.Thread(target=self._create, daemon=True) for _ in range(_CREATORS)]
        self._pollers = [threading.Thread(target=self._poll, daemon=True) for _ in range(_POLLERS)]
        self._bar: tqdm[Any] = tqdm(total=len(names), unit="task", disable=None, leave=False)

    def __enter__(self) -> Self:
        for thread in self._creators + self._pollers:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._names.clear()
        self._is_over.set()
        for thread in self._creators + self._pollers:
            thread.join()
        self._bar.close()

    def finish(self, within: float) -> None:
        """Wait until all tasks are created, and at most `within` seconds until all have ended; then poll each again."""
        for thread in self._creators:
            thread.join()
        self.wait_for_ends(within)
        self._is_over.set()
        for thread in self._pollers:
            thread.join()
        for task_id in self.ids:
            self._client.poll(task_id)

    def wait_for_ends(self, within: float) -> None:
        """Wait at most `within` seconds until all tasks created so far have ended."""
        deadline = time.monotonic() + within
        while len(self.ended) < len(self.ids) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _create(self) -> None:
        run_at = time.monotonic() + random.uniform(0, self._pause)  # noqa: S311 - spreads the threads over time
        while True:
            time.sleep(max(run_at - time.monotonic(), 0))
            run_at += self._pause
            try:
                name = self._names.popleft()
            except IndexError:
                return
            task_id = self._client.create(name, random.randint(*self._steps))  # noqa: S311 - not for security
            if task_id is not None:
                self.ids.append(task_id)
                self._pending.put((time.monotonic() + _POLL_SECONDS, task_id))

    def _poll(self) -> None:
        while not self._is_over.is_set():
            try:
                run_at, task_id = self._pending.get(timeout=0.1)
            except queue.Empty:
                continue
            self._is_over.wait(max(run_at - time.monotonic(), 0))
            response = self._client.poll(task_id)
            if response.http == 200 and response.entry["status"] != "pending":
                self.ended[task_id] = response.entry
                self._bar.update()
            else:
                self._pending.put((time.monotonic() + _POLL_SECONDS, task_id))
