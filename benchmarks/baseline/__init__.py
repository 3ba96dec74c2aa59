"""The baseline: a stock REST framework view, Celery's `delay()`, and django-celery-results on the same database."""
