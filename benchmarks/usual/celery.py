"""The application that `celery -A benchmarks.usual.celery worker` runs."""

import os
from typing import Any

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.usual.settings")
django.setup()

app = Celery("usual")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.task
def answer(name: str) -> dict[str, Any]:
    return {"name": name, "answer": 42}
