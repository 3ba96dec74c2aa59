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
# Each test process of each run has its own queue and its own database.
_OWN = (
    f"{os.environ.get('PYTEST_XDIST_TESTRUNUID', str(os.getpid()))[:8]}_{os.environ.get('PYTEST_XDIST_WORKER', 'one')}"
)
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("TEST_QUEUE", f"tasks-test-{_OWN}")
if HAS_DATABASE:  # noqa: F405 - from the service's settings
    # On SQLite it is a file, which threads and servers can share.
    DATABASES["default"]["TEST"] = {"NAME": f"{DATABASES['default']['NAME']}_test_{_OWN}"}  # noqa: F405 - as above
