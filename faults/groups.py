"""Process groups of the service: to kill or stop as a whole, to kill one child of, and to restart."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from faults.journal import Journal

_CHECK_SECONDS = 0.1
_START_SECONDS = 30


class Group:
    """A process and all its descendants, in their own process group."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def pids(self) -> list[int]:
        return [pid for pid, (_, group) in _processes().items() if group == self._process.pid]

    @property
    def children(self) -> list[int]:
        """Return the children of the first process, except Python's resource tracker."""
        main = self._process.pid
        return [pid for pid, (parent, _) in _processes().items() if parent == main and not _is_tracker(pid)]

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def end(self) -> None:
        self.signal(signal.SIGKILL)
        self._process.wait()


class Fleet:
    """Restarts each group that ends, as a process manager does."""

    def __init__(self, journal: Journal) -> None:
        self.groups: list[Group] = []
        self._journal = journal
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._restarter = threading.Thread(target=self._restart_ended, daemon=True)
        self._restarter.start()

    def add(self, group: Group) -> Group:
        with self._lock:
            self.groups.append(group)
        return group

    def kill(self, group: Group, *, child: bool = False) -> None:
        """Kill the group, or one of its children; wait until it has one, and note the kill in the journal."""
        wait_until(lambda: group.children, _START_SECONDS)
        with self._lock:
            pids = [random.choice(group.children or group.pids)] if child else group.pids  # noqa: S311 - not for security
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._journal.killed(group.name, pids)

    def close(self) -> None:
        self._is_over.set()
        self._restarter.join()
        for group in self.groups:
            group.end()

    def _restart_ended(self) -> None:
        while not self._is_over.wait(_CHECK_SECONDS):
            with self._lock:
                for group in self.groups:
                    if group.has_ended:
                        group.end()
                        group.start()


def _processes() -> dict[int, tuple[int, int]]:
    """Return the parent and the group of each process."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                _, parent, group = (folder / "stat").read_text().rpartition(") ")[2].split()[:3]
                found[int(folder.name)] = int(parent), int(group)
    return found


def _is_tracker(pid: int) -> bool:
    with suppress(OSError):
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return True


def wait_until(look: Callable[[], object], seconds: float) -> None:
    """Wait until `look()` is true. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not look():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)
