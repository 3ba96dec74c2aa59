"""Measure the time and the memory that this service needs: `python -m benchmarks [MEASURE]`."""

import argparse
import os

MEASURES = {
    "requests": "CPU time of a create and a poll, compared with a plain Django view and a stock REST framework view",
    "waiting": "10,000 async tasks that wait for a second each: how late they end, and how much memory each needs",
    "heavy": "how long polls take while every core counts primes",
    "news": "how soon waiting and polling clients learn that their task has ended",
    "crowd": "how long polls take while 256 other clients wait",
    "burst": "how long 1,000 creates by 16 concurrent clients take under runserver",
    "celery": "creates and completed tasks per second with PostgreSQL and Celery, compared with the baseline",
    "flat": "whether memory, threads and open files stay constant over 100,000 tasks",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "measure",
        nargs="?",
        choices=MEASURES,
        metavar="MEASURE",
        default="requests",
        help="by default requests; one of\n" + "\n".join(f"{name:10}{text}" for name, text in MEASURES.items()),
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
