"""The usual way to start work over HTTP: a stock view, `delay()`, and django-celery-results on the same database."""
