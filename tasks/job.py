"""What the code of a kind is handed: its task, and the ways to report on it."""

from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks.entry import TaskEntry
from tasks.json_value import readable
from tasks.registry import get_registry

MESSAGE_LENGTH = 200


class Job:
    """One attempt at one task, as its code sees it."""

    __slots__ = ("_kind", "attempt", "id", "name")

    def __init__(self, entry: TaskEntry) -> None:
        self.id: UUID = entry.id
        self.name: str = entry.name
        self.attempt: int = entry.attempt
        self._kind = entry.kind

    def progress(self, percent: float, message: str = "") -> None:
        """Show in the entry how far the work is: 0 to 100, never backwards, with a word about what is done."""
        get_registry().change(
            self.id,
            lambda entry: entry.progressed(self.attempt, int(percent), readable(message, MESSAGE_LENGTH)),
        )

    def save_file(self, content: str | bytes, suffix: str) -> str:
        """Store the task's result file as `<kind>_<id><suffix>`, in place of an earlier one; return that name.

        The entry shows it as `file_path` once the task is completed. `suffix` begins with a dot, as in ".json".
        """
        file_name = f"{self._kind}_{self.id}{suffix}"
        # Recorded before it is written: whatever happens to this process, the file can be found and deleted.
        get_registry().change(self.id, lambda entry: entry.storing(self.attempt, file_name))
        stored = default_storage.save(file_name, ContentFile(content))
        if stored != file_name:
            default_storage.delete(stored)
            raise OSError(f"The storage kept {file_name} as {stored}; set it to overwrite files.")
        return file_name
