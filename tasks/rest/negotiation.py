"""Which renderer answers: a shortcut for the common `Accept` headers, and REST framework's rules for all others."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

_ANYTHING = {None, "*/*", "application/json"}


class ContentNegotiation(DefaultContentNegotiation):
    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        first, *_ = renderers
        meta = request.META
        if first.media_type == "application/json" and meta.get("HTTP_ACCEPT") in _ANYTHING and not meta["QUERY_STRING"]:
            return first, "application/json"
        chosen: tuple[Any, str] = super().select_renderer(request, renderers, format_suffix)
        return chosen
