"""Endpoints that concern no single task: the page, the documentation, the metrics, the health, and not found."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render
from drf_spectacular.views import SpectacularSwaggerView
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks.dispatch import get_dispatcher
from tasks.exceptions import TaskNotFound
from tasks.kinds.base import CREATE_PREFIX, POLL_PREFIX
from tasks.metrics import exposition
from tasks.registry import get_registry
from tasks.rest.renderers import JSONRenderer
from tasks.views.base import FixedMediaTypeView

_NOBODY = UUID(int=0)


class PageView(FixedMediaTypeView):
    """The page that shows the tasks live."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        context = {"create_prefix": CREATE_PREFIX, "poll_prefix": POLL_PREFIX}
        response = render(request, "tasks/page.html", context)
        response["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return response


class DocsView(SpectacularSwaggerView):
    """Swagger UI."""

    def perform_content_negotiation(self, request: Any, force: bool = False) -> Any:  # noqa: FBT001, FBT002 - DRF gives the signature
        if request.method == "OPTIONS":
            # REST framework describes the endpoint, for which the template has no page.
            return JSONRenderer(), JSONRenderer.media_type
        return super().perform_content_negotiation(request, force)


class MetricsView(FixedMediaTypeView):
    """For a monitoring system."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """The metrics of this process, in the text format of Prometheus."""
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


class HealthView(FixedMediaTypeView):
    """Whether this process responds."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """Respond, without asking anything else."""
        return JsonResponse({"status": "live"})


class NotReady(APIException):
    status_code = 503
    default_detail = "The server is stopping and accepts no tasks. Send requests to another server."


class ReadyView(FixedMediaTypeView):
    """Whether this process accepts tasks."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """Respond with 200, or with 503 while the server stops or its database cannot be reached."""
        if get_dispatcher().is_stopping:
            raise NotReady
        with suppress(TaskNotFound):
            get_registry().get(_NOBODY)
        return JsonResponse({"status": "ready"})


class NotFoundView(APIView):
    """Every URL without an endpoint."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404
