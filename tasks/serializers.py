"""What a client reads: an entry, a page of them, a problem."""

from operator import attrgetter
from typing import Any

from rest_framework import serializers

from tasks.entry import Status, TaskEntry


class ErrorSerializer(serializers.Serializer[Any]):
    code = serializers.CharField(help_text="For programs: stays the same.")
    detail = serializers.CharField(help_text="For people: what went wrong.")


class EntrySerializer(serializers.Serializer[TaskEntry]):
    """A task entry. Timestamps are UTC (RFC 3339)."""

    id = serializers.UUIDField()
    kind = serializers.CharField()
    name = serializers.CharField()
    status = serializers.ChoiceField(
        [status.value for status in Status],
        help_text="`pending` until the work ends, while it waits and while it runs; then how it ended.",
    )
    file_path = serializers.CharField(help_text="Where this server serves the result file; empty while there is none.")
    input = serializers.DictField(help_text="The payload's fields beside `name`.")
    progress = serializers.IntegerField(min_value=0, max_value=100, help_text="Percent.")
    message = serializers.CharField(help_text="What the work was last doing, in its own words.")
    result = serializers.JSONField(help_text="What the work returned.")
    error = ErrorSerializer(allow_null=True, help_text="Why the last attempt failed.")
    attempt = serializers.IntegerField(min_value=0, help_text="How often the work was begun.")
    version = serializers.IntegerField(min_value=1, help_text="Grows by one with each change of the entry.")
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True, help_text="Null while the task waits for a worker.")
    finished_at = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True, help_text="When the ended task will be forgotten.")

    def to_representation(self, instance: TaskEntry) -> dict[str, Any]:
        # The renderer writes UUIDs, dates and frozen records itself, so that nothing is converted here.
        return dict(zip(_NAMES, _values(instance), strict=True))


_NAMES = tuple(EntrySerializer().fields)
_values = attrgetter(*_NAMES)


class ProblemSerializer(serializers.Serializer[Any]):
    """What went wrong (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What to do about it.")
    errors = serializers.DictField(  # type: ignore[assignment]  # no field here is read as Serializer.errors
        required=False, help_text="The messages for each field of a payload."
    )


class PageSerializer(serializers.Serializer[Any]):
    """A page of tasks, newest first."""

    next = serializers.URLField(allow_null=True, help_text="The page of older ones.")
    previous = serializers.URLField(allow_null=True, help_text="The page of newer ones.")
    results = EntrySerializer(many=True)
