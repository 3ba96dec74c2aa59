"""Request headers: how long to wait, which version the client knows, and the key of its create."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.request import parse_http_list

from django.conf import settings
from django.utils.http import parse_etags
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"(?:;.*)?')


@dataclass(frozen=True, slots=True)
class Wait:
    """How long a client wants to wait for news, in whole seconds, TASK_WAIT_SECONDS at most."""

    seconds: int
    is_preference: bool
    """Whether the client sent `Prefer: wait=N`, so that the answer says what was granted."""

    @classmethod
    def of(cls, request: Request) -> Self | None:
        """`?wait=N`, or else `Prefer: wait=N` (RFC 7240); None where the client sent neither.

        Raises ParseError for a `?wait=` that is no whole number. A malformed preference is ignored, as RFC 7240 says.
        """
        preferred = _preferred_wait(request.META)
        if request.META["QUERY_STRING"] and (text := request.query_params.get("wait")) is not None:
            if not _WHOLE_NUMBER.fullmatch(text):
                raise ParseError("Give `wait` as a whole number of seconds, as in ?wait=30.")
            return cls(_capped(text), preferred is not None)
        return None if preferred is None else cls(preferred, is_preference=True)

    @property
    def headers(self) -> dict[str, str]:
        """The response header that says which preference was granted."""
        return {"Preference-Applied": f"wait={self.seconds}"} if self.is_preference else {}


def knows(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names that version."""
    header = request.META.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return False
    return bool({"*", etag} & {known.removeprefix("W/") for known in parse_etags(header)})


def last_event_id(request: Request) -> int | None:
    """The version of the last event that the client has of the stream it resumes."""
    last = request.META.get("HTTP_LAST_EVENT_ID", "")
    return int(last) if _WHOLE_NUMBER.fullmatch(last) else None


def idempotency_key(request: Request) -> str:
    """The `Idempotency-Key` of draft-ietf-httpapi-idempotency-key-header, also without its quotes; or empty.

    Raises ParseError for a header that cannot be a key.
    """
    header: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return ""
    key = header.strip()
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if not _KEY.fullmatch(key):
        raise ParseError("Give Idempotency-Key as 1 to 255 printable ASCII characters, with or without double quotes.")
    return key


def _preferred_wait(meta: Mapping[str, Any]) -> int | None:
    if "HTTP_PREFER" not in meta:
        return None
    for preference in parse_http_list(meta["HTTP_PREFER"]):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            value = value.strip().strip('"')
            return _capped(value) if _WHOLE_NUMBER.fullmatch(value) else None
    return None


def _capped(seconds: str) -> int:
    return min(int(seconds), int(settings.TASK_WAIT_SECONDS))
