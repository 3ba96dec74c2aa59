"""The URLs: one pair for each kind, then those that all kinds share."""

from django.urls import URLPattern, re_path
from drf_spectacular.views import SpectacularJSONAPIView

from tasks.kinds import get_kinds
from tasks.kinds.base import POLL_PREFIX, TaskKind
from tasks.rest.schema import CachedSchemaGenerator
from tasks.views.files import FileView
from tasks.views.listing import TasksView
from tasks.views.pair import CreateView, PollView
from tasks.views.site import DocsView, HealthView, MetricsView, NotFoundView, PageView, ReadyView


def endpoint_pair(kind: TaskKind) -> list[URLPattern]:
    """The two endpoints of a kind, which are also the names of their routes: `create-<kind>` and `poll-<kind>`."""
    create, poll = kind.create_path, kind.poll_path("(?P<task_id>[^/]+)")
    return [
        re_path(rf"^{create}/?$", CreateView.as_view(kind=kind), name=create),
        re_path(rf"^{poll}/?$", PollView.as_view(kind=kind), name=f"{POLL_PREFIX}{kind.name}"),
    ]


urlpatterns = [
    re_path(r"^$", PageView.as_view(), name="page"),
    *(pattern for kind in get_kinds().values() for pattern in endpoint_pair(kind)),
    re_path(r"^tasks/?$", TasksView.as_view(), name="tasks"),
    re_path(r"^files/(?P<name>[^/]+)/?$", FileView.as_view(), name="files"),
    re_path(r"^metrics/?$", MetricsView.as_view(), name="metrics"),
    re_path(r"^healthz/?$", HealthView.as_view(), name="healthz"),
    re_path(r"^readyz/?$", ReadyView.as_view(), name="readyz"),
    re_path(r"^schema/?$", SpectacularJSONAPIView.as_view(generator_class=CachedSchemaGenerator), name="schema"),
    re_path(r"^docs/?$", DocsView.as_view(url_name="schema"), name="docs"),
    re_path(r"", NotFoundView.as_view()),
]
