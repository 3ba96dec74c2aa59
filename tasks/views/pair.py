"""The pair of each kind: create a task, then poll, follow or cancel it."""

from typing import Any
from uuid import uuid4

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix
from rest_framework.request import Request
from rest_framework.response import Response

from tasks import service
from tasks.dispatch import get_dispatcher
from tasks.entry import TaskEntry
from tasks.kinds.base import TaskPayload
from tasks.registry import get_registry
from tasks.rest import events, headers, parameters
from tasks.rest.schema import KindSchema, Operation
from tasks.serializers import represent
from tasks.serving.suspend import RESUMED, EventStream, SuspendedResponse
from tasks.views.base import KindView, StreamableView, parse_task_id
from tasks.waiting import Subscription


class CreateView(KindView):
    """Start a task."""

    schema = KindSchema(
        post=Operation(
            name="create",
            status=201,
            response="The new entry.",
            parameters=(parameters.IDEMPOTENCY_KEY, parameters.PREFER, parameters.WAIT),
            response_headers=(
                parameters.LOCATION,
                parameters.ETAG,
                parameters.POLL_AFTER,
                parameters.PREFERENCE_APPLIED,
                parameters.IDEMPOTENT_REPLAYED,
            ),
            problems=(400, 403, 406, 413, 415, 422, 503),
        )
    )

    def post(self, request: Request) -> HttpResponseBase:
        """Start a task. The server responds immediately with the `pending` entry; `Location` is the path to poll.

        With `Prefer: wait=N` it responds once the task has ended, or after N seconds. A request with an
        `Idempotency-Key` can be sent again: it starts no second task.
        """
        wait = headers.Wait.of(request)  # refuses a malformed one before anything is stored
        resumed: SuspendedResponse | None = request.META.get(RESUMED)
        if resumed is None:
            new_id, payload = uuid4(), request.data
            key = headers.idempotency_key(request)
            entry = service.create(self.kind, payload, idempotency_key=key, task_id=new_id)
            is_replay = entry.id != new_id
        else:
            task_id, is_replay = resumed.state
            entry = get_registry().get(task_id)
        if is_replay:
            self.headers["Idempotent-Replayed"] = "true"
        self.headers["Location"] = f"{get_script_prefix()}{self.kind.poll_path(entry.id)}"
        entry = self.wait(request, wait, entry, _has_ended, state=(entry.id, is_replay))
        return _response(entry, 201)

    def get_serializer(self, *args: Any, **kwargs: Any) -> TaskPayload:
        """The form of the browsable API."""
        return self.kind.payload(*args, **kwargs)

    def get_view_name(self) -> str:
        return f"Create {self.kind.name}"


class PollView(StreamableView, KindView):
    """The state of a task."""

    schema = KindSchema(
        get=Operation(
            name="poll",
            status=200,
            response="The entry.",
            parameters=(parameters.PREFER, parameters.WAIT, parameters.IF_NONE_MATCH, parameters.LAST_EVENT_ID),
            response_headers=(parameters.ETAG, parameters.POLL_AFTER, parameters.PREFERENCE_APPLIED),
            empty_responses={
                204: "The resumed stream of events has no further ones.",
                304: "The entry still has the version that `If-None-Match` names.",
            },
            has_stream=True,
            problems=(400, 404, 406, 410),
        ),
        delete=Operation(
            name="cancel",
            status=200,
            response="The entry, now `cancelled`.",
            response_headers=(parameters.ETAG,),
            problems=(400, 404, 406, 409, 410),
        ),
    )

    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """The whole entry, as it is now. Its `status` is `pending` until the work ends.

        With `Prefer: wait=N` or `?wait=N` the server responds once the task has ended, or has another version than
        `If-None-Match` names, or after N seconds. With `Accept: text/event-stream` the response is a stream of
        events: the entry now and at each change, until the task ends.
        """
        entry = service.get(self.kind, parse_task_id(task_id))
        meta = request.META
        if isinstance(request.accepted_renderer, events.EventStreamRenderer):
            return _events(request, entry)
        if "HTTP_IF_NONE_MATCH" in meta or "HTTP_PREFER" in meta or meta["QUERY_STRING"]:
            return self._conditional(request, entry)
        return _response(entry)

    def delete(self, request: Request, task_id: str) -> Response:
        """Cancel the task: its entry is `cancelled` immediately and for good, then its work is stopped."""
        return _response(service.cancel(self.kind, parse_task_id(task_id)))

    def _conditional(self, request: Request, entry: TaskEntry) -> HttpResponseBase:
        def is_known(entry: TaskEntry) -> bool:
            return headers.knows(request, _etag(entry))

        def is_news(entry: TaskEntry) -> bool:
            return entry.ended or ("HTTP_IF_NONE_MATCH" in request.META and not is_known(entry))

        entry = self.wait(request, headers.Wait.of(request), entry, is_news, state=None)
        return HttpResponseNotModified(headers=_headers(entry)) if is_known(entry) else _response(entry)

    def get_view_name(self) -> str:
        return f"Poll {self.kind.name}"


def _response(entry: TaskEntry, status: int = 200) -> Response:
    return Response(represent(entry), status, headers=_headers(entry))


def _headers(entry: TaskEntry) -> dict[str, str]:
    fields = {"ETag": _etag(entry), "Cache-Control": "no-store"}
    if not entry.ended:
        fields["Retry-After"] = str(get_dispatcher().retry_after(entry))
    return fields


def _etag(entry: TaskEntry) -> str:
    return f'"{entry.version}"'


def _has_ended(entry: TaskEntry) -> bool:
    return entry.ended


def _events(request: Request, entry: TaskEntry) -> HttpResponseBase:
    known = headers.last_event_id(request)
    if entry.ended and known == entry.version:
        no_more = HttpResponse(status=204, headers={"Cache-Control": "no-store"})
        del no_more["Content-Type"]
        return no_more  # an EventSource then stops reconnecting
    subscription = Subscription.within_limit(entry.id)
    if subscription is None:
        return EventStream(request, None, events.refused(None if known == entry.version else entry))
    return EventStream(request, subscription, events.of_task(subscription, entry.id, known))
