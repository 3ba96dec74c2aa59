from django.apps import AppConfig

from tasks import checks  # noqa: F401 - which registers itself
from tasks.kinds import get_kinds


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        get_kinds()  # a kind that cannot work stops the start
