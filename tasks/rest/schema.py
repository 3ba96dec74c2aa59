"""OpenAPI 3.1: the typed request and responses of each endpoint, from its kind and from the Operations of its view."""

import functools
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

from drf_spectacular import openapi
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers

from tasks.entry import Status
from tasks.kinds import get_kinds
from tasks.kinds.base import TaskKind
from tasks.rest import parameters
from tasks.serializers import EntrySerializer, PageSerializer, ProblemSerializer
from tasks.utils.lazy import Lazy
from tasks.utils.problem import MEDIA_TYPE


@dataclass(frozen=True)
class Operation:
    """A method of an endpoint: its successful response, its parameters and response headers, and its problems.

    `empty_responses` describes each further status, whose response has no body. With `has_stream` the response can
    also be a stream of events.
    """

    name: str
    status: int
    response: str
    parameters: tuple[OpenApiParameter, ...] = ()
    response_headers: tuple[OpenApiParameter, ...] = ()
    empty_responses: dict[int, str] = field(default_factory=dict)
    has_stream: bool = False
    problems: tuple[int, ...] = ()


class OperationSchema(openapi.AutoSchema):
    """Describes an endpoint by the Operation of each method; a subclass knows the `serializer` of its response."""

    def __init__(self, **operations: Operation) -> None:
        super().__init__()
        self._operations = operations

    @property
    def operation(self) -> Operation:
        return self._operations[self.method.lower()]

    @property
    def serializer(self) -> Any:
        raise NotImplementedError

    def get_operation_id(self) -> str:
        return self.operation.name

    def get_summary(self) -> str:
        return self.operation.name.replace("_", " ").capitalize()

    def get_request_serializer(self) -> Any:
        return None

    def map_parsers(self) -> list[Any]:
        # Forms are for this server's own pages; a generated client would have to choose.
        return ["application/json"]

    def get_override_parameters(self) -> list[Any]:
        operation = self.operation
        statuses = [operation.status, *({304} & set(operation.empty_responses))]
        # `?format=` is for people with a browser.
        described = [OpenApiParameter("format", exclude=True), *operation.parameters]
        described += [parameters.in_responses(header, statuses) for header in operation.response_headers]
        if HTTPStatus.SERVICE_UNAVAILABLE in operation.problems:
            described.append(parameters.in_responses(parameters.RETRY_AFTER, [HTTPStatus.SERVICE_UNAVAILABLE]))
        return described

    def get_response_serializers(self) -> Any:
        operation = self.operation
        response = OpenApiResponse(self.serializer, description=operation.response)
        responses: dict[Any, Any] = {(operation.status, "application/json"): response}
        if operation.has_stream:
            responses[operation.status, "text/event-stream"] = OpenApiTypes.STR
        for status, text in operation.empty_responses.items():
            responses[status] = OpenApiResponse(description=text)
        for status in operation.problems:
            phrase = HTTPStatus(status).phrase
            responses[status, MEDIA_TYPE] = OpenApiResponse(ProblemSerializer, description=f"{phrase}.")
        return responses


class ListSchema(OperationSchema):
    """Describes the list of all tasks."""

    serializer = PageSerializer

    def get_tags(self) -> list[str]:
        return ["tasks"]

    def get_override_parameters(self) -> list[Any]:
        statuses = [status.value for status in Status]
        return [
            *super().get_override_parameters(),
            OpenApiParameter("kind", str, enum=list(get_kinds()), description="Only tasks of this kind."),
            OpenApiParameter("status", str, enum=statuses, description="Only tasks with this status."),
            parameters.CURSOR,
        ]


class KindSchema(OperationSchema):
    """Describes an endpoint that has a `kind`."""

    @property
    def _kind(self) -> TaskKind:
        return cast("TaskKind", getattr(self.view, "kind"))  # noqa: B009 - an APIView has none for mypy

    @property
    def serializer(self) -> Any:
        return _entry_serializer(self._kind)

    def get_operation_id(self) -> str:
        return _operation_id(self.operation.name, self._kind)

    def get_summary(self) -> str:
        return f"{self.operation.name.title()} {self._kind.name}"

    def get_tags(self) -> list[str]:
        return [self._kind.name]

    def get_override_parameters(self) -> list[Any]:
        described = super().get_override_parameters()
        if "{task_id}" in self.path:
            uuid = {"type": "string", "format": "uuid"}
            described.append(OpenApiParameter("task_id", uuid, OpenApiParameter.PATH))
        return described

    def get_request_serializer(self) -> Any:
        return self._kind.payload if self.method == "POST" else None


class CachedSchemaGenerator(SchemaGenerator):
    """Makes the schema at its first use, since it follows from the kinds alone."""

    def get_schema(self, *_: Any, **__: Any) -> Any:
        return _get_schema()


_get_schema = Lazy(lambda: SchemaGenerator().get_schema(public=True))  # type: ignore[no-untyped-call]  # the library has no types here


def without_trailing_slash(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook: name each path as clients use it."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def with_links(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: link the response of each create to the poll and the cancel of the task."""
    for kind in get_kinds().values():
        links = {
            name: {"operationId": _operation_id(name, kind), "parameters": {"task_id": "$response.body#/id"}}
            for name in ("poll", "cancel")
        }
        result["paths"][f"/{kind.create_path}"]["post"]["responses"]["201"]["links"] = links
    return result


def _operation_id(name: str, kind: TaskKind) -> str:
    return f"{name}_{kind.name}".replace("-", "_")


@functools.cache
def _entry_serializer(kind: TaskKind) -> type[EntrySerializer]:
    """The entry's serializer, with the kind's own name and input in it."""
    words = "".join(word.title() for word in kind.name.split("-"))
    fields = {name: field for name, field in kind.payload().fields.items() if name != "name"}
    typed: dict[str, Any] = {"kind": serializers.ChoiceField([kind.name])}
    if fields:
        typed["input"] = type(f"{words}InputSerializer", (serializers.Serializer,), fields)()
    return type(f"{words}EntrySerializer", (EntrySerializer,), typed)
