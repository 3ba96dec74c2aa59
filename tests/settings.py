"""The service's own settings, with the tests' kinds of task beside its own."""

import os

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

TASK_STEP_SECONDS = 0.01
TASK_PROCESSES = 1
_LANES = ("THREAD", "ASYNC", "PROCESS")
TASK_KINDS = [
    "tests.kinds.GATE",
    "tests.kinds.FILING",
    "tests.kinds.ECHO",
    "tests.kinds.BROKEN",
    *(f"tests.lane_kinds.{lane}{option}" for lane in _LANES for option in ("", "_TIMEOUT", "_RETRY", "_SINGLE")),
    "tests.lane_kinds.THREAD_LATE_RETRY",
    "tests.lane_kinds.THREAD_TIMEOUT_RETRY",
    "tests.lane_kinds.PROCESS_TIMEOUT_RETRY",
]
# Each run has its own workers.
CELERY_TASK_DEFAULT_QUEUE = os.environ.get(
    "TEST_QUEUE",
    f"tasks-test-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}-{os.environ.get('PYTEST_XDIST_TESTRUNUID', '')}",
)
if DATABASES:  # noqa: F405 - of the service's own
    _default = DATABASES["default"]  # noqa: F405
    # One for each process of the tests; a file, which threads and servers can share.
    _default["TEST"] = {"NAME": f"{_default['NAME']}_test_{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"}
