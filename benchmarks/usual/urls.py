"""A task is started by a POST and asked for by a GET, as most would write that with Celery and REST framework."""

from typing import Any

from celery.result import AsyncResult
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.usual.celery import answer, app


class _Payload(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=255)


class CreateView(APIView):
    def post(self, request: Request) -> Response:
        payload = _Payload(data=request.data)
        payload.is_valid(raise_exception=True)
        result = answer.delay(payload.validated_data["name"])
        return Response({"id": result.id}, status=202)


class PollView(APIView):
    def get(self, request: Request, task_id: str) -> Response:
        result = AsyncResult(task_id, app=app)
        return Response({"id": task_id, "status": result.status, "result": result.result})


urlpatterns = [path("create-answer", CreateView.as_view()), path("poll-answer/<str:task_id>", PollView.as_view())]
