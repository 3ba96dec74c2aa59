"""OpenAPI 3.1: the typed request and answers of each kind's pair, from the kind and from what its view says."""

import functools
from dataclasses import dataclass
from typing import Any, cast

from drf_spectacular import openapi
from drf_spectacular.utils import OpenApiParameter
from rest_framework import serializers

from tasks.kinds.base import TaskKind
from tasks.rest.renderers import PROBLEM_MEDIA_TYPE
from tasks.serializers import EntrySerializer


class ProblemSerializer(serializers.Serializer[Any]):
    """What went wrong (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What to do about it.")
    errors = serializers.DictField(  # type: ignore[assignment]  # no field here is read as Serializer.errors
        required=False, help_text="The messages for each field of a payload."
    )


@dataclass(frozen=True)
class Operation:
    """What a method of an endpoint does: its name, the status and headers of its answer, and what can go wrong."""

    name: str
    status: int
    headers: dict[str, str]
    problems: tuple[int, ...]


class KindSchema(openapi.AutoSchema):
    """Describes an endpoint that has a `kind`, method by method."""

    def __init__(self, **operations: Operation) -> None:
        super().__init__()
        self._operations = operations

    @property
    def _kind(self) -> TaskKind:
        return cast("TaskKind", getattr(self.view, "kind"))  # noqa: B009 - an APIView has none for mypy

    @property
    def _operation(self) -> Operation:
        return self._operations[self.method.lower()]

    def get_operation_id(self) -> str:
        return f"{self._operation.name}_{self._kind.name}".replace("-", "_")

    def get_summary(self) -> str:
        return f"{self._operation.name.title()} {self._kind.name}"

    def get_tags(self) -> list[str]:
        return [self._kind.name]

    def get_override_parameters(self) -> list[Any]:
        status = self._operation.status
        parameters = [
            OpenApiParameter(name, str, OpenApiParameter.HEADER, description=text, response=[status])
            for name, text in self._operation.headers.items()
        ]
        if "{task_id}" in self.path:
            uuid = {"type": "string", "format": "uuid"}
            parameters.append(OpenApiParameter("task_id", uuid, OpenApiParameter.PATH))
        return parameters

    def get_request_serializer(self) -> Any:
        return self._kind.payload if self.method == "POST" else None

    def get_response_serializers(self) -> Any:
        problems = {(status, PROBLEM_MEDIA_TYPE): ProblemSerializer for status in self._operation.problems}
        return {(self._operation.status, "application/json"): _entry_of(self._kind), **problems}


def without_trailing_slash(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook: name each path as clients use it."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


@functools.cache
def _entry_of(kind: TaskKind) -> type[EntrySerializer]:
    """The entry's serializer, with the kind's own name and input in it."""
    words = "".join(word.title() for word in kind.name.split("-"))
    fields = {name: field for name, field in kind.payload().fields.items() if name != "name"}
    typed: dict[str, Any] = {"kind": serializers.ChoiceField([kind.name])}
    if fields:
        typed["input"] = type(f"{words}InputSerializer", (serializers.Serializer,), fields)()
    return type(f"{words}EntrySerializer", (EntrySerializer,), typed)
