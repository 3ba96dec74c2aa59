"""How soon a client learns that its task has ended, and what waiting clients cost the others."""

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
    """Print how long after the end of its task a client has it, by how it asks, and with how many requests."""
    ways: list[tuple[str, Follow, int]] = [
        ("waits on the poll", _wait, 4),
        ("waits on the create", _wait_on_create, 4),
        ("polls each 0.1 s", _poll_each(0.1), 4),
        ("polls each second", _poll_each(1), 10),
    ]
    with serving():
        print(f"from `finished_at` of an async task of 0.5 to 1.5 seconds to its client having it, {_TASKS} tasks:")
        for name, follow, clients in ways:
            _notify(name, follow, clients)


def _notify(name: str, follow: Follow, clients: int) -> None:
    def follow_some(count: int) -> tuple[list[float], int]:
        client = Client()
        # Each takes its own time, so that polls come at any moment before the end.
        late = [follow(client, 0.5 + random.random()) * 1000 for _ in range(count)]  # noqa: S311 - no secret
        return late, client.requests

    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(follow_some, [_TASKS // clients] * clients))
    late = [milliseconds for times, _ in found for milliseconds in times]
    requests = sum(count for _, count in found) / _TASKS
    print(
        f"  {name}: median {statistics.median(late):.1f} ms, p99 {percentile(late, 99):.1f} ms, "
        f"{requests:.1f} requests a task"
    )


def _since(finished_at: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(finished_at)).total_seconds()


def _wait(client: Client, seconds: float) -> float:
    entry = client.ask("GET", f"{client.create('sleep', seconds=seconds)}?wait=30")
    return _since(entry["finished_at"])


def _wait_on_create(client: Client, seconds: float) -> float:
    entry = client.ask("POST", "/create-sleep", {"name": "benchmark", "seconds": seconds}, Prefer="wait=30")
    return _since(entry["finished_at"])


def _poll_each(interval: float) -> Follow:
    def follow(client: Client, seconds: float) -> float:
        path = client.create("sleep", seconds=seconds)
        while (entry := client.ask("GET", path))["status"] == "pending":
            time.sleep(interval)
        return _since(entry["finished_at"])

    return follow


def crowd(seconds: float = 10) -> None:
    """Print how long polls take without and with many clients that wait meanwhile."""
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
            still = sum(not one.done() for one in waiting)
            ended = sum(one.result()["status"] == "completed" for one in waiting)
    print(f"polls by {_POLLING} clients, alone and beside {_WAITING} that wait ({still} of them all along):")
    for name, times in (("alone", alone), ("beside", beside)):
        print(
            f"  {name}: {len(times) / seconds:.0f} a second, median {statistics.median(times):.2f} ms, "
            f"p99 {percentile(times, 99):.2f} ms"
        )
    print(f"  ratio of the medians {statistics.median(beside) / statistics.median(alone):.2f}; ", end="")
    print(f"{ended} of {_WAITING} got the end of their task")


def _poll(path: str, seconds: float) -> list[float]:
    """Milliseconds of each poll that the clients make in so many seconds, one after the other."""
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
