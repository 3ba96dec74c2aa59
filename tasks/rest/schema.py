"""OpenAPI 3.1: the typed request and answers of each endpoint, from its kind and from what its view says."""

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
from tasks.once import Once
from tasks.rest.renderers import PROBLEM_MEDIA_TYPE
from tasks.serializers import EntrySerializer, PageSerializer, ProblemSerializer

_FULL = 503
_WHOLE_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
# What a request can ask for, and what an answer can tell, beside its body.
_ASKED = {
    "Prefer": OpenApiParameter(
        "Prefer",
        str,
        OpenApiParameter.HEADER,
        description="`wait=N` holds the answer for N seconds at most, until there is news (RFC 7240).",
    ),
    "wait": OpenApiParameter("wait", _WHOLE_NUMBER, description="The same as `Prefer: wait=N`."),
    "If-None-Match": OpenApiParameter(
        "If-None-Match",
        str,
        OpenApiParameter.HEADER,
        description="The ETag that is known: anything else is news.",
    ),
    "Last-Event-ID": OpenApiParameter(
        "Last-Event-ID", str, OpenApiParameter.HEADER, description="Resume a stream of events after this one."
    ),
    "Idempotency-Key": OpenApiParameter(
        "Idempotency-Key",
        str,
        OpenApiParameter.HEADER,
        description="A name for this request, so that it starts one task however often it is sent.",
    ),
}
_TOLD: dict[str, tuple[Any, str]] = {
    "Location": (str, "Where to poll the task."),
    "ETag": (str, "The version of the entry."),
    "Retry-After": (int, "In how many seconds a poll may have news; only while the task is pending."),
    "Preference-Applied": (str, "The wait that was granted, where `Prefer` asked for one."),
    "Idempotent-Replayed": (str, "`true` where an earlier request with this key has created the task."),
}


@dataclass(frozen=True)
class Operation:
    """What a method of an endpoint does: its `answer`, what it can be asked and can tell, and what can go wrong.

    `otherwise` has what each further status means, which has no body. With `streams` the answer can also be a
    stream of events.
    """

    name: str
    status: int
    answer: str
    asked: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    otherwise: dict[int, str] = field(default_factory=dict)
    streams: bool = False
    problems: tuple[int, ...] = ()


class OperationSchema(openapi.AutoSchema):
    """Describes an endpoint by the Operation of each method."""

    def __init__(self, **operations: Operation) -> None:
        super().__init__()
        self._operations = operations

    @property
    def operation(self) -> Operation:
        return self._operations[self.method.lower()]

    def answer(self) -> Any:
        """The serializer of the answer that is no problem."""
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
        statuses = [operation.status, *({304} & set(operation.otherwise))]
        told = [
            OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=text, response=statuses)
            for name, (kind, text) in _TOLD.items()
            if name in operation.told
        ]
        # `?format=` is for people with a browser.
        without_format = OpenApiParameter("format", exclude=True)
        parameters = [without_format, *(_ASKED[name] for name in operation.asked), *told]
        if _FULL in operation.problems:
            text = "In how many seconds there may be room."
            parameters.append(
                OpenApiParameter("Retry-After", int, OpenApiParameter.HEADER, description=text, response=[_FULL])
            )
        return parameters

    def get_response_serializers(self) -> Any:
        operation = self.operation
        answer = OpenApiResponse(self.answer(), description=operation.answer)
        answers: dict[Any, Any] = {(operation.status, "application/json"): answer}
        if operation.streams:
            answers[operation.status, "text/event-stream"] = OpenApiTypes.STR
        for status, text in operation.otherwise.items():
            answers[status] = OpenApiResponse(description=text)
        for status in operation.problems:
            phrase = HTTPStatus(status).phrase
            answers[status, PROBLEM_MEDIA_TYPE] = OpenApiResponse(ProblemSerializer, description=f"{phrase}.")
        return answers


class ListSchema(OperationSchema):
    """Describes the list of all tasks."""

    def answer(self) -> Any:
        return PageSerializer

    def get_tags(self) -> list[str]:
        return ["tasks"]

    def get_override_parameters(self) -> list[Any]:
        cursor = "Where the page begins: take it from `next` or `previous`."
        return [
            *super().get_override_parameters(),
            OpenApiParameter("kind", str, enum=list(get_kinds()), description="Only tasks of this kind."),
            OpenApiParameter("status", str, enum=[status.value for status in Status], description="Only those."),
            OpenApiParameter("cursor", str, description=cursor),
        ]


class KindSchema(OperationSchema):
    """Describes an endpoint that has a `kind`."""

    @property
    def _kind(self) -> TaskKind:
        return cast("TaskKind", getattr(self.view, "kind"))  # noqa: B009 - an APIView has none for mypy

    def answer(self) -> Any:
        return _entry_of(self._kind)

    def get_operation_id(self) -> str:
        return f"{self.operation.name}_{self._kind.name}".replace("-", "_")

    def get_summary(self) -> str:
        return f"{self.operation.name.title()} {self._kind.name}"

    def get_tags(self) -> list[str]:
        return [self._kind.name]

    def get_override_parameters(self) -> list[Any]:
        parameters = super().get_override_parameters()
        if "{task_id}" in self.path:
            uuid = {"type": "string", "format": "uuid"}
            parameters.append(OpenApiParameter("task_id", uuid, OpenApiParameter.PATH))
        return parameters

    def get_request_serializer(self) -> Any:
        return self._kind.payload if self.method == "POST" else None


class OnceGenerator(SchemaGenerator):
    """Makes the schema at its first use, since it follows from the kinds alone."""

    def get_schema(self, *_: Any, **__: Any) -> Any:
        return _get_schema()


_get_schema = Once(lambda: SchemaGenerator().get_schema(public=True))  # type: ignore[no-untyped-call]  # the library has no types here


def without_trailing_slash(endpoints: list[tuple[str, str, str, Any]], **_: Any) -> list[tuple[str, str, str, Any]]:
    """drf-spectacular's hook: name each path as clients use it."""
    return [(path.rstrip("/"), *rest) for path, *rest in endpoints]


def with_links(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """drf-spectacular's hook: link the answer of each create to what can be done with the task."""
    for kind in get_kinds().values():
        links = {
            name: {
                "operationId": f"{name}_{kind.name}".replace("-", "_"),
                "parameters": {"task_id": "$response.body#/id"},
            }
            for name in ("poll", "cancel")
        }
        result["paths"][f"/create-{kind.name}"]["post"]["responses"]["201"]["links"] = links
    return result


@functools.cache
def _entry_of(kind: TaskKind) -> type[EntrySerializer]:
    """The entry's serializer, with the kind's own name and input in it."""
    words = "".join(word.title() for word in kind.name.split("-"))
    fields = {name: field for name, field in kind.payload().fields.items() if name != "name"}
    typed: dict[str, Any] = {"kind": serializers.ChoiceField([kind.name])}
    if fields:
        typed["input"] = type(f"{words}InputSerializer", (serializers.Serializer,), fields)()
    return type(f"{words}EntrySerializer", (EntrySerializer,), typed)
