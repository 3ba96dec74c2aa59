"""Triggers that tell of each change of an entry, whoever makes it."""

from typing import Any

from django.db import migrations

_POSTGRESQL = (
    """
    CREATE FUNCTION tasks_database_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            PERFORM pg_notify('tasks_changed', OLD.id || ' removed');
        ELSE
            PERFORM pg_notify('tasks_changed', NEW.id || ' ' || NEW.status);
        END IF;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER tasks_database_added AFTER INSERT ON tasks_database_task
    FOR EACH ROW EXECUTE FUNCTION tasks_database_tell()
    """,
    """
    CREATE TRIGGER tasks_database_changed AFTER UPDATE ON tasks_database_task
    FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION tasks_database_tell()
    """,
    """
    CREATE TRIGGER tasks_database_removed AFTER DELETE ON tasks_database_task
    FOR EACH ROW WHEN (OLD.expires_at IS NULL) EXECUTE FUNCTION tasks_database_tell()
    """,
)
_POSTGRESQL_BACK = (
    "DROP TRIGGER tasks_database_added ON tasks_database_task",
    "DROP TRIGGER tasks_database_changed ON tasks_database_task",
    "DROP TRIGGER tasks_database_removed ON tasks_database_task",
    "DROP FUNCTION tasks_database_tell",
)
# SQLite can tell nobody, so the changes are listed, the latest 10,000 of them.
_SQLITE = (
    "CREATE TABLE tasks_database_change (id INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT, status TEXT)",
    """
    CREATE TRIGGER tasks_database_listed AFTER INSERT ON tasks_database_change
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


def _tell(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, _POSTGRESQL, _SQLITE)


def _tell_no_more(apps: Any, schema_editor: Any) -> None:
    _execute(schema_editor, _POSTGRESQL_BACK, _SQLITE_BACK)


def _execute(schema_editor: Any, postgresql: tuple[str, ...], sqlite: tuple[str, ...]) -> None:
    for statement in postgresql if schema_editor.connection.vendor == "postgresql" else sqlite:
        schema_editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = [("tasks_database", "0001_initial")]
    operations = [migrations.RunPython(_tell, _tell_no_more)]
