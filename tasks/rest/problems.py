"""Every error as application/problem+json (RFC 9457), with a sentence that says what to do."""

import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson
from django.core.exceptions import BadRequest, DisallowedHost, RequestDataTooBig, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from rest_framework import exceptions
from rest_framework.response import Response

from tasks.exceptions import (
    DispatcherFull,
    IdempotencyKeyReused,
    RegistryUnavailable,
    TaskAlreadyFinished,
    TaskExpired,
    TaskNotFound,
)
from tasks.rest.parsers import BodyTooLarge
from tasks.rest.renderers import PROBLEM_MEDIA_TYPE, BrowsableAPIRenderer, JSONRenderer

logger = logging.getLogger(__name__)

_UNREADABLE = "Send a request that this server can read: see /docs."
_NOTHING_THERE = "There is nothing at this address; /docs lists those that there are."
_UNAVAILABLE_SECONDS = 5
_CRASHED = "Something is wrong in this server and was logged; try again later."


def problem(status: int, detail: str, **more: Any) -> dict[str, Any]:
    """The members of RFC 9457; `about:blank` says that the status alone is the type."""
    return {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:  # noqa: C901, PLR0912 - a table, a row an error
    """REST framework's hook: the answer to anything that a view raises."""
    headers: dict[str, str] = {}
    match error:
        case exceptions.ValidationError():
            errors = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
            body = problem(400, "Mend the fields that `errors` names and send the task again.", errors=errors)
        case exceptions.MethodNotAllowed():
            allowed = ", ".join(context["view"].allowed_methods)
            headers["Allow"] = allowed
            body = problem(405, f"Use one of the methods that this address takes: {allowed}.")
        case exceptions.UnsupportedMediaType():
            body = problem(415, f"Send {_media_types(context['view'].parser_classes)}.")
        case exceptions.NotAcceptable():
            offered = _media_types(context["view"].get_renderers())
            body = problem(406, f"Ask for {offered} in `Accept`, or leave that header out.")
        case exceptions.APIException():
            body = problem(error.status_code, str(error.detail))
        case TaskExpired():
            body = problem(410, f"{error} Create it again if you still need it.")
        case TaskAlreadyFinished():
            body = problem(409, f"{error} Poll it to see how.")
        case IdempotencyKeyReused():
            body = problem(422, f"{error} Send the first payload again, or choose another key.")
        case TaskNotFound():
            body = problem(404, f"{error} Check the id, or create the task again.")
        case DispatcherFull():
            headers["Retry-After"] = str(error.retry_after)
            unit = "second" if error.retry_after == 1 else "seconds"
            body = problem(503, f"{error} Nothing was stored; try again in {error.retry_after} {unit}.")
        case RegistryUnavailable():
            headers["Retry-After"] = str(_UNAVAILABLE_SECONDS)
            logger.warning("%s %s", error, error.__cause__)
            body = problem(
                503,
                f"{error} Try again in {_UNAVAILABLE_SECONDS} seconds; a create that has an Idempotency-Key can be "
                "sent again without starting a second task.",
            )
        case Http404():
            body = problem(404, _NOTHING_THERE)
        case RequestDataTooBig():
            body = problem(413, str(BodyTooLarge().detail))
        case SuspiciousOperation() | BadRequest():
            body = problem(400, _UNREADABLE)
        case _:
            logger.error("A request crashed: %s", context["request"].path, exc_info=error)
            body = problem(500, _CRASHED)
    request = context["request"]
    if not isinstance(getattr(request, "accepted_renderer", None), JSONRenderer | BrowsableAPIRenderer):
        # The view's own type, as that of the schema, is none for a problem.
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return Response(body, status=body["status"], headers=headers)


class ProblemMiddleware:
    """Answers what goes wrong outside the views of REST framework; with DEBUG on, too."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost as error:
            logger.warning("%s", error)
            return _response(problem(400, "Use a host name that ALLOWED_HOSTS of this server lists."))
        if not request.path_info.startswith("/"):
            # `OPTIONS *`, or an address of another server: Django would look for a page to answer it with.
            return _response(problem(404, _NOTHING_THERE))
        if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
            # WSGI applications read as much as was announced, which here is nothing.
            return _response(problem(411, "Send the body with its Content-Length; chunked bodies are not read."))
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        answer = exception_handler(error, {"request": request})
        return _response(answer.data)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: what is wrong in a request outside every view."""
    return _response(problem(400, _UNREADABLE))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a crash outside every view, which Django has logged."""
    return _response(problem(500, _CRASHED))


def _response(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), status=body["status"], content_type=PROBLEM_MEDIA_TYPE)


def _media_types(parts: list[Any]) -> str:
    return " or ".join(dict.fromkeys(part.media_type for part in parts))
