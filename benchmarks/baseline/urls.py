from typing import Any

from celery.result import AsyncResult
from django.urls import path
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from benchmarks.baseline.app import work


class TaskSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=255)


class CreateView(APIView):
    def post(self, request: Request) -> Response:
        task = TaskSerializer(data=request.data)
        task.is_valid(raise_exception=True)
        result = work.delay(task.validated_data["name"])
        return Response({"id": result.id, "status": "PENDING"}, status=202)


class PollView(APIView):
    def get(self, request: Request, task_id: str) -> Response:
        result = AsyncResult(task_id)
        return Response({"id": task_id, "status": result.status, "result": result.result})


urlpatterns = [path("create", CreateView.as_view()), path("poll/<task_id>", PollView.as_view())]
