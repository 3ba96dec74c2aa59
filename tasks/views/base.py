"""The parts that several endpoints share."""

import re
from typing import Any
from uuid import UUID

from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks.entry import TaskEntry
from tasks.kinds.base import TaskKind
from tasks.registry import get_registry
from tasks.rest.events import EventStreamRenderer
from tasks.rest.headers import Wait
from tasks.serving.suspend import RESUMED, Suspend, suspend
from tasks.waiting import IsNews, Subscription, until

# Parsers keep no state, so every request shares them.
_parsers = [parser() for parser in APIView.parser_classes]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class FixedMediaTypeView(APIView):
    """An endpoint with one media type; `Accept` decides only how an error looks."""

    def perform_content_negotiation(self, request: Any, force: bool = True) -> Any:  # noqa: FBT001, FBT002 - DRF gives the signature
        return super().perform_content_negotiation(request, force=True)


class KindView(APIView):
    """An endpoint of one kind of task: `as_view(kind=...)`."""

    kind: TaskKind = None  # type: ignore[assignment]  # as_view gives it

    @property
    def default_response_headers(self) -> dict[str, str]:
        # REST framework would also look up, for each response, which methods to name in `Allow`.
        return {"Vary": "Accept"}

    def get_parsers(self) -> list[Any]:
        return _parsers

    def handle_exception(self, exc: Exception) -> Any:
        """REST framework's hook: a suspended request gets its placeholder, and an error its problem."""
        return exc.response if isinstance(exc, Suspend) else super().handle_exception(exc)

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        response: Response = super().options(request, *args, **kwargs)
        response["Allow"] = ", ".join(self.allowed_methods)
        return response

    def wait(self, request: Request, wait: Wait | None, entry: TaskEntry, is_news: IsNews, state: Any) -> TaskEntry:
        """The entry, once there is news of it, if the client wants to wait and the waiter limit admits it.

        Raises Suspend where the server does the waiting; `state` is then there for the resumed request.
        """
        if wait is None:
            return entry
        if RESUMED not in request.META and not is_news(entry):
            subscription = Subscription.within_limit(entry.id)
            if subscription is None:
                return entry
            suspend(request.META, subscription, until(subscription, entry.id, is_news, wait.seconds), state)
            entry = get_registry().get(entry.id)
        self.headers |= wait.headers
        return entry


class StreamableView(APIView):
    """An endpoint that a client can read, or follow as a stream of events by a GET."""

    renderer_classes = [*APIView.renderer_classes, EventStreamRenderer]

    def get_renderers(self) -> list[Any]:
        renderers = super().get_renderers()
        if self.request is None or self.request.method in {"GET", "HEAD"}:  # the schema has no request
            return renderers
        return [renderer for renderer in renderers if not isinstance(renderer, EventStreamRenderer)]


def parse_task_id(text: str) -> UUID:
    """The id in a URL. Raises ParseError."""
    # UUID would also accept braces, a urn and hyphens anywhere.
    if not _UUID.fullmatch(text):
        raise ParseError("Give the id as a UUID, as in 2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52.")
    return UUID(text)
