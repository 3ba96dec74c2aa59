"""OpenAPI 3.1 of the endpoints, from what their views say of themselves."""

from typing import Any

from drf_spectacular import openapi
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers

from tasks.rest.renderers import PROBLEM_MEDIA_TYPE


class ProblemSerializer(serializers.Serializer[Any]):
    """What went wrong (RFC 9457)."""

    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField(help_text="What to do about it.")
    errors = serializers.DictField(required=False, help_text="The messages for each field of a payload.")


class AutoSchema(openapi.AutoSchema):  # type: ignore[misc] - drf-spectacular ships no types
    pass
