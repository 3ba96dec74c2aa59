"""A steady load: tasks are created at a pace, and each is polled until it has ended."""

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
    """From the beginning of the block on; `finish` waits for the end of all of it.

    One thread at a time polls a task, so that its answers have an order.
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
        """Wait until all tasks have been created and have ended, but not for ever; then look at each end once more."""
        for thread in self._creators:
            thread.join()
        self.wait_for_ends(within)
        self._is_over.set()
        for thread in self._pollers:
            thread.join()
        for task_id in self.ids:
            self._client.poll(task_id)

    def wait_for_ends(self, within: float) -> None:
        """Wait until what has been created by now has ended."""
        deadline = time.monotonic() + within
        while len(self.ended) < len(self.ids) and time.monotonic() < deadline:
            time.sleep(0.05)

    def _create(self) -> None:
        due = time.monotonic() + random.uniform(0, self._pause)  # noqa: S311 - so that they take turns
        while True:
            time.sleep(max(due - time.monotonic(), 0))
            due += self._pause
            try:
                name = self._names.popleft()
            except IndexError:
                return
            task_id = self._client.create(name, random.randint(*self._steps))  # noqa: S311 - any will do
            if task_id is not None:
                self.ids.append(task_id)
                self._pending.put((time.monotonic() + _POLL_SECONDS, task_id))

    def _poll(self) -> None:
        while not self._is_over.is_set():
            try:
                due, task_id = self._pending.get(timeout=0.1)
            except queue.Empty:
                continue
            self._is_over.wait(max(due - time.monotonic(), 0))
            answer = self._client.poll(task_id)
            if answer.http == 200 and answer.entry["status"] != "pending":
                self.ended[task_id] = answer.entry
                self._bar.update()
            else:
                self._pending.put((time.monotonic() + _POLL_SECONDS, task_id))
