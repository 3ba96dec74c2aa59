from django.apps import AppConfig


class DatabaseConfig(AppConfig):
    name = "tasks.contrib.database"
    label = "tasks_database"
    verbose_name = "Tasks in a database"
