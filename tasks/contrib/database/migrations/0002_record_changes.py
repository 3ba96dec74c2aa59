"""On SQLite, triggers record each change of an entry. On PostgreSQL the processes notify each other."""

from typing import Any

from django.db import migrations

# The latest 10,000 are kept.
_SQLITE = (
    "CREATE TABLE tasks_database_change (id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT, status TEXT)",
    """
    CREATE TRIGGER tasks_database_trimmed AFTER INSERT ON tasks_database_change
    BEGIN
        DELETE FROM tasks_database_change WHERE id <= NEW.id - 10000;
    END
    """,
    """
    CREATE TRIGGER tasks_database_added AFTER INSERT ON tasks_database_task
    BEGIN
        INSERT INTO tasks_database_change (task_id, status) VALUES (NEW.id, NEW.status);
    END
    """,
    """
    CREATE TRIGGER tasks_database_changed AFTER UPDATE ON tasks_database_task WHEN OLD.version <> NEW.version
    BEGIN
        INSERT INTO tasks_database_change (task_id, status) VALUES (NEW.id, NEW.status);
    END
    """,
    """
    CREATE TRIGGER tasks_database_removed AFTER DELETE ON tasks_database_task WHEN OLD.expires_at IS NULL
    BEGIN
        INSERT INTO tasks_database_change (task_id, status) VALUES (OLD.id, 'removed');
    END
    """,
)
_SQLITE_BACK = (
    "DROP TRIGGER tasks_database_added",
    "DROP TRIGGER tasks_database_changed",
    "DROP TRIGGER tasks_database_removed",
    "DROP TABLE tasks_database_change",
)


def _create_triggers(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, _SQLITE)


def _remove_triggers(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, _SQLITE_BACK)


def _execute(schema_editor: Any, statements: tuple[str, ...]) -> None:
    if schema_editor.connection.vendor == "sqlite":
        for statement in statements:
            schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("tasks_database", "0001_initial")]
    operations = [migrations.RunPython(_create_triggers, _remove_triggers)]
