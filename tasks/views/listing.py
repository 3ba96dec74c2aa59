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
from tasks.rest.pagination import page
from tasks.rest.schema import ListSchema, Operation
from tasks.serializers import represent
from tasks.serving.suspend import EventStream
from tasks.views.base import StreamableView
from tasks.waiting import Subscription


class TasksView(StreamableView):
    """All tasks, newest first."""

    schema = ListSchema(
        get=Operation(name="list_tasks", status=200, response="A page.", has_stream=True, problems=(400, 406))
    )

    def get(self, request: Request) -> HttpResponseBase:
        """Tasks of all kinds, newest first, a page at a time: `next` leads to older ones.

        With `Accept: text/event-stream` the response is a stream of events without end: the entry of each task that
        is created or changes from now on. The event `reload` means that some changes were left out.
        """
        if isinstance(request.accepted_renderer, events.EventStreamRenderer):
            subscription = Subscription.within_limit()
            steps = events.refused(None) if subscription is None else events.of_all(subscription)
            return EventStream(request, subscription, steps)
        kind = _choice(request, "kind", get_kinds())
        status = _choice(request, "status", [status.value for status in Status])
        found = page(request, partial(get_registry().page, kind=kind, status=Status(status) if status else None))
        found["results"] = list(map(represent, found["results"]))
        return Response(found, headers={"Cache-Control": "no-store"})


def _choice(request: Request, name: str, choices: Collection[str]) -> str | None:
    chosen: str | None = request.query_params.get(name)
    if chosen is not None and chosen not in choices:
        raise ParseError(f"Give `{name}` as one of {', '.join(choices)}, or omit it.")
    return chosen
