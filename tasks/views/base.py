"""What several endpoints need."""

from typing import Any
from uuid import UUID

from rest_framework.exceptions import ParseError
from rest_framework.views import APIView

from tasks.rest.events import EventStreamRenderer


class OwnTypeView(APIView):
    """What has the one media type that it has; what `Accept` decides is how an error looks."""

    def perform_content_negotiation(self, request: Any, force: bool = True) -> Any:  # noqa: FBT001, FBT002 - DRF gives the signature
        return super().perform_content_negotiation(request, force=True)


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
