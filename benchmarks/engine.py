"""Memory and behaviour under load, measured by clients of a real `manage.py serve`."""

import os
import re
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from benchmarks.server import RUNSERVER, Client, percentile, serving

_CLIENTS = 8
_CORES = os.cpu_count() or 1


def _create_many(count: int, kind: str, **fields: Any) -> list[str]:
    """Create tasks as fast as the clients can; return the paths to poll them."""
    local = threading.local()

    def create(_: int) -> str:
        if not hasattr(local, "client"):
            local.client = Client()
        path: str = local.client.create(kind, **fields)
        return path

    with ThreadPoolExecutor(_CLIENTS) as pool:
        return list(pool.map(create, range(count)))


def waiting(count: int = 10_000) -> None:
    with serving() as process:
        _create_many(100, "sleep", seconds=0)
        begin = time.perf_counter()
        paths = _create_many(count, "sleep", seconds=1)
        seconds = time.perf_counter() - begin
        client = Client()
        durations = []
        for path in paths:
            entry = client.wait(path)
            created, finished = (datetime.fromisoformat(entry[name]) for name in ("created_at", "finished_at"))
            durations.append((finished - created).total_seconds())
        print(f"{count} async tasks of 1 second, created at {count / seconds:.0f} per second by {_CLIENTS} clients:")
        print(f"  from create to end: median {statistics.median(durations):.3f} s, maximum {max(durations):.3f} s")
    with serving() as process:
        _create_many(100, "sleep", seconds=0)
        before = process.memory
        _create_many(count, "sleep", seconds=3600)
        after = process.memory
        _print_running("async", count)
        print(f"  memory per waiting task, including its entry: {(after - before) / count / 1000:.2f} kB")


def _print_running(lane: str, count: int) -> None:
    found = re.search(rf'tasks_running\{{lane="{lane}"\}} ([0-9.]+)', Client().ask("GET", "/metrics"))
    print(f"  waiting at the same time: {float(found[1]) if found else 0:.0f} of {count}")


def burst(count: int = 1000, clients: int = 16) -> None:
    times: list[float] = []

    def create(_: int) -> str:
        begin = time.perf_counter()
        path = Client().create("task")  # a new connection, as curl opens one
        times.append((time.perf_counter() - begin) * 1000)
        return path

    with serving(*RUNSERVER), ThreadPoolExecutor(clients) as pool:
        begin = time.perf_counter()
        paths = list(pool.map(create, range(count)))
        created = time.perf_counter() - begin
        client = Client()
        completed = sum(client.wait(path)["status"] == "completed" for path in paths)
        seconds = time.perf_counter() - begin
    print(f"{count} creates of kind task by {clients} threads under runserver, each over a new connection:")
    print(f"  all responses within {created:.2f} s, the slowest in {max(times):.0f} ms")
    print(f"  {completed} tasks completed within {seconds:.2f} s")


def heavy(seconds: float = 15) -> None:
    with serving() as _:
        client = Client()
        path = client.create("nothing")
        client.wait(path)
        _poll_times(client, path, 2)
        idle = _poll_times(client, path, seconds)
        stop = threading.Event()
        running = 2 * _CORES

        def feed() -> int:
            feeder, done = Client(), 0
            while not stop.is_set():
                feeder.create("prime-count", {"Prefer": "wait=60"}, limit=10_000_000)
                done += 1
            return done

        with ThreadPoolExecutor(running) as pool:
            feeders = [pool.submit(feed) for _ in range(running)]
            time.sleep(3)
            busy = _poll_times(client, path, seconds)
            stop.set()
            counted = sum(feeder.result() for feeder in feeders)
        print(f"sequential polls, idle and with {running} prime-count tasks of 10,000,000 pending at all times:")
        for name, times in (("idle", idle), ("busy", busy)):
            median, p99 = percentile(times, 50), percentile(times, 99)
            print(f"  {name}: median {median:.2f} ms, p99 {p99:.2f} ms, {len(times)} polls")
        print(f"  p99 ratio {percentile(busy, 99) / percentile(idle, 99):.2f}; {counted} tasks completed meanwhile")


def _poll_times(client: Client, path: str, seconds: float) -> list[float]:
    """Poll for `seconds`, at most 200 times per second; return the milliseconds of each poll."""
    times = []
    end = time.perf_counter() + seconds
    while (begin := time.perf_counter()) < end:
        client.ask("GET", path)
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.005)
    return times


def flat(count: int = 100_000, steps: int = 10) -> None:
    print(f"{count} zero-second tasks, TASK_MAX_ENTRIES=2000:")
    with serving(TASK_MAX_ENTRIES="2000") as process:
        _create_many(200, "block")  # starts every thread of the pool
        for step in range(1, steps + 1):
            for kind, fields in (("nothing", {}), ("sleep", {"seconds": 0})):
                _create_many(count // steps // 2, kind, **fields)
            entries = re.search(r"tasks_entries ([0-9.]+)", Client().ask("GET", "/metrics"))
            print(
                f"  after {step * count // steps:7}: {process.memory / 1e6:6.1f} MB, {process.threads} threads, "
                f"{process.files} files, {float(entries[1]) if entries else 0:.0f} entries"
            )
