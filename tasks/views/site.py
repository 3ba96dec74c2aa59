"""What is about no one task: the page, the metrics, and every address that nothing else answers."""

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import render
from prometheus_client import CONTENT_TYPE_LATEST
from rest_framework.request import Request
from rest_framework.views import APIView

from tasks.metrics import exposition
from tasks.views.base import OwnTypeView


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


class NotFoundView(APIView):
    """Every address that nothing else answers."""

    schema = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise Http404
