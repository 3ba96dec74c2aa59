"""`Retry-After`, with a clock of the lanes that the test sets."""

from typing import Any

import pytest
from django.conf import LazySettings

from tasks.dispatch import get_dispatcher, runner
from tasks.dispatch.lanes import base
from tasks.dispatch.threads import ThreadDispatcher
from tests import kinds, modes
from tests.helpers import Api, wait_for

pytestmark = modes.in_lanes


class Clock:
    """Replaces the module `time` in the lanes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(base, "time", clock)
    return clock


@pytest.fixture
def _two_workers(settings: LazySettings) -> None:
    settings.TASK_THREADS = 2
    get_dispatcher.override(ThreadDispatcher())


def started(api: Api, **fields: Any) -> dict[str, Any]:
    """Create a task and wait until it has a slot, which it keeps until the gate opens."""
    entry = api.create("thread", do="fail-at-gate", **fields)
    wait_for(lambda: api.poll(entry)["started_at"])
    return entry


def run(api: Api, clock: Clock, seconds: float) -> None:
    """Run a task that takes `seconds` by the clock."""
    entry = started(api)
    clock.now += seconds
    kinds.gate.set()
    api.wait(entry)
    wait_for(lambda: get_dispatcher().counts()["threads"].running == 0)
    kinds.gate.clear()


def retry_after(api: Api, entry: dict[str, Any]) -> int:
    return int(api.get(f"/poll-{entry['kind']}/{entry['id']}")["Retry-After"])


@pytest.mark.usefixtures("clock")
def test_retry_after_is_one_second_for_a_kind_without_run_times(api: Api) -> None:
    assert api.post("/create-gate", {"name": "x"})["Retry-After"] == "1"
    assert retry_after(api, started(api)) == 1


def test_retry_after_follows_the_run_times_of_the_kind(api: Api, clock: Clock) -> None:
    run(api, clock, 10)
    assert api.post("/create-thread", {"name": "x", "do": "fail-at-gate"})["Retry-After"] == "10"
    entry = started(api)
    assert retry_after(api, entry) == 10
    clock.now += 6.4
    assert retry_after(api, entry) == 4
    clock.now += 3.6
    assert retry_after(api, entry) == 1


def test_retry_after_grows_with_the_delay_of_an_overdue_task(api: Api, clock: Clock) -> None:
    run(api, clock, 10)
    entry = started(api)
    for late, seconds in ((2, 2), (15, 15), (29, 29), (40, 30), (100_000, 30)):
        clock.now = 1000 + 10 + 10 + late
        assert retry_after(api, entry) == seconds


def test_the_latest_run_times_have_the_most_weight(api: Api, clock: Clock) -> None:
    run(api, clock, 5)
    run(api, clock, 15)
    assert retry_after(api, started(api)) == 7
    kinds.gate.set()
    wait_for(lambda: get_dispatcher().counts()["threads"].running == 0)
    kinds.gate.clear()
    for _ in range(15):
        run(api, clock, 20)
    assert 19 <= retry_after(api, started(api)) <= 20


def test_the_run_times_of_other_kinds_have_no_effect(api: Api, clock: Clock) -> None:
    run(api, clock, 20)
    assert api.post("/create-gate", {"name": "x"})["Retry-After"] == "1"


def test_retry_after_is_one_second_for_short_tasks(api: Api, clock: Clock) -> None:
    run(api, clock, 0.01)
    assert retry_after(api, started(api)) == 1


@pytest.mark.usefixtures("_two_workers")
def test_retry_after_follows_the_position_in_the_queue(api: Api, clock: Clock) -> None:
    run(api, clock, 4)
    for _ in range(2):
        started(api)
    answers = [api.post("/create-thread", {"name": "x", "do": "fail-at-gate"}) for _ in range(16)]
    assert [int(answer["Retry-After"]) for answer in answers] == [4 + 2 * ahead for ahead in range(14)] + [30, 30]
    waiting = [answer.json() for answer in answers]
    assert [retry_after(api, entry) for entry in waiting[:5]] == [4, 6, 8, 10, 12]
    api.delete(waiting[1])
    api.delete(waiting[0])
    assert [retry_after(api, entry) for entry in waiting[2:5]] == [4, 6, 8]


@pytest.mark.usefixtures("_two_workers")
def test_tasks_of_other_kinds_wait_in_the_same_queue(api: Api, clock: Clock) -> None:
    run(api, clock, 4)
    for _ in range(2):
        started(api)
    for _ in range(3):
        api.create("gate")
    assert api.post("/create-thread", {"name": "x"})["Retry-After"] == "10"


def test_a_kind_that_runs_one_task_at_a_time_has_a_longer_queue(api: Api, clock: Clock) -> None:
    first = api.create("thread-single", do="fail-at-gate")
    wait_for(lambda: api.poll(first)["started_at"])
    clock.now += 3
    kinds.gate.set()
    api.wait(first)
    wait_for(lambda: get_dispatcher().counts()["threads"].running == 0)
    kinds.gate.clear()
    second = api.create("thread-single", do="fail-at-gate")
    wait_for(lambda: api.poll(second)["started_at"])
    waiting = [api.create("thread-single") for _ in range(3)]
    assert [retry_after(api, entry) for entry in waiting] == [3, 6, 9]


@pytest.mark.parametrize(("delay", "least", "most"), [(12.9, 5, 13), (300, 30, 30)])
def test_retry_after_is_the_time_until_the_next_attempt(
    api: Api, monkeypatch: pytest.MonkeyPatch, delay: float, least: int, most: int
) -> None:
    monkeypatch.setattr(runner, "retry_delay", lambda _: delay)
    entry = api.create("thread-late-retry", do="fail-until", times=2)
    wait_for(lambda: api.poll(entry)["error"])
    wait_for(lambda: least <= retry_after(api, entry) <= most)  # after its lane has freed the slot
    assert api.poll(entry)["started_at"] is None


def test_an_ended_task_has_no_retry_after(api: Api) -> None:
    entry = api.wait(api.create())
    for headers in ({}, {"Prefer": "wait=1"}, {"If-None-Match": "*"}):
        assert not api.get(f"/poll-task/{entry['id']}", **headers).has_header("Retry-After")
