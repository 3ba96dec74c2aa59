"""The application that `celery -A taskproject worker` runs."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "taskproject.settings")
django.setup()

from tasks.contrib.celery import app  # noqa: E402 - the kinds need the settings

__all__ = ["app"]
