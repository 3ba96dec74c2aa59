"""The pair of each kind: create a task, then poll it, follow it or cancel it."""

import threading
from typing import Any

from django.http import HttpResponse, HttpResponseNotModified
from django.http.response import HttpResponseBase
from django.urls import get_script_prefix
from rest_framework.request import Request
from rest_framework.response import Response

from tasks.dispatcher import get_dispatcher
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherFull, IdempotencyKeyReused, TaskNotFound
from tasks.kinds.base import TaskPayload
from tasks.registry import get_registry
from tasks.rest import events, headers
from tasks.rest.held import RESUMED, EventStream, Held
from tasks.rest.schema import KindSchema, Operation
from tasks.serializers import EntrySerializer
from tasks.views.base import FollowedView, KindView, uuid_of
from tasks.waiting import Watcher

_entry = EntrySerializer()
# Held while a task with a key is stored and dispatched, so that nobody is given an entry for which there is no room.
_keyed = threading.Lock()


class CreateView(KindView):
    """Start a task."""

    schema = KindSchema(
        post=Operation(
            name="create",
            status=201,
            answer="The new entry.",
            asked=("Idempotency-Key", "Prefer", "wait"),
            told=("Location", "ETag", "Retry-After", "Preference-Applied", "Idempotent-Replayed"),
            problems=(400, 403, 406, 413, 415, 422, 503),
        )
    )

    def post(self, request: Request) -> HttpResponseBase:
        """Start a task. The answer comes at once: the new entry, `pending`, and in `Location` where to poll it.

        With `Prefer: wait=N` it comes when the task has ended, or after N seconds. With an `Idempotency-Key` the same
        request can be sent again: it starts no second task.
        """
        headers.wait_seconds(request)  # refuse a wrong one before anything is stored
        resumed: Held | None = request.META.get(RESUMED)
        if resumed is None:
            entry, is_replay = self._store(request)
        else:
            task_id, is_replay = resumed.state
            entry = get_registry().get(task_id)
        if is_replay:
            self.headers["Idempotent-Replayed"] = "true"
        self.headers["Location"] = f"{get_script_prefix()}poll-{entry.kind}/{entry.id}"
        held = self.hold(request, entry, _has_ended, state=(entry.id, is_replay))
        return held if isinstance(held, Held) else _answer(held, 201)

    def _store(self, request: Request) -> tuple[TaskEntry, bool]:
        """The entry for this request, and whether an earlier one with its key has made it."""
        entry = self.kind.new_entry(request.data, headers.idempotency_key(request))
        if entry.idempotency_key:
            with _keyed:
                stored = _start(entry)
        else:
            stored = _start(entry)
        return stored, stored.id != entry.id

    def get_serializer(self, *args: Any, **kwargs: Any) -> TaskPayload:
        """What the browsable API makes its form from."""
        return self.kind.payload(*args, **kwargs)

    def get_view_name(self) -> str:
        return f"Create {self.kind.name}"


class PollView(FollowedView, KindView):
    """How a task stands."""

    schema = KindSchema(
        get=Operation(
            name="poll",
            status=200,
            answer="The entry.",
            asked=("Prefer", "wait", "If-None-Match", "Last-Event-ID"),
            told=("ETag", "Retry-After", "Preference-Applied"),
            otherwise={
                204: "The stream of events that is to be resumed has no more.",
                304: "The entry still is as `If-None-Match` says.",
            },
            streams=True,
            problems=(400, 404, 406, 410),
        ),
        delete=Operation(
            name="cancel",
            status=200,
            answer="The entry, now `cancelled`.",
            told=("ETag",),
            problems=(400, 404, 406, 409, 410),
        ),
    )

    def get(self, request: Request, task_id: str) -> HttpResponseBase:
        """The whole entry, as it is now. Its `status` is `pending` until the work ends.

        With `Prefer: wait=N` or `?wait=N` the answer comes when the task has ended, or has another version than
        `If-None-Match` names, or after N seconds. With `Accept: text/event-stream` it is a stream of events: the
        entry at once and at each change, until the task ends.
        """
        entry = self._entry(task_id)
        meta = request.META
        if isinstance(request.accepted_renderer, events.EventStreamRenderer):
            return _events(request, entry)
        if "HTTP_IF_NONE_MATCH" in meta or "HTTP_PREFER" in meta or meta["QUERY_STRING"]:
            return self._conditional(request, entry)
        return _answer(entry)

    def delete(self, request: Request, task_id: str) -> Response:
        """Cancel the task: its entry is `cancelled` at once and for good, then its work is stopped."""
        entry = get_registry().change(self._entry(task_id).id, TaskEntry.cancelled)
        get_dispatcher().cancel(entry)
        return _answer(entry)

    def _conditional(self, request: Request, entry: TaskEntry) -> HttpResponseBase:
        def is_known(entry: TaskEntry) -> bool:
            return headers.knows(request, _etag(entry))

        def is_news(entry: TaskEntry) -> bool:
            return entry.ended or ("HTTP_IF_NONE_MATCH" in request.META and not is_known(entry))

        held = self.hold(request, entry, is_news)
        if isinstance(held, Held):
            return held
        return HttpResponseNotModified(headers=_headers(held)) if is_known(held) else _answer(held)

    def _entry(self, task_id: str) -> TaskEntry:
        entry = get_registry().get(uuid_of(task_id))
        if entry.kind != self.kind.name:
            raise TaskNotFound
        return entry

    def get_view_name(self) -> str:
        return f"Poll {self.kind.name}"


def _start(entry: TaskEntry) -> TaskEntry:
    """Store and dispatch the entry; or return the one that has its key. Raises IdempotencyKeyReused."""
    registry = get_registry()
    stored = registry.add(entry)
    if stored.id != entry.id:
        if not stored.asks_the_same(entry):
            raise IdempotencyKeyReused
        return stored
    try:
        get_dispatcher().dispatch(entry)
    except DispatcherFull:
        if entry.idempotency_key and registry.is_shared:
            # Another process may have answered with it by now, so that it has to be done.
            registry.release([entry.id])
        else:
            registry.remove(entry.id)
            raise
    return entry


def _answer(entry: TaskEntry, status: int = 200) -> Response:
    return Response(_entry.to_representation(entry), status, headers=_headers(entry))


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
        return no_more  # which tells an EventSource not to come again
    watcher = Watcher.of(entry.id)
    if watcher is None:
        return EventStream(request, None, events.no_place(None if known == entry.version else entry))
    return EventStream(request, watcher, events.of_task(watcher, entry.id, known))
