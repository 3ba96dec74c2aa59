from django.apps import AppConfig

from tasks.kinds import get_kinds


class TasksConfig(AppConfig):
    name = "tasks"

    def ready(self) -> None:
        from tasks import checks  # noqa: F401, PLC0415 - which registers itself, once there are settings

        get_kinds()  # a kind that cannot work stops the start
