"""CPU time of a create and a poll, compared with a plain Django view and a stock REST framework view, in one process.

The peers use the same middleware and the same registry, and send the same JSON. Rounds of the three alternate, so that
other load on the machine affects all of them. Each figure is the median of the rounds.
"""

import io
import json
import statistics
import time
import uuid
from collections.abc import Callable
from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from rest_framework import parsers, renderers, serializers
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tasks.dispatch import get_dispatcher
from tasks.dispatch.immediate import ImmediateDispatcher
from tasks.entry import TaskEntry
from tasks.kinds.task import TASK
from tasks.registry import get_registry

_BODY = b'{"name":"sample_name"}'
_ROUNDS, _REQUESTS = 30, 200


class _Idle(ImmediateDispatcher):
    def dispatch(self, entry: TaskEntry) -> None:
        """Run nothing, so that only the requests are measured."""


def _as_dict(entry: TaskEntry) -> dict[str, Any]:
    return {
        "id": str(entry.id),
        "kind": entry.kind,
        "name": entry.name,
        "status": entry.status,
        "file_path": entry.file_path,
        "input": entry.input,
        "progress": entry.progress,
        "message": entry.message,
        "result": entry.result,
        "error": entry.error,
        "attempt": entry.attempt,
        "version": entry.version,
        "created_at": entry.created_at,
        "started_at": entry.started_at,
        "finished_at": entry.finished_at,
        "expires_at": entry.expires_at,
    }


@csrf_exempt
def plain_create(request: HttpRequest) -> HttpResponse:
    name = json.loads(request.body)["name"]
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        return HttpResponse(status=400)
    entry = get_registry().add(TaskEntry(kind="task", name=name))
    get_dispatcher().dispatch(entry)
    return JsonResponse(_as_dict(entry), status=201, headers={"Location": f"/poll-task/{entry.id}"})


def plain_poll(request: HttpRequest, task_id: str) -> HttpResponse:
    entry = get_registry().get(uuid.UUID(task_id))
    return JsonResponse(_as_dict(entry), headers={"Cache-Control": "no-store"})


class _Payload(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=255)


class _Entry(serializers.Serializer[TaskEntry]):
    id = serializers.UUIDField()
    kind = serializers.CharField()
    name = serializers.CharField()
    status = serializers.CharField()
    file_path = serializers.CharField()
    input = serializers.DictField()
    progress = serializers.IntegerField()
    message = serializers.CharField()
    result = serializers.JSONField()
    error = serializers.JSONField()
    attempt = serializers.IntegerField()
    version = serializers.IntegerField()
    created_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class _StockView(APIView):
    parser_classes = [parsers.JSONParser, parsers.FormParser, parsers.MultiPartParser]
    renderer_classes = [renderers.JSONRenderer, renderers.BrowsableAPIRenderer]
    content_negotiation_class = DefaultContentNegotiation


class StockCreate(_StockView):
    def post(self, request: Request) -> Response:
        payload = _Payload(data=request.data)
        payload.is_valid(raise_exception=True)
        entry = get_registry().add(TaskEntry(kind="task", **payload.validated_data))
        get_dispatcher().dispatch(entry)
        return Response(_Entry(entry).data, status=201, headers={"Location": f"/poll-task/{entry.id}"})


class StockPoll(_StockView):
    def get(self, request: Request, task_id: str) -> Response:
        entry = get_registry().get(uuid.UUID(task_id))
        return Response(_Entry(entry).data, headers={"Cache-Control": "no-store"})


urlpatterns = [
    path("plain-create", plain_create),
    path("plain-poll/<str:task_id>", plain_poll),
    path("stock-create", StockCreate.as_view()),
    path("stock-poll/<str:task_id>", StockPoll.as_view()),
    path("", include("tasks.urls")),
]


def _caller(handler: WSGIHandler, method: str, url_path: str, expected: str) -> Callable[[], None]:
    body = _BODY if method == "POST" else b""
    template = {
        "REQUEST_METHOD": method,
        "PATH_INFO": url_path,
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "localhost",
        "HTTP_ACCEPT": "*/*",
        "HTTP_USER_AGENT": "bench",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
    }
    statuses: list[str] = []

    def start_response(status: str, _headers: Any, _error: Any = None) -> Callable[[bytes], object]:
        statuses.append(status)
        return lambda _data: None

    def call() -> None:
        response = handler({**template, "wsgi.input": io.BytesIO(body)}, start_response)
        b"".join(response)
        response.close()
        if not statuses.pop().startswith(expected):
            raise RuntimeError(f"{method} {url_path} did not return {expected}")

    return call


def _measure(callers: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the microseconds per request of each caller."""
    rounds: dict[str, list[float]] = {name: [] for name in callers}
    for _ in range(_ROUNDS):
        for name, call in callers.items():
            begin = time.perf_counter()
            for _ in range(_REQUESTS):
                call()
            rounds[name].append((time.perf_counter() - begin) / _REQUESTS * 1e6)
    return {name: statistics.median(values) for name, values in rounds.items()}


def main() -> None:
    get_dispatcher.override(_Idle())
    handler = WSGIHandler()
    entry = get_registry().add(TASK.new_entry({"name": "sample_name"}))
    peers = {"plain Django": "plain-", "this service": "", "stock REST framework": "stock-"}
    for operation, method, tail, expected, bound in (
        ("create", "POST", "create{dash}", "201", 2.2),
        ("poll", "GET", "poll{dash}/" + str(entry.id), "200", 1.8),
    ):
        cost = _measure(
            {
                name: _caller(handler, method, f"/{prefix}{tail.format(dash='' if prefix else '-task')}", expected)
                for name, prefix in peers.items()
            }
        )
        plain = cost["plain Django"]
        print(f"{operation}: " + ", ".join(f"{name} {micros:.0f} µs" for name, micros in cost.items()))
        print(
            f"{operation} ratio to plain Django: {cost['this service'] / plain:.2f} (bound {bound})"
            f"; stock REST framework {cost['stock REST framework'] / plain:.2f}"
        )
