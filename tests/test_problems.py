from typing import Any, ClassVar, NoReturn
from uuid import UUID

import pytest
from django.conf import LazySettings
from django.core.exceptions import BadRequest
from django.test import Client

from tasks.dispatch import get_dispatcher
from tasks.entry import TaskEntry
from tasks.registry import get_registry
from tasks.registry.memory import MemoryRegistry
from tests import modes
from tests.helpers import BROWSER, Api, assert_problem, stored

UNKNOWN = "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"
INTERNAL = "hush-hush"


class CrashingRegistry(MemoryRegistry):
    """A broken data store whose errors contain internal details."""

    def get(self, task_id: UUID) -> NoReturn:
        raise RuntimeError(INTERNAL)

    def add(self, entry: TaskEntry) -> NoReturn:
        raise RuntimeError(INTERNAL)


@pytest.fixture(params=[False, True], ids=["DEBUG off", "DEBUG on"], autouse=True)
def _debug(request: pytest.FixtureRequest, settings: LazySettings) -> None:
    settings.DEBUG = request.param


@modes.before_the_registry
@pytest.mark.parametrize(
    "path",
    ["/nothing", "/create-unknown", "/create-task/x", "/create-task//", "/poll-task", "/static/none.css", "/%00",
     "/x//y", f"/poll-unknown/{UNKNOWN}", f"/poll-task/{UNKNOWN}/x", "/files", "/files/a/b", "/schema/x",
     "/create-task%0A", "*", "metrics"],
)  # fmt: skip
def test_an_unknown_url_is_a_problem_for_any_method(client: Client, path: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        answer = client.generic(method, path, b"{", content_type="application/json")
        assert_problem(answer, 404, "/docs")


def test_a_head_response_for_an_unknown_url_has_no_body(client: Client) -> None:
    answer = client.head("/nothing")
    assert answer.status_code == 404
    assert answer.content == b""


@modes.before_the_registry
@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/csv", "application/problem+json"])
def test_an_unknown_url_is_a_problem_whatever_the_accept_header(api: Api, accept: str) -> None:
    answer = api.get("/nothing", Accept=accept)
    assert answer.status_code in {404, 406}
    assert_problem(answer, answer.status_code)


def test_a_browser_gets_a_page_for_an_unknown_url(api: Api) -> None:
    answer = api.get("/nothing", Accept=BROWSER)
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")
    assert "There is no endpoint at this URL" in answer.content.decode()


@pytest.mark.parametrize(("method", "path"), [("POST", "/create-task"), ("GET", f"/poll-task/{UNKNOWN}")])
@pytest.mark.parametrize("accept", ["*/*", BROWSER])
def test_a_crash_is_logged_once_and_reveals_nothing_to_the_client(
    client: Client, caplog: pytest.LogCaptureFixture, method: str, path: str, accept: str
) -> None:
    get_registry.override(CrashingRegistry())
    answer: Any = client.generic(
        method, path, b'{"name": "x"}', content_type="application/json", headers={"Accept": accept}
    )
    if accept == BROWSER:
        assert answer.status_code == 500
        assert answer["Content-Type"].startswith("text/html")
    else:
        assert_problem(answer, 500, "logged")
    text = answer.content.decode()
    for leak in (INTERNAL, "RuntimeError", "Traceback (", ".py"):
        assert leak not in text
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == INTERNAL
    assert path in record.getMessage()


@modes.before_the_registry
@pytest.mark.parametrize("host", ["evil.example", "testserver.evil.example", "a b", "[", "testserver:x", ""])
@pytest.mark.parametrize("path", [f"/poll-task/{UNKNOWN}", "/nothing", "/static/rest_framework/css/default.css"])
def test_an_unknown_host_is_a_problem(api: Api, host: str, path: str) -> None:
    assert_problem(api.get(path, Host=host), 400, "ALLOWED_HOSTS")


@modes.before_the_registry
@pytest.mark.parametrize("path", ["/schema", "/docs", "/create-task", f"/poll-task/{UNKNOWN}", "/files/x"])
def test_a_method_that_no_endpoint_supports_is_a_problem(client: Client, path: str) -> None:
    answer = client.generic("PROPFIND", path)
    assert_problem(answer, 405, "methods")
    assert answer["Allow"]


@modes.before_the_registry
@pytest.mark.parametrize("path", ["/schema", "/docs"])
def test_a_media_type_that_a_document_does_not_offer_is_a_problem(api: Api, path: str) -> None:
    assert_problem(api.get(path, Accept="image/png"), 406, "Accept")


@modes.before_the_registry
@pytest.mark.parametrize("path", [f"/poll-task/{UNKNOWN}?format=xml", "/create-task?format=xml", "/schema?format=xml"])
def test_an_unknown_format_is_a_problem(api: Api, path: str) -> None:
    assert_problem(api.get(path), 404)


class Crash:
    """A middleware that fails before any view."""

    error: ClassVar[Exception] = RuntimeError("deep inside")

    def __init__(self, get_response: Any) -> None:
        pass

    def __call__(self, request: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("deep inside"), 500), (BadRequest("odd"), 400)])
def test_an_error_outside_every_view_is_a_problem_too(
    settings: LazySettings, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    settings.DEBUG = False  # with DEBUG, Django shows the developer an error outside every view
    monkeypatch.setattr(Crash, "error", error)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.test_problems.Crash"]
    answer = Client(raise_request_exception=False).get("/docs")
    assert_problem(answer, status)
    assert b"deep inside" not in answer.content


@modes.before_the_registry
@pytest.mark.parametrize(
    "path",
    ["/", "/create-task", f"/poll-task/{UNKNOWN}", "/tasks", "/files/x", "/metrics", "/healthz", "/schema", "/docs"],
)
def test_options_name_the_methods_of_the_endpoint(client: Client, path: str) -> None:
    answer: Any = client.options(path)
    assert answer.status_code == 200
    allowed = set(answer["Allow"].split(", "))
    assert "OPTIONS" in allowed
    methods = {"POST"} if path.startswith("/create-") else {"GET", "HEAD"}
    if path.startswith("/poll-"):
        methods.add("DELETE")
    assert allowed - {"OPTIONS"} == methods
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
        refused: Any = client.generic(method, path)
        assert (refused.status_code, set(refused["Allow"].split(", "))) == (405, allowed)


@pytest.mark.parametrize("accept", ["text/html", "application/json", "image/png"])
def test_the_documentation_is_a_page_and_its_options_are_json(client: Client, accept: str) -> None:
    options: Any = client.options("/docs", headers={"Accept": accept})
    assert (options.status_code, options["Content-Type"]) == (200, "application/json")
    assert client.get("/docs", headers={"Accept": accept}).status_code == (200 if accept == "text/html" else 406)


@modes.before_the_registry
@pytest.mark.parametrize(("method", "path"), [("get", "/tasks"), ("Post", "/create-task"), ("dELETE", "/nowhere")])
def test_a_method_that_is_not_in_upper_case_is_refused(api: Api, method: str, path: str) -> None:
    answer = api.client.generic(method, path, b'{"name": "n"}', content_type="application/json")
    assert_problem(answer, 501, "methods are case-sensitive")
    assert stored() == {}


def test_during_a_stop_the_server_is_not_ready_and_says_so(api: Api) -> None:
    assert api.get("/readyz").json() == {"status": "ready"}
    get_dispatcher().drain(timeout=0)
    problem = assert_problem(api.get("/readyz"), 503, "The server is stopping and accepts no tasks.")
    assert "stored" not in problem["detail"]
