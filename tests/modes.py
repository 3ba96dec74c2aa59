"""Where the tasks are kept and done while the tests run: as DATABASE_URL and CELERY_BROKER_URL of their environment say.

Without them, in memory and in threads.
"""

from collections.abc import Callable
from urllib.parse import quote

import pytest
from django.conf import settings
from django.db import connection

from tasks.registry import Registry

HAS_DATABASE = bool(settings.DATABASES)
# A stop in memory fails what others could do where there are any.
alone = pytest.mark.skipif(HAS_DATABASE, reason="DATABASE_URL is set: other processes go on with the tasks")
DATABASE_REGISTRIES: list[Callable[[], Registry]] = []
if HAS_DATABASE:
    from tasks.contrib.database.models import Expired, Holder, Task
    from tasks.contrib.database.registry import DatabaseRegistry

    DATABASE_REGISTRIES.append(DatabaseRegistry)


def empty_database() -> None:
    """Begin with no task; the connections of threads that are gone go, too."""
    if not HAS_DATABASE:
        return
    for model in (Task, Expired, Holder):
        model.objects.all().delete()


def for_servers() -> dict[str, str]:
    """The variables by which a server uses the test database."""
    config = connection.settings_dict
    if connection.vendor == "sqlite":
        return {"DATABASE_URL": f"sqlite:///{config['NAME']}"}
    user = f"{config['USER']}:{quote(config['PASSWORD'])}" if config["PASSWORD"] else config["USER"]
    return {"DATABASE_URL": f"postgresql://{user}@{config['HOST']}:{config['PORT'] or 5432}/{config['NAME']}"}
