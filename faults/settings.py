"""The service's settings, with the kind of the load and a registry with crash points."""

import os

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

TASK_KINDS = ["faults.kinds.STEPS"]
TASK_REGISTRY["BACKEND"] = "faults.crash_points.CrashPointRegistry"  # noqa: F405 - from the service's settings
# The short runs cannot wait as long as the service does.
if CELERY_BROKER_URL and "FAULTS_REDELIVERY_SECONDS" in os.environ:  # noqa: F405 - as above
    TASK_REGISTRY["OPTIONS"] = {"redelivery_seconds": (int(os.environ["FAULTS_REDELIVERY_SECONDS"]), 60)}  # noqa: F405 - as above
# Others may use the same broker.
CELERY_TASK_DEFAULT_QUEUE = os.environ["FAULTS_QUEUE"]
