"""The service's own settings, with the load's kind, and a registry that can die at a seam."""

import os

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

TASK_KINDS = ["faults.kinds.STEPS"]
TASK_REGISTRY = "faults.seams.SeamRegistry"
# A line for each begun and each done attempt.
FAULTS_EFFECTS = os.environ["FAULTS_EFFECTS"]
# Where it is noted who died at a seam already.
FAULTS_DIED = os.environ["FAULTS_DIED"]
# 0 leaves the service's own; the short forms cannot wait so long.
FAULTS_PUBLISHED_AGAIN_SECONDS = int(os.environ["FAULTS_PUBLISHED_AGAIN_SECONDS"])
# Others may use the same broker.
CELERY_TASK_DEFAULT_QUEUE = os.environ["FAULTS_QUEUE"]
