"""The promises of every lane, over HTTP: a kind works the same on a thread, on the event loop and in a process."""

import multiprocessing
import os
import signal
import threading
from datetime import datetime
from typing import Any

import pytest
from django.conf import LazySettings

from tasks.dispatch import get_dispatcher
from tasks.dispatch.threads import ThreadDispatcher
from tasks.registry import get_registry
from tests import kinds, modes
from tests.helpers import Api, assert_problem, stored, wait_for

LANES = ["thread", "async", "process"]
COUNTS_OF = {"thread": "threads", "async": "async", "process": "processes"}
on_each_lane = pytest.mark.parametrize("lane", LANES)


def seconds_between(entry: dict[str, Any], first: str, second: str) -> float:
    return (datetime.fromisoformat(entry[second]) - datetime.fromisoformat(entry[first])).total_seconds()


def is_started(api: Api, entry: dict[str, Any]) -> bool:
    return bool(api.poll(entry)["started_at"])


def is_at_gate(api: Api, entry: dict[str, Any]) -> bool:
    """Whether the code of the task runs, too, and not only its attempt."""
    return bool(api.poll(entry)["message"] == "at the gate")


@on_each_lane
def test_a_task_returns_its_result(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane))
    assert (ended["status"], ended["result"], ended["progress"]) == ("completed", 1, 100)


@on_each_lane
def test_a_task_that_changes_its_payload_does_not_change_the_input_of_its_entry(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane, do="mutate"))
    assert ended["input"]["do"] == "mutate"


@on_each_lane
def test_a_result_file_is_served_after_the_task_has_completed(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane, do="save"))
    assert ended["file_path"] == f"files/{lane}_{ended['id']}.txt"
    answer = api.get(f"/{ended['file_path']}")
    assert b"".join(answer.streaming_content) == b"written by sample_name"


# Progress


@on_each_lane
def test_progress_is_shown_while_the_task_runs_including_the_last_report_of_a_burst(api: Api, lane: str) -> None:
    entry = api.create(lane, do="report-then-sleep", seconds=20)
    now = wait_for(lambda: (now := api.poll(entry)) and now["progress"] == 59 and now)
    assert now["status"] == "pending"
    assert now["message"] == "at 59"
    api.delete(entry)


@on_each_lane
def test_progress_in_a_tight_loop_changes_the_entry_at_most_about_20_times_a_second(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane, do="report", times=10_000))
    seconds = seconds_between(ended, "started_at", "finished_at")
    changes = ended["version"] - 3  # less the create, the claim and the end
    assert changes <= 2 + seconds * 20
    assert ended["message"] == "last step"


@modes.in_lanes
@pytest.mark.parametrize("lane", ["thread", "async"])
def test_an_older_progress_report_never_replaces_the_latest_one(
    api: Api, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_last_stored, is_late_report_done = threading.Event(), threading.Event()
    change = get_registry().change

    def changed(*args: Any, **options: Any) -> Any:
        if threading.current_thread().name == "tasks-progress":
            is_last_stored.wait(5)
            try:
                return change(*args, **options)
            finally:
                is_late_report_done.set()
        now = change(*args, **options)
        if now.message == "last step" and not now.ended:
            is_last_stored.set()
            is_late_report_done.wait(5)
        return now

    monkeypatch.setattr(get_registry(), "change", changed)
    assert api.wait(api.create(lane, do="report", times=30_000))["message"] == "last step"


@on_each_lane
def test_progress_never_decreases_and_is_kept_when_the_task_fails(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane, do="report-and-raise"))
    assert (ended["status"], ended["progress"], ended["message"]) == ("failed", 70, "fell back")


@on_each_lane
def test_a_thread_that_a_task_left_behind_reports_on_no_other_task(api: Api, lane: str) -> None:
    first = api.wait(api.create(lane, do="leave-thread"))
    after = [api.wait(api.create(lane, do="report", times=3)) for _ in range(20)]
    assert {entry["status"] for entry in [first, *after]} == {"completed"}
    assert {entry["message"] for entry in after} == {"last step"}
    wait_for(lambda: "left-behind" not in {thread.name for thread in threading.enumerate()})
    assert api.poll(first) == first


# Cancel


@on_each_lane
@modes.in_lanes
def test_a_cancel_takes_effect_immediately_and_stops_the_work(api: Api, lane: str) -> None:
    entry = api.create(lane, do="check", seconds=20)
    wait_for(lambda: is_started(api, entry))
    answer = api.delete(entry)
    assert answer.status_code == 200
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["finished_at"]
    wait_for(lambda: get_dispatcher().counts()[COUNTS_OF[lane]][1:] == (0, 0))
    assert api.poll(entry) == answer.json()


