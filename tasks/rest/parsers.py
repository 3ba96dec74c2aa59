"""Request bodies: strict JSON, or a form of this server's own pages."""

import json
from collections.abc import Mapping
from typing import IO, Any

import orjson
from django.conf import settings
from django.http import QueryDict
from rest_framework import parsers
from rest_framework.exceptions import APIException, ParseError, PermissionDenied

from tasks.rest.renderers import JSONRenderer

_MAX_DEPTH = 32


class BodyTooLarge(APIException):
    status_code = 413
    default_code = "too_large"

    def __init__(self) -> None:
        super().__init__(f"Send a body of at most {settings.TASK_MAX_BODY_BYTES} bytes.")


class JSONParser(parsers.BaseParser):
    """JSON in UTF-8 (RFC 8259), without anything that two parsers could read differently."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Raises ParseError for invalid JSON, an object with two equal keys, and nesting past 32 levels."""
        body = _read(stream, parser_context)
        try:
            data = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ParseError(f"Send valid JSON in UTF-8. This body is not: {error}.") from error
        if body.count(b"[") + body.count(b"{") > _MAX_DEPTH and _depth(data) > _MAX_DEPTH:
            raise ParseError(f"Send JSON with at most {_MAX_DEPTH} levels of nesting.")
        # orjson silently uses the last of two equal keys.
        json.loads(body, object_pairs_hook=_refuse_duplicates)
        return data


class FormParser(parsers.FormParser):
    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _refuse_other_origins(parser_context)
        return QueryDict(_read(stream, parser_context), encoding="utf-8")


class MultiPartParser(parsers.MultiPartParser):
    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        _refuse_other_origins(parser_context)
        _refuse_large(parser_context)
        try:
            return super().parse(stream, media_type, parser_context)
        except ParseError as error:
            raise ParseError(f"Send a valid multipart form. This body is not: {error.detail}.") from error


def _read(stream: IO[Any], parser_context: Mapping[str, Any] | None) -> bytes:
    _refuse_large(parser_context)
    body: bytes = stream.read()
    return body


def _refuse_large(parser_context: Mapping[str, Any] | None) -> None:
    # A stream never gives more than the length that was announced.
    if parser_context and int(parser_context["request"].META.get("CONTENT_LENGTH") or 0) > settings.TASK_MAX_BODY_BYTES:
        raise BodyTooLarge


def _refuse_other_origins(parser_context: Mapping[str, Any] | None) -> None:
    """A page of another site can make a browser send a form here, and the browser names that site in `Origin`."""
    request = (parser_context or {})["request"]
    origin = request.META.get("HTTP_ORIGIN")
    if origin is not None and origin.partition("://")[2] != request.get_host():
        raise PermissionDenied(
            "Send a form from this server's own pages, or send JSON. This form came from another site."
        )


def _depth(data: Any) -> int:
    """How many levels of objects and arrays there are."""
    depth, level = 0, [data]
    while containers := [value for value in level if isinstance(value, dict | list)]:
        depth += 1
        level = [child for value in containers for child in (value.values() if isinstance(value, dict) else value)]
    return depth


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ParseError("Send each key of an object once. This body has a key twice.")
    return data
