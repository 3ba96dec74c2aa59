"""How soon a client learns that its task has ended, and how waiting clients slow down the others."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from benchmarks.server import Client, percentile, serving

_TASKS = 100
_WAITING = 256
_POLLING = 32

Follow = Callable[[Client, float], float]


def news() -> None:
    """Print the delay between the end of a task and its client knowing it, and the number of requests, by method."""
    methods: list[tuple[str, Follow, int]] = [
        ("waits on the poll", _wait, 4),
        ("waits on the create", _wait_on_create, 4),
        ("polls every 0.1 s", _poll_every(0.1), 4),
        ("polls every second", _poll_every(1), 10),
    ]
    with serving():
        print(f"time from `finished_at` until the client knows it, {_TASKS} async tasks of 0.5 to 1.5 seconds:")
        for name, follow, clients in methods:
            _measure(name, follow, clients)


def _measure(name: str, follow: Follow, clients: int) -> None:
    def follow_some(count: int) -> tuple[list[float], int]:
        client = Client()
        # Random durations, so that polls happen at any moment before the end.
        delays = [follow(client, 0.5 + random.random()) * 1000 for _ in range(count)]  # noqa: S311 - no secret
        return delays, client.requests

    with ThreadPoolExecutor(clients) as pool:
        results = list(pool.map(follow_some, [_TASKS // clients] * clients))
    delays = [milliseconds for times, _ in results for milliseconds in times]
    requests = sum(count for _, count in results) / _TASKS
    print(
        f"  {name}: median {statistics.median(delays):.1f} ms, p99 {percentile(delays, 99):.1f} ms, "
        f"{requests:.1f} requests per task"
    )


def _since(finished_at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(finished_at)).total_seconds()


def _wait(client: Client, seconds: float) -> float:
    entry = client.ask("GET", f"{client.create('sleep', seconds=seconds)}?wait=30")
    return _since(entry["finished_at"])


def _wait_on_create(client: Client, seconds: float) -> float:
    entry = client.ask("POST", "/create-sleep", {"name": "benchmark", "seconds": seconds}, Prefer="wait=30")
    return _since(entry["finished_at"])


def _poll_every(interval: float) -> Follow:
    def follow(client: Client, seconds: float) -> float:
        path = client.create("sleep", seconds=seconds)
        while (entry := client.ask("GET", path))["status"] == "pending":
            time.sleep(interval)
        return _since(entry["finished_at"])

    return follow


def crowd(seconds: float = 10) -> None:
    """Print how long polls take alone, and while many other clients wait."""
    with serving():
        path = Client().create("nothing")
        Client().wait(path)
        _poll(path, 2)
        alone = _poll(path, seconds)
        live = [Client().create("sleep", seconds=seconds + 5) for _ in range(_WAITING)]
        with ThreadPoolExecutor(_WAITING) as pool:
            waiting = [pool.submit(lambda path: Client().ask("GET", f"{path}?wait=60"), path) for path in live]
            time.sleep(2)
            beside = _poll(path, seconds)
            still_waiting = sum(not request.done() for request in waiting)
            ended = sum(request.result()["status"] == "completed" for request in waiting)
    print(f"polls by {_POLLING} clients, alone and beside {_WAITING} that wait ({still_waiting} for the whole time):")
    for name, times in (("alone", alone), ("beside", beside)):
        print(
            f"  {name}: {len(times) / seconds:.0f} per second, median {statistics.median(times):.2f} ms, "
            f"p99 {percentile(times, 99):.2f} ms"
        )
    print(f"  ratio of the medians {statistics.median(beside) / statistics.median(alone):.2f}; ", end="")
    print(f"{ended} of {_WAITING} clients got the end of their task")


def _poll(path: str, seconds: float) -> list[float]:
    """Have all clients poll for `seconds`; return the milliseconds of each poll."""
    end = time.perf_counter() + seconds
    times: list[float] = []
    lock = threading.Lock()

    def poll(_: int) -> None:
        client, own = Client(), []
        while (begin := time.perf_counter()) < end:
            client.ask("GET", path)
            own.append((time.perf_counter() - begin) * 1000)
        with lock:
            times.extend(own)

    with ThreadPoolExecutor(_POLLING) as pool:
        list(pool.map(poll, range(_POLLING)))
    return times