@on_each_lane
@modes.in_lanes
def test_a_queued_task_that_is_cancelled_never_starts(api: Api, lane: str) -> None:
    first = api.create(f"{lane}-single", do="sleep", seconds=20)
    wait_for(lambda: is_started(api, first))
    second = api.create(f"{lane}-single")
    assert api.delete(second).json()["status"] == "cancelled"
    api.delete(first)
    third = api.wait(api.create(f"{lane}-single"))
    assert third["status"] == "completed"
    assert api.poll(second)["attempt"] == 0


@pytest.mark.parametrize("do", ["check", "read-cancelled", "progress"])
@modes.in_lanes
def test_a_cancelled_thread_stops_at_its_next_use_of_the_job(api: Api, do: str) -> None:
    entry = api.create("thread", do=do, seconds=20)
    wait_for(lambda: is_started(api, entry))
    cancelled = api.delete(entry).json()
    wait_for(lambda: get_dispatcher().counts()["threads"].orphaned == 0)
    assert api.poll(entry) == cancelled


@modes.in_lanes
def test_the_result_of_a_thread_is_dropped_after_its_task_was_cancelled(api: Api) -> None:
    entry = api.create("gate")
    wait_for(lambda: is_at_gate(api, entry))
    cancelled = api.delete(entry).json()
    assert get_dispatcher().counts()["threads"] == (0, 0, 1)
    kinds.gate.set()
    wait_for(lambda: get_dispatcher().counts()["threads"] == (0, 0, 0))
    assert api.poll(entry) == cancelled


def test_an_ended_task_cannot_be_cancelled(api: Api) -> None:
    entry = api.wait(api.create("async"))
    assert_problem(api.delete(entry), 409, "already ended")
    assert api.poll(entry) == entry


def test_a_task_cannot_be_cancelled_under_another_kind(api: Api) -> None:
    entry = api.create("gate")
    assert_problem(api.delete({**entry, "kind": "task"}), 404)
    assert api.poll(entry)["status"] == "pending"


@on_each_lane
@modes.in_lanes
def test_a_cancelled_task_is_never_retried(api: Api, lane: str) -> None:
    entry = api.create(f"{lane}-retry", do="sleep", seconds=20)
    wait_for(lambda: is_started(api, entry))
    cancelled = api.delete(entry).json()
    wait_for(lambda: get_dispatcher().counts()[COUNTS_OF[lane]].running == 0)
    assert api.wait(api.create(f"{lane}-retry"))["status"] == "completed"
    assert api.poll(entry) == cancelled


# Timeouts


@on_each_lane
def test_a_task_that_exceeds_its_timeout_fails_in_time_and_frees_its_slot(
    api: Api, lane: str, settings: LazySettings
) -> None:
    settings.TASK_THREADS = settings.TASK_ASYNC_LIMIT = 1
    get_dispatcher.override(ThreadDispatcher())

    def time_out() -> float:
        ended = api.wait(api.create(f"{lane}-timeout", do="check", seconds=20))
        assert ended["status"] == "failed"
        assert ended["error"] == {"code": "timeout", "detail": "The attempt took longer than 0.3 seconds."}
        seconds = seconds_between(ended, "started_at", "finished_at")
        assert seconds >= 0.3
        return seconds

    # On a busy machine not every attempt is in time, so one of several has to be.
    wait_for(lambda: time_out() < 0.55)
    assert api.wait(api.create(lane))["status"] == "completed"


def test_a_thread_that_ignores_its_timeout_is_orphaned_and_replaced_until_it_returns(
    api: Api, settings: LazySettings
) -> None:
    settings.TASK_THREADS = 1
    get_dispatcher.override(ThreadDispatcher())
    ended = api.wait(api.create("thread-timeout", do="sleep", seconds=1))
    wait_for(lambda: get_dispatcher().counts()["threads"].orphaned == 1)
    assert b'tasks_orphaned{lane="threads"} 1.0' in api.get("/metrics").content
    assert api.wait(api.create("thread"))["status"] == "completed"
    wait_for(lambda: get_dispatcher().counts()["threads"].orphaned == 0)
    assert api.poll(ended) == ended


