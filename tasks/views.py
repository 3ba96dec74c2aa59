"""The endpoints: validate, call, answer."""

import re
import uuid
from typing import Any

from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import render
from django.urls import get_script_prefix
from drf_spectacular.utils import OpenApiParameter, extend_schema
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks.dispatcher import get_dispatcher
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull, TaskNotFound
from tasks.kinds.base import TaskKind, TaskPayload
from tasks.metrics import exposition
from tasks.registry import get_registry
from tasks.rest.renderers import PROBLEM_MEDIA_TYPE
from tasks.rest.schema import KindSchema, Operation, ProblemSerializer
from tasks.serializers import EntrySerializer

_RETRY_AFTER = "1"
_entry = EntrySerializer()


class KindView(APIView):
    """An endpoint of one kind of task: `as_view(kind=...)`."""

    kind: TaskKind = None  # type: ignore[assignment]  # as_view gives it

    @property
    def default_response_headers(self) -> dict[str, str]:
        # REST framework would also look up, for each answer, which methods to name in `Allow`.
        return {"Vary": "Accept"}


class CreateView(KindView):
    """Start a task."""

    schema = KindSchema(
        post=Operation(
            name="create",
            status=201,
            headers={
                "Location": "Where to poll the task.",
                "Retry-After": "In how many seconds a poll may have news.",
            },
            problems=(400, 403, 406, 413, 415, 503),
        )
    )

    def post(self, request: Request) -> Response:
        """Start a task. The answer comes at once: the new entry, `pending`, and in `Location` where to poll it."""
        entry = self.kind.new_entry(request.data)
        registry = get_registry()
        registry.add(entry)
        try:
            get_dispatcher().dispatch(entry)
        except DispatcherFull:
            registry.remove(entry.id)
            raise
        location = f"{get_script_prefix()}poll-{entry.kind}/{entry.id}"
        return Response(
            _entry.to_representation(entry), 201, headers={"Location": location, "Retry-After": _RETRY_AFTER}
        )

    def get_serializer(self, *args: Any, **kwargs: Any) -> TaskPayload:
        """What the browsable API makes its form from."""
        return self.kind.payload(*args, **kwargs)

    def get_view_name(self) -> str:
        return f"Create {self.kind.name}"


class PollView(KindView):
    """How a task stands."""

    schema = KindSchema(
        get=Operation(
            name="poll",
            status=200,
            headers={"Retry-After": "In how many seconds a poll may have news; only while the task is pending."},
            problems=(400, 404, 406, 410),
        ),
        delete=Operation(name="cancel", status=200, headers={}, problems=(400, 404, 406, 409, 410)),
    )

    def get(self, request: Request, task_id: str) -> Response:
        """The whole entry, as it is now. Its `status` is `pending` until the work ends."""
        entry = self._entry(task_id)
        headers = {"Cache-Control": "no-store"}
        if not entry.ended:
            headers["Retry-After"] = _RETRY_AFTER
        return Response(_entry.to_representation(entry), headers=headers)

    def delete(self, request: Request, task_id: str) -> Response:
        """Cancel the task: its entry is `cancelled` at once and for good, then its work is stopped."""
        entry = get_registry().change(self._entry(task_id).id, TaskEntry.cancelled)
        get_dispatcher().cancel(entry)
        return Response(_entry.to_representation(entry), headers={"Cache-Control": "no-store"})

    def _entry(self, task_id: str) -> TaskEntry:
        entry = get_registry().get(_uuid(task_id))
        if entry.kind != self.kind.name:
            raise TaskNotFound
        return entry

    def get_view_name(self) -> str:
        return f"Poll {self.kind.name}"


class OwnTypeView(APIView):
    """What has the one media type that it has; what `Accept` decides is how an error looks."""

    def perform_content_negotiation(self, request: Request, force: bool = True) -> Any:  # noqa: FBT001, FBT002 - DRF gives the signature
        return super().perform_content_negotiation(request, force=True)


class FileView(OwnTypeView):
    """The result file of a completed task."""

    @extend_schema(
        operation_id="get_file",
        tags=["files"],
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, pattern="^[^/]+$")],
        responses={(200, "*/*"): bytes, (404, PROBLEM_MEDIA_TYPE): ProblemSerializer},
    )
    def get(self, request: Request, name: str) -> FileResponse:
        """The file, under the name that the entry's `file_path` gives."""
        # Only a name that a completed entry gives is ever opened, so that no name can lead out of the root.
        task_id = re.search(r"_([0-9a-f-]{36})\.", name)
        try:
            entry = get_registry().get(_uuid(task_id[1])) if task_id else None
            if entry is None or entry.file_path != f"files/{name}":
                raise Http404
            content = default_storage.open(name)
        except (TaskNotFound, FileNotFoundError, ParseError) as error:
            raise Http404 from error
        response = FileResponse(content, filename=name)
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response


class PageView(OwnTypeView):
    """The page that shows the tasks live."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        response = render(request, "tasks/page.html")
        response["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return response


class MetricsView(OwnTypeView):
    """What a monitoring system reads."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """The metrics of this process, in the text format of Prometheus."""
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


class NotFoundView(APIView):
    """Every address that nothing else answers."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404


def _uuid(text: str) -> uuid.UUID:
    try:
        task_id = uuid.UUID(text)
    except ValueError:
        task_id = None
    # uuid.UUID also takes braces, a urn and hyphens anywhere.
    if task_id is None or text.lower() != str(task_id):
        raise ParseError("Give the id as a UUID, as in 2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52.")
    return task_id
