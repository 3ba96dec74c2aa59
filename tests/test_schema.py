import json
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.validation import validate_schema

from tasks.kinds import get_kinds
from tests import modes
from tests.helpers import BROWSER, Api, Page, assert_stands_alone

PAIRS = sorted(get_kinds())
ENTRY = {
    "id", "kind", "name", "status", "file_path", "input", "progress", "message", "result", "error", "attempt",
    "version", "created_at", "started_at", "finished_at", "expires_at",
}  # fmt: skip
RESPONSE_HEADERS = {"ETag", "Retry-After", "Preference-Applied"}


@pytest.fixture(scope="module")
def schema(client: Client) -> dict[str, Any]:
    answer = client.get("/schema")
    assert answer.status_code == 200
    document: dict[str, Any] = json.loads(answer.content)
    return document


def resolved(schema: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """Return the part itself, or the component that it refers to."""
    if "allOf" in part:
        (part,) = part["allOf"]
    if "$ref" not in part:
        return part
    component: dict[str, Any] = schema["components"]["schemas"][part["$ref"].removeprefix("#/components/schemas/")]
    return component


def body(schema: dict[str, Any], message: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return resolved(schema, message["content"][media_type]["schema"])


def test_the_schema_is_valid_openapi_3_1(api: Api, schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1")
    validate_schema(schema)  # type: ignore[no-untyped-call]  # the library gives no types here
    for accept in ("*/*", BROWSER):
        answer = api.get("/schema/", Accept=accept)
        assert answer.status_code == 200
        assert "json" in answer["Content-Type"]
        assert json.loads(answer.content) == schema


def test_the_schema_is_generated_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--fail-on-warn", "--format", "openapi-json")
    output = capsys.readouterr()
    assert output.err == ""
    assert json.loads(output.out)["openapi"].startswith("3.1")


def test_every_path_is_documented_as_clients_use_it(schema: dict[str, Any]) -> None:
    pairs = {path for kind in PAIRS for path in (f"/create-{kind}", f"/poll-{kind}/{{task_id}}")}
    assert set(schema["paths"]) == pairs | {"/files/{name}", "/tasks"}
    assert not [path for path in schema["paths"] if path.endswith("/")]


def test_every_operation_has_a_unique_id(schema: dict[str, Any]) -> None:
    ids = [operation["operationId"] for path in schema["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids) == 3 * len(PAIRS) + 2
    assert {"create_prime_count", "poll_prime_count", "cancel_prime_count"} <= set(ids)


@modes.before_the_registry
@pytest.mark.parametrize("kind", PAIRS)
def test_a_create_is_typed(schema: dict[str, Any], kind: str) -> None:
    (operation,) = schema["paths"][f"/create-{kind}"].values()
    payload = body(schema, operation["requestBody"])
    assert "name" in payload["required"]
    name = payload["properties"]["name"]
    assert (name["type"], name["minLength"], name["maxLength"]) == ("string", 1, 255)
    assert parameters(operation) == {"header Idempotency-Key", "header Prefer", "query wait"}
    created = operation["responses"]["201"]
    assert set(created["headers"]) == RESPONSE_HEADERS | {"Location", "Idempotent-Replayed"}
    assert set(body(schema, created)["properties"]) == ENTRY
    assert_problems(schema, operation, {"400", "403", "406", "413", "415", "422", "503"})
    assert set(operation["responses"]["503"]["headers"]) == {"Retry-After"}


@modes.before_the_registry
@pytest.mark.parametrize("kind", PAIRS)
def test_a_create_links_to_the_poll_and_the_cancel_of_its_task(schema: dict[str, Any], kind: str) -> None:
    links = schema["paths"][f"/create-{kind}"]["post"]["responses"]["201"]["links"]
    operations = schema["paths"][f"/poll-{kind}/{{task_id}}"]
    assert {name: link["operationId"] for name, link in links.items()} == {
        "poll": operations["get"]["operationId"],
        "cancel": operations["delete"]["operationId"],
    }
    for link in links.values():
        assert link["parameters"] == {"task_id": "$response.body#/id"}


@modes.before_the_registry
@pytest.mark.parametrize("kind", PAIRS)
def test_a_poll_is_typed(schema: dict[str, Any], kind: str) -> None:
    operation = schema["paths"][f"/poll-{kind}/{{task_id}}"]["get"]
    assert parameters(operation) == {
        "path task_id", "header Prefer", "query wait", "header If-None-Match", "header Last-Event-ID",
    }  # fmt: skip
    answers = operation["responses"]
    assert set(answers["200"]["headers"]) == set(answers["304"]["headers"]) == RESPONSE_HEADERS
    assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}
    for bodiless in ("204", "304"):
        assert "content" not in answers[bodiless]
        assert answers[bodiless]["description"]
    assert_entry(schema, operation, kind)
    assert_problems(schema, operation, {"400", "404", "406", "410"})


@modes.before_the_registry
@pytest.mark.parametrize("kind", PAIRS)
def test_a_cancel_is_typed(schema: dict[str, Any], kind: str) -> None:
    operation = schema["paths"][f"/poll-{kind}/{{task_id}}"]["delete"]
    assert parameters(operation) == {"path task_id"}
    assert set(operation["responses"]["200"]["headers"]) == {"ETag"}
    assert_entry(schema, operation, kind)
    assert_problems(schema, operation, {"400", "404", "406", "409", "410"})


def test_the_list_is_typed(schema: dict[str, Any]) -> None:
    operation = schema["paths"]["/tasks"]["get"]
    assert parameters(operation) == {"query cursor", "query kind", "query status"}
    choices = {parameter["name"]: set(parameter["schema"].get("enum", ())) for parameter in operation["parameters"]}
    assert choices["kind"] == set(PAIRS)
    assert choices["status"] == {"pending", "completed", "failed", "cancelled"}
    page = body(schema, operation["responses"]["200"])["properties"]
    assert set(page) == {"next", "previous", "results"}
    assert set(resolved(schema, page["results"]["items"])["properties"]) == ENTRY
    assert "text/event-stream" in operation["responses"]["200"]["content"]
    assert_problems(schema, operation, {"400", "406"})


def parameters(operation: dict[str, Any]) -> set[str]:
    """Return the parameters of the operation, each as its location and its name."""
    return {f"{parameter['in']} {parameter['name']}" for parameter in operation["parameters"]}


def assert_entry(schema: dict[str, Any], operation: dict[str, Any], kind: str) -> None:
    """Check that the operation has no body and responds with the entry of the kind."""
    assert "requestBody" not in operation
    entry = body(schema, operation["responses"]["200"])
    assert set(entry["properties"]) == set(entry["required"]) == ENTRY
    assert resolved(schema, entry["properties"]["kind"])["enum"] == [kind]
    statuses = resolved(schema, entry["properties"]["status"])["enum"]
    assert set(statuses) == {"pending", "completed", "failed", "cancelled"}


def assert_problems(schema: dict[str, Any], operation: dict[str, Any], statuses: set[str]) -> None:
    """Check that these are the error statuses, and that each has a typed problem."""
    problems = {status: answer for status, answer in operation["responses"].items() if status[0] in "45"}
    assert set(problems) == statuses
    for answer in problems.values():
        problem = body(schema, answer, "application/problem+json")
        assert {"type", "title", "status", "detail"} == set(problem["required"])
        assert "errors" in problem["properties"]


def test_the_input_of_a_kind_is_typed(schema: dict[str, Any]) -> None:
    (create,) = schema["paths"]["/create-prime-count"].values()
    request = body(schema, create["requestBody"])
    answers = create["responses"]["201"], schema["paths"]["/poll-prime-count/{task_id}"]["get"]["responses"]["200"]
    inputs = [resolved(schema, body(schema, answer)["properties"]["input"]) for answer in answers]
    for fields in (request, *inputs):
        limit = fields["properties"]["limit"]
        assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 0, 10_000_000)
    assert "limit" in request["required"]


@pytest.mark.parametrize("kind", ["task", "prime-count", "echo"])
def test_the_responses_of_the_service_match_the_schema(api: Api, schema: dict[str, Any], kind: str) -> None:
    entry = api.wait(api.create(kind, **({"limit": 10} if kind == "prime-count" else {})))
    operation = schema["paths"][f"/poll-{kind}/{{task_id}}"]["get"]
    properties = body(schema, operation["responses"]["200"])["properties"]
    assert set(entry) == set(properties)
    names = {str: "string", int: "integer", dict: "object", type(None): "null"}
    for name in set(entry) - {"result", "error"}:
        types = resolved(schema, properties[name])["type"]
        assert names[type(entry[name])] in (types if isinstance(types, list) else [types]), name


def test_the_documentation_needs_no_other_server(api: Api, client: Client) -> None:
    answer = api.get("/docs", Accept=BROWSER)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    page = Page(answer.content.decode())
    assert_stands_alone(page, client)
    assert set(re.findall(r"https?://[^/\s\"']*", page.text)) <= {"http://testserver"}
    assert "/schema" in page.text
    assert api.get("/docs/").status_code == 200
