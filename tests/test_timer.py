import threading

import pytest

from tasks.utils.timer import Timer
from tests.helpers import wait_for


@pytest.fixture
def timer() -> Timer:
    return Timer("test-timer")


def is_running() -> bool:
    return any(thread.name == "test-timer" for thread in threading.enumerate())


def test_calls_are_made_in_the_order_of_their_times(timer: Timer) -> None:
    called: list[int] = []
    for number in (3, 1, 2):
        timer.call_later(number * 0.02, lambda number=number: called.append(number))  # type: ignore[misc]  # mypy infers no default of a lambda
    wait_for(lambda: called == [1, 2, 3])


def test_a_cancelled_call_is_not_made(timer: Timer) -> None:
    called: list[str] = []
    call = timer.call_later(0.01, lambda: called.append("cancelled"))
    timer.call_later(0.03, lambda: called.append("kept"))
    call.cancel()
    call.cancel()
    wait_for(lambda: called)
    assert called == ["kept"]


def test_cancelled_calls_do_not_accumulate(timer: Timer) -> None:
    for _ in range(10_000):
        timer.call_later(3600, list).cancel()
    assert len(timer._calls) < 200  # noqa: SLF001 - nothing public shows it
    timer.clear()
    wait_for(lambda: not is_running())


def test_a_failed_call_is_logged_and_the_next_one_is_made(timer: Timer, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []
    timer.call_later(0, lambda: 1 / 0)
    timer.call_later(0.01, lambda: called.append("next"))
    wait_for(lambda: called)
    assert "ZeroDivisionError" in caplog.text


def test_the_timer_thread_ends_after_the_last_call_and_starts_again(timer: Timer) -> None:
    for _ in range(2):
        called: list[str] = []
        timer.call_later(0, lambda called=called: called.append("now"))  # type: ignore[misc]  # mypy infers no default of a lambda
        wait_for(lambda called=called: called and not is_running())  # type: ignore[misc]  # mypy infers no default of a lambda