def test_orphaned_threads_never_outnumber_the_slots(api: Api, settings: LazySettings) -> None:
    settings.TASK_THREADS = 1
    get_dispatcher.override(ThreadDispatcher())
    orphan = api.create("gate")
    wait_for(lambda: is_at_gate(api, orphan))
    api.delete(orphan)
    keeps_its_slot = api.create("gate")
    wait_for(lambda: is_at_gate(api, keeps_its_slot))
    api.delete(keeps_its_slot)
    assert get_dispatcher().counts()["threads"] == (0, 1, 1)
    waiting = api.create("thread")
    kinds.gate.set()
    assert api.wait(waiting)["status"] == "completed"
    wait_for(lambda: get_dispatcher().counts()["threads"] == (0, 0, 0))


def test_a_coroutine_that_ignores_its_cancellation_still_frees_its_slot(api: Api, settings: LazySettings) -> None:
    settings.TASK_ASYNC_LIMIT = 1
    get_dispatcher.override(ThreadDispatcher())
    assert api.wait(api.create("async-timeout", do="stubborn", seconds=1))["error"]["code"] == "timeout"
    assert api.wait(api.create("async"))["status"] == "completed"
    wait_for(lambda: get_dispatcher().counts()["async"] == (0, 0, 0))


# Retries


@on_each_lane
def test_a_failed_attempt_is_retried(api: Api, lane: str) -> None:
    ended = api.wait(api.create(f"{lane}-retry", do="fail-until", times=3))
    assert (ended["status"], ended["attempt"], ended["result"], ended["error"]) == ("completed", 3, 3, None)


@on_each_lane
def test_a_task_fails_when_its_last_attempt_fails(api: Api, lane: str) -> None:
    ended = api.wait(api.create(f"{lane}-retry", do="fail-until", times=9))
    assert (ended["status"], ended["attempt"]) == ("failed", 3)
    assert ended["error"] == {"code": "exception", "detail": "ValueError: attempt 3"}


@on_each_lane
def test_a_permanent_failure_is_not_retried(api: Api, lane: str) -> None:
    ended = api.wait(api.create(f"{lane}-retry", do="fail-for-good"))
    assert (ended["status"], ended["attempt"]) == ("failed", 1)
    assert ended["error"] == {"code": "permanent", "detail": "It can never work."}


def test_a_task_that_waits_for_its_next_attempt_shows_its_error_and_uses_no_slot(
    api: Api, settings: LazySettings
) -> None:
    settings.TASK_THREADS = 1
    get_dispatcher.override(ThreadDispatcher())
    entry = api.create("thread-late-retry", do="fail-until", times=9)
    now = wait_for(lambda: (now := api.poll(entry)) and now["error"] and now)
    assert (now["status"], now["attempt"], now["started_at"]) == ("pending", 1, None)
    assert now["error"]["detail"] == "ValueError: attempt 1"
    assert api.wait(api.create("thread"))["status"] == "completed"
    assert api.delete(entry).json()["status"] == "cancelled"


@modes.alone
def test_a_failed_attempt_is_not_retried_when_too_many_tasks_wait_for_a_retry(api: Api, settings: LazySettings) -> None:
    settings.TASK_QUEUE_LIMIT = 1
    get_dispatcher.override(ThreadDispatcher())
    waiting = api.create("thread-late-retry", do="fail-until", times=9)
    wait_for(lambda: api.poll(waiting)["error"])
    ended = api.wait(api.create("thread-late-retry", do="fail-until", times=9))
    assert (ended["status"], ended["error"]["detail"]) == ("failed", "ValueError: attempt 1")


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_an_attempt_that_times_out_is_retried(api: Api, lane: str, settings: LazySettings) -> None:
    settings.TASK_PROCESSES = 2
    get_dispatcher.override(ThreadDispatcher())
    # With two workers, the next attempt begins immediately.
    both = [api.create(lane, do="check", seconds=20) for _ in range(2)]
    wait_for(lambda: all(is_started(api, entry) for entry in both))
    for entry in both:
        api.delete(entry)
    ended = api.wait(api.create(f"{lane}-timeout-retry", do="sleep", seconds=1.5))
    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("failed", 2, "timeout")
    wait_for(lambda: get_dispatcher().counts()[COUNTS_OF[lane]] == (0, 0, 0))


# Crashes


@pytest.mark.parametrize(("do", "code"), [("kill", -9), ("exit-process", 0)])
@modes.in_lanes
def test_a_process_that_ends_during_a_task_fails_only_that_task(api: Api, do: str, code: int) -> None:
    ended = api.wait(api.create("process", do=do))
    assert ended["status"] == "failed"
    assert ended["error"]["code"] == "crashed"
    assert f"exit code {code}." in ended["error"]["detail"]
    assert api.wait(api.create("process"))["status"] == "completed"


