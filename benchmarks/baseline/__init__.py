"""The baseline: work started over HTTP by: a stock view, `delay()`, and django-celery-results on the same database."""
