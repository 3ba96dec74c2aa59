"""The service's settings, with the URLs of the peers added."""

from taskproject.settings import *  # noqa: F403 - Django settings build on each other so

ROOT_URLCONF = "benchmarks.requests"
ALLOWED_HOSTS = ["localhost"]
