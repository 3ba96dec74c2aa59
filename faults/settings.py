"""The service's own settings, with the load's kind, and a registry that can die at a seam."""

import os

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

TASK_KINDS = ["faults.kinds.STEPS"]
TASK_REGISTRY = "faults.seams.SeamRegistry"
# Others may use the same broker.
CELERY_TASK_DEFAULT_QUEUE = os.environ["FAULTS_QUEUE"]
