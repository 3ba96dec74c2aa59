"""Responses as JSON, by orjson, and as pages of the browsable API."""

from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework import renderers

from tasks.utils import problem

_OPTIONS = orjson.OPT_UTC_Z


def as_bytes(data: Any) -> bytes:
    return orjson.dumps(data, option=_OPTIONS)


class JSONRenderer(renderers.BaseRenderer):
    """Also what the browsable API shows. An error goes out as problem+json (RFC 9457)."""

    media_type = "application/json"
    format = "json"
    charset = None
    render_style = "text"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        context = renderer_context or {}
        options = _OPTIONS | orjson.OPT_INDENT_2 if context.get("indent") else _OPTIONS
        response = context.get("response")
        if response is not None and response.exception:
            # The errors of a list are under the index of the item.
            options |= orjson.OPT_NON_STR_KEYS
            if response.accepted_renderer is self:
                response["Content-Type"] = problem.MEDIA_TYPE
        return orjson.dumps(data, option=options)


class BrowsableAPIRenderer(renderers.BrowsableAPIRenderer):
    template = "tasks/api.html"
