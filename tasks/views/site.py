"""What is about no one task: the page, the metrics, and every address that nothing else answers."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import render
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks.dispatcher import get_dispatcher
from tasks.exceptions import DispatcherStopping, TaskNotFound
from tasks.metrics import exposition
from tasks.registry import get_registry
from tasks.views.base import OwnTypeView

_NOBODY = UUID(int=0)


class PageView(OwnTypeView):
    """The page that shows the tasks live."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        response = render(request, "tasks/page.html")
        response["Content-Security-Policy"] = (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return response


class MetricsView(OwnTypeView):
    """What a monitoring system reads."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """The metrics of this process, in the text format of Prometheus."""
        return HttpResponse(exposition(), content_type=CONTENT_TYPE_LATEST)


class HealthView(OwnTypeView):
    """Whether this process answers."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """Say so; it asks nothing of others."""
        return JsonResponse({"status": "live"})


class ReadyView(OwnTypeView):
    """Whether this process can take tasks."""

    schema = None

    def get(self, request: Request) -> HttpResponse:
        """Say so, or answer 503: while it stops, and while it cannot reach its database."""
        if get_dispatcher().is_stopping:
            raise DispatcherStopping(1)
        with suppress(TaskNotFound):
            get_registry().get(_NOBODY)
        return JsonResponse({"status": "ready"})


class NotFoundView(APIView):
    """Every address that nothing else answers."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404
