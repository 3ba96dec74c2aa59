"""What a client asks for in headers: how long to wait, which version it knows, and under which key it creates."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.request import parse_http_list

from django.conf import settings
from django.utils.http import parse_etags
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

_WHOLE_NUMBER = re.compile(r"[0-9]{1,9}")
_KEY = re.compile(r"[\x20-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"(?:;.*)?')


def wait_seconds(request: Request) -> int | None:
    """For how long to hold the answer, in whole seconds: `?wait=N`, or `Prefer: wait=N` (RFC 7240).

    None where the client did not ask, or not in a way that can be understood: RFC 7240 has preferences ignored
    then. Raises ParseError for such a `?wait=`. Never more than TASK_WAIT_SECONDS.
    """
    if request.META["QUERY_STRING"] and (asked := request.query_params.get("wait")) is not None:
        if not _WHOLE_NUMBER.fullmatch(asked):
            raise ParseError("Give `wait` as a whole number of seconds, as in ?wait=30.")
        return _capped(asked)
    return _preferred_wait(request.META)


def applied(request: Request, seconds: int | None) -> dict[str, str]:
    """The header that says which wait was granted to a client that preferred one."""
    if seconds is None or _preferred_wait(request.META) is None:
        return {}
    return {"Preference-Applied": f"wait={seconds}"}


def knows(request: Request, etag: str) -> bool:
    """Whether `If-None-Match` names that version."""
    header = request.META.get("HTTP_IF_NONE_MATCH")
    if header is None:
        return False
    return bool({"*", etag} & {known.removeprefix("W/") for known in parse_etags(header)})


def last_event_id(request: Request) -> int | None:
    """The version that a client has from the stream of events that it resumes."""
    last = request.META.get("HTTP_LAST_EVENT_ID", "")
    return int(last) if _WHOLE_NUMBER.fullmatch(last) else None


def idempotency_key(request: Request) -> str:
    """The `Idempotency-Key`, as draft-ietf-httpapi-idempotency-key-header has it, or without its quotes; else empty.

    Raises ParseError for what cannot be a key.
    """
    header: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if header is None:
        return ""
    key = header.strip()
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if not _KEY.fullmatch(key):
        raise ParseError("Give Idempotency-Key 1 to 255 printable ASCII characters, in double quotes or without any.")
    return key


def _preferred_wait(meta: Mapping[str, Any]) -> int | None:
    for preference in parse_http_list(meta.get("HTTP_PREFER", "")):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() == "wait":
            value = value.strip().strip('"')
            return _capped(value) if _WHOLE_NUMBER.fullmatch(value) else None
    return None


def _capped(seconds: str) -> int:
    return min(int(seconds), int(settings.TASK_WAIT_SECONDS))
