"""Every error as application/problem+json (RFC 9457), with a sentence that says what to do."""

import logging
from collections.abc import Callable, Mapping
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
from tasks.rest.renderers import BrowsableAPIRenderer, JSONRenderer
from tasks.utils.problem import MEDIA_TYPE, problem

logger = logging.getLogger(__name__)

_UNREADABLE = "The server cannot read this request. See /docs for the requests that it accepts."
_NO_ENDPOINT = "There is no endpoint at this URL. /docs lists them."
_UNAVAILABLE_SECONDS = 5
_CRASHED = "The server failed to process this request, and has logged the error. Retry later."


def exception_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """REST framework's hook: the response to anything that a view raises."""
    body, headers = _problem(error, context)
    request = context["request"]
    if not isinstance(getattr(request, "accepted_renderer", None), JSONRenderer | BrowsableAPIRenderer):
        # The media type of the view itself, such as that of the schema, does not suit a problem.
        request.accepted_renderer, request.accepted_media_type = JSONRenderer(), JSONRenderer.media_type
    return Response(body, status=body["status"], headers=headers)


def _problem(error: Exception, context: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:  # noqa: C901, PLR0912 - a table, a row an error
    """The body and the headers of the response to an error."""
    headers: dict[str, str] = {}
    match error:
        case exceptions.ValidationError():
            errors = error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
            body = problem(400, "Fix the fields listed in `errors` and send the request again.", errors=errors)
        case exceptions.MethodNotAllowed():
            allowed = ", ".join(context["view"].allowed_methods)
            headers["Allow"] = allowed
            body = problem(405, f"This endpoint supports {allowed}. Use one of these methods.")
        case exceptions.UnsupportedMediaType():
            body = problem(415, f"Send the body as {_media_types(context['view'].parser_classes)}.")
        case exceptions.NotAcceptable():
            offered = _media_types(context["view"].get_renderers())
            body = problem(406, f"This endpoint offers {offered}. Name one of them in `Accept`, or omit that header.")
        case exceptions.APIException():
            body = problem(error.status_code, str(error.detail))
        case TaskExpired():
            body = problem(410, f"{error} Create it again if you still need it.")
        case TaskAlreadyFinished():
            body = problem(409, f"{error} Poll it to see its status.")
        case IdempotencyKeyReused():
            body = problem(422, f"{error} Send the first payload again, or use another key.")
        case TaskNotFound():
            body = problem(404, f"{error} Check the id, or create the task again.")
        case DispatcherFull():
            headers["Retry-After"] = str(error.retry_after)
            unit = "second" if error.retry_after == 1 else "seconds"
            body = problem(503, f"{error} Nothing was stored. Retry in {error.retry_after} {unit}.")
        case RegistryUnavailable():
            headers["Retry-After"] = str(_UNAVAILABLE_SECONDS)
            logger.warning("%s %s", error, error.__cause__)
            body = problem(
                503,
                f"{error} Retry in {_UNAVAILABLE_SECONDS} seconds. A create with an Idempotency-Key can be sent again "
                "without starting a second task.",
            )
        case Http404():
            body = problem(404, _NO_ENDPOINT)
        case RequestDataTooBig():
            body = problem(413, str(BodyTooLarge().detail))
        case SuspiciousOperation() | BadRequest():
            body = problem(400, _UNREADABLE)
        case _:
            logger.error("A request crashed: %s", context["request"].path, exc_info=error)
            body = problem(500, _CRASHED)
    return body, headers


class ProblemMiddleware:
    """Answers errors outside the views of REST framework, also with DEBUG."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost as error:
            logger.warning("%s", error)
            return _response(problem(400, "Use a host name that ALLOWED_HOSTS of this server lists."))
        if not request.path_info.startswith("/"):
            # `OPTIONS *`, or the URL of another server: Django would look for a page to answer it with.
            return _response(problem(404, _NO_ENDPOINT))
        if request.method != request.META["REQUEST_METHOD"]:
            # Django has converted it to upper case, but methods are case-sensitive (RFC 9110, section 9.1).
            return _response(problem(501, "Send the method in upper case, as in GET: methods are case-sensitive."))
        if "HTTP_TRANSFER_ENCODING" in request.META and not request.META.get("CONTENT_LENGTH"):
            # WSGI applications read as many bytes as Content-Length says, which here is none.
            return _response(problem(411, "Send the body with a Content-Length. Chunked bodies are not supported."))
        return self._get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        body, _ = _problem(error, {"request": request})
        return _response(body)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a bad request outside every view."""
    return _response(problem(400, _UNREADABLE))


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500: a crash outside every view, which Django has logged."""
    return _response(problem(500, _CRASHED))


def _response(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), status=body["status"], content_type=MEDIA_TYPE)


def _media_types(parts: list[Any]) -> str:
    return " or ".join(dict.fromkeys(part.media_type for part in parts))
