"""The JSON that a client reads: an entry, a page of entries, a problem."""

from operator import attrgetter
from typing import Any

from rest_framework import serializers

from tasks.entry import Status, TaskEntry


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="A stable code for programs.")
    detail = serializers.CharField(help_text="A sentence for people.")


class EntrySerializer(serializers.Serializer[TaskEntry]):
    """A task entry. Timestamps are UTC (RFC 3339)."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        [status.value for status in Status],
        help_text="`pending` while the task waits or runs, then how it ended.",
    )
    file_path = serializers.CharField(help_text="The path of the result file on this server, or empty.")
    input = serializers.DictField(help_text="The fields of the payload except `name`.")
    progress = serializers.IntegerField(min_value=0, max_value=100, help_text="Percent.")
    message = serializers.CharField(help_text="The latest message of the work.")
    result = serializers.JSONField(help_text="The value that the work returned.")
    error = ErrorSerializer(allow_null=True, help_text="Why the last attempt failed.")
    attempt = serializers.IntegerField(min_value=0, help_text="How many attempts have begun.")
    version = serializers.IntegerField(min_value=1, help_text="Increases by one with each change of the entry.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True, help_text="Null while the task waits for a worker.")
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the server will delete the ended task.")

    def to_representation(self, instance: TaskEntry) -> dict[str, Any]:
        return represent(instance)


_NAMES = tuple(EntrySerializer().fields)
_values = attrgetter(*_NAMES)


def represent(entry: TaskEntry) -> dict[str, Any]:
    """The entry as the renderer takes it, which writes UUIDs, dates and frozen records itself."""
    return dict(zip(_NAMES, _values(entry), strict=True))


class ProblemSerializer(serializers.Serializer[Any]):
    """What went wrong (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="A sentence that says what to do.")
    errors = serializers.DictField(  # type: ignore[assignment]  # nothing reads Serializer.errors here
        required=False, help_text="The messages for each field of a payload."
    )


class PageSerializer(serializers.Serializer[Any]):
    """A page of tasks, newest first."""

    next = serializers.URLField(allow_null=True, help_text="The page of older tasks.")
    previous = serializers.URLField(allow_null=True, help_text="The page of newer tasks.")
    results = EntrySerializer(many=True)
