"""Print what this service costs and holds: `python -m benchmarks [MEASURE]`."""

import argparse
import os

MEASURES = {
    "requests": "what a create and a poll cost beside a plain Django view and a stock REST framework view",
    "waiting": "10,000 tasks that wait for a second each: how late they end, and what each holds in memory",
    "heavy": "how long polls take while every core counts primes",
    "news": "how soon a client that waits, and one that polls, learns of the end of its task",
    "crowd": "how long polls take beside 256 clients that wait",
    "burst": "how long a thousand creates at once take under runserver",
    "celery": "creates and completed tasks a second, with PostgreSQL and Celery, compared with the baseline",
    "flat": "whether 100,000 tasks leave memory, threads and files as they were",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "measure",
        nargs="?",
        choices=MEASURES,
        default="requests",
        help="; ".join(f"{name}: {what}" for name, what in MEASURES.items()),
    )
    measure = parser.parse_args().measure
    if measure == "requests":
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
        import django

        django.setup()
        from benchmarks import requests

        requests.main()
    elif measure == "celery":
        from benchmarks.celery import celery

        celery()
    else:
        from benchmarks import engine, news

        getattr(news if measure in {"news", "crowd"} else engine, measure)()


main()
