import os
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "taskproject.settings")

application: Callable[..., Any] = get_wsgi_application()

if os.name == "posix" and not settings.HAS_DATABASE:
    from tasks.serving.single_process import SingleProcessGuard

    application = SingleProcessGuard(application)
