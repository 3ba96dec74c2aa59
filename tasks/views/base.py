"""What several endpoints need."""

from typing import Any
from uuid import UUID

from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks.entry import TaskEntry
from tasks.kinds.base import TaskKind
from tasks.registry import get_registry
from tasks.rest import headers
from tasks.rest.events import EventStreamRenderer
from tasks.rest.held import RESUMED, Held, hold
from tasks.waiting import IsNews, Watcher, until


class OwnTypeView(APIView):
    """What has the one media type that it has; what `Accept` decides is how an error looks."""

    def perform_content_negotiation(self, request: Any, force: bool = True) -> Any:  # noqa: FBT001, FBT002 - DRF gives the signature
        return super().perform_content_negotiation(request, force=True)


class KindView(APIView):
    """An endpoint of one kind of task: `as_view(kind=...)`."""

    kind: TaskKind = None  # type: ignore[assignment]  # as_view gives it

    @property
    def default_response_headers(self) -> dict[str, str]:
        # REST framework would also look up, for each answer, which methods to name in `Allow`.
        return {"Vary": "Accept"}

    def hold(self, request: Request, entry: TaskEntry, is_news: IsNews, state: Any = None) -> Held | TaskEntry:
        """The entry, once there is news of it, if the client asked to wait for that and one more may wait.

        Where the server does the waiting it is what to give to that server, with the `state` for the resumption.
        """
        seconds = headers.wait_seconds(request)
        if seconds is None:
            return entry
        if RESUMED not in request.META and not is_news(entry):
            watcher = Watcher.of(entry.id)
            if watcher is None:
                return entry
            held = hold(request, watcher, until(watcher, entry.id, is_news, seconds), state)
            if held is not None:
                return held
            entry = get_registry().get(entry.id)
        self.headers |= headers.applied(request, seconds)
        return entry


class FollowedView(APIView):
    """What a client can read, or follow as a stream of events; nothing but a GET is answered by such a stream."""

    renderer_classes = [*APIView.renderer_classes, EventStreamRenderer]

    def get_renderers(self) -> list[Any]:
        renderers = super().get_renderers()
        if self.request is None or self.request.method in {"GET", "HEAD"}:  # the schema has no request
            return renderers
        return [renderer for renderer in renderers if not isinstance(renderer, EventStreamRenderer)]


def uuid_of(text: str) -> UUID:
    """The id that a client wrote. Raises ParseError."""
    try:
        task_id = UUID(text)
    except ValueError:
        task_id = None
    # UUID also takes braces, a urn and hyphens anywhere.
    if task_id is None or text.lower() != str(task_id):
        raise ParseError("Give the id as a UUID, as in 2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52.")
    return task_id
