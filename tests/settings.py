"""The service's own settings, with the tests' kinds of task beside its own."""

from taskproject.settings import *  # noqa: F403

TASK_KINDS = ["tests.kinds.GATE", "tests.kinds.FILING", "tests.kinds.ECHO", "tests.kinds.BROKEN"]
TASK_STEP_SECONDS = 0.01