@modes.in_lanes
def test_a_crashed_attempt_is_retried(api: Api) -> None:
    ended = api.wait(api.create("process-retry", do="kill"))
    assert (ended["attempt"], ended["error"]["code"]) == (3, "crashed")


@modes.in_lanes
def test_an_idle_process_that_is_killed_is_replaced(api: Api) -> None:
    api.wait(api.create("process"))
    [process] = _worker_processes()
    os.kill(process, signal.SIGKILL)
    wait_for(lambda: process not in _worker_processes())
    assert api.wait(api.create("process"))["status"] == "completed"


@modes.in_lanes
def test_worker_processes_have_a_lower_priority_than_requests(api: Api) -> None:
    api.wait(api.create("process"))
    [process] = _worker_processes()
    assert os.getpriority(os.PRIO_PROCESS, process) > os.getpriority(os.PRIO_PROCESS, 0)
    if hasattr(os, "SCHED_IDLE"):
        assert os.sched_getscheduler(process) == os.SCHED_IDLE


@pytest.mark.parametrize("lane", ["thread", "process"])
def test_a_kind_that_raises_system_exit_fails_its_task_and_keeps_its_worker(api: Api, lane: str) -> None:
    ended = api.wait(api.create(lane, do="exit"))
    assert ended["error"]["code"] == "exception"
    assert api.wait(api.create(lane))["status"] == "completed"


# Limits


@on_each_lane
def test_a_kind_at_its_own_limit_waits_without_blocking_other_kinds(
    api: Api, lane: str, settings: LazySettings
) -> None:
    settings.TASK_PROCESSES = 2
    get_dispatcher.override(ThreadDispatcher())
    first = api.create(f"{lane}-single", do="sleep", seconds=20)
    wait_for(lambda: is_started(api, first))
    second = api.create(f"{lane}-single")
    assert api.wait(api.create(lane))["status"] == "completed"
    assert api.poll(second)["started_at"] is None
    api.delete(first)
    assert api.wait(second)["status"] == "completed"


@on_each_lane
def test_a_full_lane_refuses_with_a_retry_after_that_follows_its_queue(
    api: Api, lane: str, settings: LazySettings
) -> None:
    settings.TASK_THREADS = settings.TASK_ASYNC_LIMIT = settings.TASK_PROCESSES = 1
    settings.TASK_QUEUE_LIMIT = 40
    get_dispatcher.override(ThreadDispatcher())
    running = api.create(lane, do="sleep", seconds=20)
    wait_for(lambda: is_started(api, running))
    waiting = [api.create(lane) for _ in range(40)]
    answer = api.post(f"/create-{lane}", {"name": "one too many"})
    assert_problem(answer, 503, "Retry in 40 seconds")
    assert answer["Retry-After"] == "40"
    api.delete(running)
    assert {api.wait(entry)["status"] for entry in waiting} == {"completed"}


def test_a_lane_runs_as_many_tasks_concurrently_as_it_has_threads(api: Api, settings: LazySettings) -> None:
    settings.TASK_THREADS = 3
    get_dispatcher.override(ThreadDispatcher())
    entries = [api.create("gate") for _ in range(5)]
    wait_for(lambda: get_dispatcher().counts()["threads"] == (2, 3, 0))
    assert sum(thread.name.startswith("tasks-thread-") for thread in threading.enumerate()) == 3
    kinds.gate.set()
    assert {api.wait(entry)["status"] for entry in entries} == {"completed"}


@modes.in_lanes
def test_a_create_is_refused_and_stores_nothing_when_no_thread_can_start(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert_problem(api.post("/create-thread", {"name": "x"}), 503, "Nothing was stored")
    assert stored() == {}
    assert api.wait(api.create("thread"))["status"] == "completed"


def test_no_thread_starts_before_the_first_task() -> None:
    before = set(threading.enumerate())
    get_dispatcher.override(ThreadDispatcher())
    assert set(get_dispatcher().counts().values()) == {(0, 0, 0)}
    assert set(threading.enumerate()) <= before


@modes.in_lanes
def test_every_thread_has_a_name_and_ends_with_its_dispatcher(api: Api) -> None:
    for lane in LANES:
        api.wait(api.create(lane, do="report", times=100))
    assert get_dispatcher().drain(5)
    get_registry().close()
    wait_for(lambda: not [thread for thread in threading.enumerate() if _belongs_to_service(thread)])
    assert not _worker_processes()


def _belongs_to_service(thread: threading.Thread) -> bool:
    return thread.name.startswith("tasks-")


def _worker_processes() -> list[int]:
    return [process.pid for process in multiprocessing.active_children() if process.pid and process.is_alive()]
