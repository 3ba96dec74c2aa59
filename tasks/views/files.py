"""The result files."""

import re

from django.core.files.storage import default_storage
from django.http import FileResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.request import Request

from tasks.exceptions import TaskNotFound
from tasks.registry import get_registry
from tasks.serializers import ProblemSerializer
from tasks.utils.problem import MEDIA_TYPE
from tasks.views.base import FixedMediaTypeView, parse_task_id

_NO_FILE = "There is no result file with this name. Use the `file_path` of a completed task."


class FileView(FixedMediaTypeView):
    """The result file of a completed task."""

    @extend_schema(
        operation_id="get_file",
        tags=["files"],
        parameters=[OpenApiParameter("name", str, OpenApiParameter.PATH, pattern="^[^/]+$")],
        responses={(200, "*/*"): bytes, (404, MEDIA_TYPE): ProblemSerializer},
    )
    def get(self, request: Request, name: str) -> FileResponse:
        """The file of that name, which the entry's `file_path` has."""
        # Only the name in a completed entry is ever opened, so that no name can lead out of the root.
        task_id = re.search(r"_([0-9a-f-]{36})\.", name)
        try:
            entry = get_registry().get(parse_task_id(task_id[1])) if task_id else None
            if entry is None or entry.file_path != f"files/{name}":
                raise NotFound(_NO_FILE)
            content = default_storage.open(name)
        except (TaskNotFound, FileNotFoundError, ParseError) as error:
            raise NotFound(_NO_FILE) from error
        response = FileResponse(content, filename=name)
        response["Content-Security-Policy"] = "default-src 'none'; sandbox"
        return response
