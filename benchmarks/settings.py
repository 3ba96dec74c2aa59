"""The service's own settings, with the peers' addresses beside its own."""

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

ROOT_URLCONF = "benchmarks.requests"
ALLOWED_HOSTS = ["localhost"]
