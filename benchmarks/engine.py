"""What the engine holds and how it behaves under load, seen by clients of a real `manage.py serve`."""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

_PORT = 8765
_CLIENTS = 8
_CORES = os.cpu_count() or 1


class _Client:
    """One kept connection."""

    def __init__(self) -> None:
        self._connection = HTTPConnection("127.0.0.1", _PORT, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self._connection.request(
            method,
            path,
            None if body is None else json.dumps(body),
            {"Content-Type": "application/json", "Accept": "*/*"},
        )
        response = self._connection.getresponse()
        content = response.read()
        if response.status not in {200, 201}:
            raise RuntimeError(f"{method} {path}: {response.status} {content.decode()}")
        return json.loads(content) if path != "/metrics" else content.decode()

    def create(self, kind: str, **fields: Any) -> str:
        entry = self.ask("POST", f"/create-{kind}", {"name": "benchmark", **fields})
        return f"/poll-{kind}/{entry['id']}"

    def wait(self, path: str) -> Any:
        while (entry := self.ask("GET", path))["status"] == "pending":
            time.sleep(0.01)
        return entry


class _Process:
    """What the system says of the process that serves."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int((self._folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def threads(self) -> int:
        return len(list((self._folder / "task").iterdir()))

    @property
    def files(self) -> int:
        return len(list((self._folder / "fd").iterdir()))


_SERVE = ("serve", "--port", str(_PORT))
_RUNSERVER = ("runserver", "--noreload", str(_PORT))


@contextmanager
def _serving(*command: str, **settings: str) -> Iterator[_Process]:
    """Run `manage.py serve`, or another command of it, until the block ends."""
    with tempfile.TemporaryDirectory() as files:
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "taskproject.settings",
            "TASK_KINDS": "benchmarks.kinds.SLEEP,benchmarks.kinds.HOLD,benchmarks.kinds.NOTHING",
            "TASK_FILES_ROOT": files,
            "TASK_DRAIN_SECONDS": "0",
            **settings,
        }
        server = subprocess.Popen(
            [sys.executable, "manage.py", *(command or _SERVE)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_until_it_answers()
            yield _Process(server.pid if command else _worker_of(server))
        finally:
            server.terminate()
            server.wait(30)


def _wait_until_it_answers() -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            _Client().ask("GET", "/metrics")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _worker_of(server: "subprocess.Popen[bytes]") -> int:
    return int(Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()[0])


def _create_many(count: int, kind: str, **fields: Any) -> list[str]:
    """Create tasks as fast as the clients can; return where to poll them."""
    local = threading.local()

    def create(_: int) -> str:
        if not hasattr(local, "client"):
            local.client = _Client()
        path: str = local.client.create(kind, **fields)
        return path

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(create, range(count)))


def waiting(count: int = 10_000) -> None:
    with _serving() as process:
        _create_many(100, "sleep", seconds=0)
        begin = time.perf_counter()
        paths = _create_many(count, "sleep", seconds=1)
        seconds = time.perf_counter() - begin
        client = _Client()
        lateness = []
        for path in paths:
            entry = client.wait(path)
            created, finished = (datetime.fromisoformat(entry[name]) for name in ("created_at", "finished_at"))
            lateness.append((finished - created).total_seconds())
        print(f"{count} async tasks of 1 second, created at {count / seconds:.0f} a second by {_CLIENTS} clients:")
        print(f"  from create to end: median {statistics.median(lateness):.3f} s, the longest {max(lateness):.3f} s")
    with _serving() as process:
        _create_many(100, "sleep", seconds=0)
        before = process.memory
        _create_many(count, "sleep", seconds=3600)
        after = process.memory
        _tell_running("async", count)
        print(f"  memory for each that waits, its entry included: {(after - before) / count / 1000:.2f} kB")


def _tell_running(lane: str, count: int) -> None:
    found = re.search(rf'tasks_running\{{lane="{lane}"\}} ([0-9.]+)', _Client().ask("GET", "/metrics"))
    print(f"  waiting at the same time: {float(found[1]) if found else 0:.0f} of {count}")


def burst(count: int = 1000, clients: int = 16) -> None:
    times: list[float] = []

    def create(_: int) -> str:
        begin = time.perf_counter()
        path = _Client().create("task")  # a new connection, as curl opens one
        times.append((time.perf_counter() - begin) * 1000)
        return path

    with _serving(*_RUNSERVER), ThreadPoolExecutor(clients) as pool:
        begin = time.perf_counter()
        paths = list(pool.map(create, range(count)))
        created = time.perf_counter() - begin
        client = _Client()
        completed = sum(client.wait(path)["status"] == "completed" for path in paths)
        seconds = time.perf_counter() - begin
    print(f"{count} creates of kind task by {clients} threads under runserver, each over a new connection:")
    print(f"  answered within {created:.2f} s, the slowest in {max(times):.0f} ms")
    print(f"  {completed} completed by {seconds:.2f} s")


def heavy(seconds: float = 15) -> None:
    with _serving() as _:
        client = _Client()
        path = client.create("nothing")
        client.wait(path)
        _poll_times(client, path, 2)
        idle = _poll_times(client, path, seconds)
        stop = threading.Event()
        running = 2 * _CORES

        def feed() -> int:
            feeder, done = _Client(), 0
            while not stop.is_set():
                feeder.wait(feeder.create("prime-count", limit=10_000_000))
                done += 1
            return done

        with ThreadPoolExecutor(running) as pool:
            feeders = [pool.submit(feed) for _ in range(running)]
            time.sleep(3)
            busy = _poll_times(client, path, seconds)
            stop.set()
            counted = sum(feeder.result() for feeder in feeders)
        print(f"polls, one after the other, idle and with {running} prime-count tasks of 10,000,000 at all times:")
        for name, times in (("idle", idle), ("busy", busy)):
            median, p99 = _percentile(times, 50), _percentile(times, 99)
            print(f"  {name}: median {median:.2f} ms, p99 {p99:.2f} ms, {len(times)} polls")
        print(f"  p99 ratio {_percentile(busy, 99) / _percentile(idle, 99):.2f}; {counted} counts meanwhile")


def _poll_times(client: _Client, path: str, seconds: float) -> list[float]:
    """Milliseconds of each of the polls that are made in so many seconds, 200 of them a second at most."""
    times = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        client.ask("GET", path)
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.005)
    return times


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def flat(count: int = 100_000, steps: int = 10) -> None:
    print(f"{count} zero-second tasks, TASK_MAX_ENTRIES=2000:")
    with _serving(TASK_MAX_ENTRIES="2000") as process:
        _create_many(200, "hold")  # until every thread of the pool has started
        for step in range(1, steps + 1):
            for kind, fields in (("nothing", {}), ("sleep", {"seconds": 0})):
                _create_many(count // steps // 2, kind, **fields)
            entries = re.search(r"tasks_entries ([0-9.]+)", _Client().ask("GET", "/metrics"))
            print(
                f"  after {step * count // steps:7}: {process.memory / 1e6:6.1f} MB, {process.threads} threads, "
                f"{process.files} files, {float(entries[1]) if entries else 0:.0f} entries"
            )
