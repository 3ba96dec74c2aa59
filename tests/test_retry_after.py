"""When a client is told to come again, by a clock of the lanes that the test moves."""

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
    """Stands for the module `time` in the lanes."""

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
    """A task that has a place, and keeps it until the gate is opened."""
    entry = api.create("thread", do="fail-at-gate", **fields)
    wait_for(lambda: api.poll(entry)["started_at"])
    return entry


def run(api: Api, clock: Clock, seconds: float) -> None:
    """Have a task take so long by the clock."""
    entry = started(api)
    clock.now += seconds
    kinds.gate.set()
    api.wait(entry)
    wait_for(lambda: get_dispatcher().counts()["threads"].running == 0)
    kinds.gate.clear()


def retry_after(api: Api, entry: dict[str, Any]) -> int:
    return int(api.get(f"/poll-{entry['kind']}/{entry['id']}")["Retry-After"])


@pytest.mark.usefixtures("clock")
def test_where_nothing_is_known_of_a_kind_it_is_a_second(api: Api) -> None:
    assert api.post("/create-gate", {"name": "x"})["Retry-After"] == "1"
    assert retry_after(api, started(api)) == 1


def test_it_follows_how_long_the_tasks_of_the_kind_took(api: Api, clock: Clock) -> None:
    run(api, clock, 10)
    assert api.post("/create-thread", {"name": "x", "do": "fail-at-gate"})["Retry-After"] == "10"
    entry = started(api)
    assert retry_after(api, entry) == 10
    clock.now += 6.4
    assert retry_after(api, entry) == 4
    clock.now += 3.6
    assert retry_after(api, entry) == 1


def test_the_longer_a_task_is_late_the_later_it_is_asked_for_again(api: Api, clock: Clock) -> None:
    run(api, clock, 10)
    entry = started(api)
    for late, seconds in ((2, 2), (15, 15), (29, 29), (40, 30), (100_000, 30)):
        clock.now = 1000 + 10 + 10 + late
        assert retry_after(api, entry) == seconds


def test_the_latest_tasks_count_the_most(api: Api, clock: Clock) -> None:
    run(api, clock, 5)
    run(api, clock, 15)
    assert retry_after(api, started(api)) == 7
    kinds.gate.set()
    wait_for(lambda: get_dispatcher().counts()["threads"].running == 0)
    kinds.gate.clear()
    for _ in range(15):
        run(api, clock, 20)
    assert 19 <= retry_after(api, started(api)) <= 20


def test_other_kinds_do_not_count(api: Api, clock: Clock) -> None:
    run(api, clock, 20)
    assert api.post("/create-gate", {"name": "x"})["Retry-After"] == "1"


def test_short_tasks_are_asked_for_again_in_a_second(api: Api, clock: Clock) -> None:
    run(api, clock, 0.01)
    assert retry_after(api, started(api)) == 1


@pytest.mark.usefixtures("_two_workers")
def test_it_follows_the_place_in_the_queue(api: Api, clock: Clock) -> None:
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
def test_tasks_of_other_kinds_stand_in_the_same_queue(api: Api, clock: Clock) -> None:
    run(api, clock, 4)
    for _ in range(2):
        started(api)
    for _ in range(3):
        api.create("gate")
    assert api.post("/create-thread", {"name": "x"})["Retry-After"] == "10"


def test_a_kind_of_which_one_runs_at_once_has_a_longer_queue(api: Api, clock: Clock) -> None:
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
def test_a_task_that_waits_for_its_next_attempt_is_asked_for_then(
    api: Api, monkeypatch: pytest.MonkeyPatch, delay: float, least: int, most: int
) -> None:
    monkeypatch.setattr(runner, "retry_delay", lambda _: delay)
    entry = api.create("thread-late-retry", do="fail-until", times=2)
    wait_for(lambda: api.poll(entry)["error"])
    wait_for(lambda: least <= retry_after(api, entry) <= most)  # once its lane has let go of it
    assert api.poll(entry)["started_at"] is None


def test_an_ended_task_is_not_to_be_asked_for_again(api: Api) -> None:
    entry = api.wait(api.create())
    for headers in ({}, {"Prefer": "wait=1"}, {"If-None-Match": "*"}):
        assert not api.get(f"/poll-task/{entry['id']}", **headers).has_header("Retry-After")
