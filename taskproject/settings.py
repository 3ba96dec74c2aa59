"""Every setting of the service. Each is an environment variable of the same name, and only this module reads it."""

import os
import secrets
from pathlib import Path
from typing import Any

from taskproject import databases, environment

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = environment.flag("DEBUG")
# It signs nothing that outlives a start.
SECRET_KEY = environment.text("SECRET_KEY") or secrets.token_urlsafe(50)
ALLOWED_HOSTS = environment.words("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")

TASK_THREADS = environment.integer("TASK_THREADS", 64)
TASK_ASYNC_LIMIT = environment.integer("TASK_ASYNC_LIMIT", 50_000)
TASK_PROCESSES = environment.integer("TASK_PROCESSES", os.cpu_count() or 1)
TASK_QUEUE_LIMIT = environment.integer("TASK_QUEUE_LIMIT", 10_000)
TASK_STEP_SECONDS = environment.seconds("TASK_STEP_SECONDS", 1)
TASK_FILES_ROOT = environment.text("TASK_FILES_ROOT", "files")
TASK_KINDS = environment.words("TASK_KINDS")
TASK_RETENTION_SECONDS = environment.seconds("TASK_RETENTION_SECONDS", 3600)
TASK_MAX_ENTRIES = environment.integer("TASK_MAX_ENTRIES", 100_000)
TASK_WAIT_SECONDS = environment.seconds("TASK_WAIT_SECONDS", 60)
TASK_MAX_WAITERS = environment.integer("TASK_MAX_WAITERS", 256)
TASK_DRAIN_SECONDS = environment.seconds("TASK_DRAIN_SECONDS", 30)
TASK_LEASE_SECONDS = environment.seconds("TASK_LEASE_SECONDS", 15, least=0.1)
TASK_DATABASE_POOL_SIZE = environment.integer("TASK_DATABASE_POOL_SIZE", 16)
TASK_MAX_BODY_BYTES = environment.integer("TASK_MAX_BODY_BYTES", 65_536)

ROOT_URLCONF = "taskproject.urls"
WSGI_APPLICATION = "taskproject.wsgi.application"
APPEND_SLASH = False  # tasks.urls matches each path with and without a trailing slash
USE_TZ = True
TIME_ZONE = "UTC"
DATABASES: dict[str, Any] = databases.from_environment("DATABASE_URL", pool_size=TASK_DATABASE_POOL_SIZE)
HAS_DATABASE = bool(DATABASES)  # before Django adds its placeholder
CELERY_BROKER_URL = environment.text("CELERY_BROKER_URL")
if HAS_DATABASE:
    TASK_REGISTRY: dict[str, Any] = {"BACKEND": "tasks.contrib.database.registry.DatabaseRegistry"}
else:
    TASK_REGISTRY = {"BACKEND": "tasks.registry.memory.MemoryRegistry"}
if CELERY_BROKER_URL:
    TASK_DISPATCHER = "tasks.contrib.celery.dispatcher.CeleryDispatcher"
    # A message that nothing came of is sent again after 15 seconds, and at least every 60 in the end.
    TASK_REGISTRY["OPTIONS"] = {"redelivery_seconds": (15, 60)}
else:
    TASK_DISPATCHER = "tasks.dispatch.threads.ThreadDispatcher"
# A form has the same limit as JSON.
DATA_UPLOAD_MAX_MEMORY_SIZE = TASK_MAX_BODY_BYTES

# Celery (https://docs.celeryq.dev/en/stable/userguide/configuration.html). The row of a task is the truth, so a message
# may come twice, or never; these settings make both rare.
CELERY_TASK_DEFAULT_QUEUE = "tasks"
# The message of a worker that dies goes to another one.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
# The registry keeps the results.
CELERY_TASK_IGNORE_RESULT = True
# A worker fetches the messages that it can run now, and leaves the rest to others.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
# A process of a worker reuses its database connection for so many tasks: to connect costs more than a short task.
CELERY_DB_REUSE_MAX = 1000
# Recovery publishes again, so nobody waits long here for a broker that is away.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0.1, "interval_max": 0.1}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# As long as a server waits for running tasks when it is stopped.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = TASK_DRAIN_SECONDS
if CELERY_BROKER_URL.startswith("amqp"):
    # A message counts as published once RabbitMQ confirms it, and survives the loss of a node.
    CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {"confirm_publish": True, "connect_timeout": 1}
    CELERY_TASK_DEFAULT_QUEUE_TYPE = "quorum"
else:
    # A broker that does not respond delays only other messages, and those not for long.
    CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_connect_timeout": 1, "socket_timeout": 5, "socket_keepalive": True}

INSTALLED_APPS = [
    "tasks",  # first, since its runserver replaces the others
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    *(["tasks.contrib.database"] if HAS_DATABASE else []),
]

MIDDLEWARE = [
    "tasks.rest.problems.ProblemMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.common.CommonMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]

STATIC_URL = "static/"
# Served from the installed packages, without collectstatic.
WHITENOISE_USE_FINDERS = True
STORAGES = {
    "default": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": BASE_DIR / TASK_FILES_ROOT, "allow_overwrite": True},
    },
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_PARSER_CLASSES": [
        "tasks.rest.parsers.JSONParser",
        "tasks.rest.parsers.FormParser",
        "tasks.rest.parsers.MultiPartParser",
    ],
    "DEFAULT_RENDERER_CLASSES": [
        "tasks.rest.renderers.JSONRenderer",
        "tasks.rest.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "tasks.rest.negotiation.ContentNegotiation",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "tasks.rest.problems.exception_handler",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "Tasks",
    "DESCRIPTION": "Start long work, get an immediate response, ask for the result later.",
    "VERSION": "0.1.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_PUBLIC": True,
    "SERVE_INCLUDE_SCHEMA": False,
    "PREPROCESSING_HOOKS": ["tasks.rest.schema.without_trailing_slash"],
    "COMPONENT_SPLIT_REQUEST": True,  # so that minLength is in the request
    "POSTPROCESSING_HOOKS": ["tasks.rest.schema.with_links"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"tasks": {"handlers": ["console"], "level": "INFO"}},
}
