"""The application that `celery -A taskproject worker` runs."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "taskproject.settings")
django.setup()

from tasks.contrib.celery import worker  # noqa: E402, F401 - which has the task
from tasks.contrib.celery.app import app  # noqa: E402 - the kinds need the settings

__all__ = ["app"]
