"""All tasks: a page at a time, or as they change."""

from collections.abc import Collection
from functools import partial

from django.http.response import HttpResponseBase
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from tasks.entry import Status
from tasks.kinds import get_kinds
from tasks.registry import get_registry
from tasks.rest import events
from tasks.rest.held import EventStream
from tasks.rest.pagination import page
from tasks.rest.schema import ListSchema, Operation
from tasks.serializers import EntrySerializer
from tasks.views.base import FollowedView
from tasks.waiting import Watcher

_entry = EntrySerializer()


class TasksView(FollowedView):
    """All tasks, newest first."""

    schema = ListSchema(
        get=Operation(name="list_tasks", status=200, answer="A page.", streams=True, problems=(400, 406))
    )

    def get(self, request: Request) -> HttpResponseBase:
        """Tasks of all kinds, newest first, a page at a time: `next` leads to older ones.

        With `Accept: text/event-stream` it is a stream of events without end: the entry of each task that is created
        or changes from now on. The event `reload` says that some were left out.
        """
        if isinstance(request.accepted_renderer, events.EventStreamRenderer):
            watcher = Watcher.of()
            return EventStream(request, watcher, events.no_place(None) if watcher is None else events.of_all(watcher))
        kind = _choice(request, "kind", get_kinds())
        status = _choice(request, "status", [status.value for status in Status])
        found = page(request, partial(get_registry().page, kind=kind, status=Status(status) if status else None))
        found["results"] = [_entry.to_representation(entry) for entry in found["results"]]
        return Response(found, headers={"Cache-Control": "no-store"})


def _choice(request: Request, name: str, choices: Collection[str]) -> str | None:
    chosen: str | None = request.query_params.get(name)
    if chosen is not None and chosen not in choices:
        raise ParseError(f"Give `{name}` as one of {', '.join(choices)}, or leave it out.")
    return chosen
