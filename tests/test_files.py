from pathlib import Path
from typing import Any

import pytest

from tests import kinds, modes
from tests.helpers import BROWSER, Api, assert_problem, read, wait_for

HIDDEN = "Nobody may read this."
UNKNOWN = "2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"


@pytest.fixture
def completed(api: Api, tmp_path: Path) -> dict[str, Any]:
    """Return a completed task; there are also files that are not its own in the root and beside it."""
    entry = api.wait(api.create())
    for name in (
        "secret.json",
        "files/secret.json",
        "files/.secret",
        f"files/task_{UNKNOWN}.json",
        "files/sub/secret.json",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(HIDDEN)
    return entry


def test_the_file_of_a_task_contains_both_of_its_steps(api: Api) -> None:
    entry = api.wait(api.create())
    answer = api.get("/" + entry["file_path"])
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == f'inline; filename="task_{entry["id"]}.json"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    body = read(answer)
    assert int(answer["Content-Length"]) == len(body)
    assert body == b'{"1":"first step for %(id)s","2":"second step for %(id)s"}' % {b"id": entry["id"].encode()}


def test_each_task_has_its_own_file(api: Api) -> None:
    entries = [api.wait(api.create()) for _ in range(3)]
    bodies = [read(api.get("/" + entry["file_path"])).decode() for entry in entries]
    assert all(entry["id"] in body for entry, body in zip(entries, bodies, strict=True))


def test_a_trailing_slash_makes_no_difference(api: Api, completed: dict[str, Any]) -> None:
    assert completed["id"] in read(api.get(f"/{completed['file_path']}/")).decode()


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".html", ".tar.gz", ".unknowntype"])
def test_a_file_can_be_read_after_its_task_has_completed(api: Api, suffix: str) -> None:
    entry = api.create("filing", suffix=suffix)
    path = f"/files/filing_{entry['id']}{suffix}"
    filed = wait_for(lambda: (now := api.poll(entry))["message"] == "at the gate" and now)
    assert filed["file_path"] == ""
    assert_problem(api.get(path), 404)
    kinds.gate.set()
    done = api.wait(entry)
    assert "/" + done["file_path"] == path
    answer = api.get(path)
    assert answer.status_code == 200
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert read(answer) == b"kept"


@pytest.mark.parametrize(
    "accept", ["*/*", BROWSER, "application/json", "text/plain", "image/avif,image/webp,*/*;q=0.8", "image/png"]
)
def test_a_file_is_sent_unchanged_whatever_the_accept_header(api: Api, completed: dict[str, Any], accept: str) -> None:
    answer = api.get("/" + completed["file_path"], Accept=accept)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/json"
    assert completed["id"] in read(answer).decode()


def test_a_head_response_has_no_body(api: Api, completed: dict[str, Any]) -> None:
    answer: Any = api.client.head("/" + completed["file_path"])
    assert answer.status_code == 200
    assert int(answer["Content-Length"]) > 0
    assert not read(answer) if answer.streaming else not answer.content


def test_a_missing_file_is_not_found(api: Api, completed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / completed["file_path"]).unlink()
    assert_problem(api.get("/" + completed["file_path"]), 404)


def test_a_file_is_read_only(api: Api, completed: dict[str, Any]) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert_problem(api.client.generic(method, "/" + completed["file_path"]), 405, "GET")
    assert completed["id"] in read(api.get("/" + completed["file_path"])).decode()


@modes.before_the_registry
@pytest.mark.parametrize("name", [
    # Files in the root that are no completed task's result.
    "secret.json", ".secret", f"task_{UNKNOWN}.json", "sub", "sub/secret.json", "sub%2fsecret.json", ".", "%2e",
    # Other names of a completed task.
    "task_{id}.txt", "task_{id}", "task_{id}.json.", "task_{id}.json%20", "task_{id}.json%00", "task_{id}.JSON",
    "prime-count_{id}.json", "x_{id}.json", "Task_{id}.json", "{id}.json", "task_{id}_{id}.json", "task_{ID}.json",
    # Ways out of the root.
    "../secret.json", "..%2fsecret.json", "%2e%2e/secret.json", "%2e%2e%2fsecret.json", "..%252fsecret.json",
    "%252e%252e%252fsecret.json", "..\\secret.json", "..%5csecret.json", "....//secret.json",
    "%c0%ae%c0%ae/secret.json",
    "%c0%ae%c0%ae%c0%afsecret.json", "..%c0%afsecret.json", "..%ef%bc%8fsecret.json", "..;/secret.json",
    "./../secret.json", "sub/../../secret.json", "sub%2f..%2f..%2fsecret.json", "..", "%2e%2e", "../", "..%2f",
    # Ways out that begin or end with a valid name.
    "task_{id}.json/../secret.json", "task_{id}.json%2f..%2fsecret.json", "task_{id}.json/../../secret.json",
    "task_{id}.json%2f..%2f..%2fsecret.json", "..%2ftask_{id}.json", "../secret.json%00task_{id}.json",
    "..%2fsecret.json%00_{id}.json", "..%2fsecret_{id}.json",
    "_{id}.%2f..%2f..%2fsecret.json", "..%5ctask_{id}.json",
    # Absolute paths.
    "{root}/secret.json", "%2f{root}%2fsecret.json", "{encoded}", "%2fetc%2fpasswd", "//etc/passwd",
    "file:%2f%2f{encoded}",
    # Bytes that a file system rejects.
    "%00", "secret.json%00", "secret.json%00.json", "..%00/secret.json", "%0a", "%ff%fe",
    "x" * 300, "x_{id}." + "x" * 5000,
])  # fmt: skip
def test_no_name_leads_to_anything_but_a_result_file(
    api: Api, completed: dict[str, Any], tmp_path: Path, name: str
) -> None:
    encoded = str(tmp_path / "secret.json").replace("/", "%2f")
    task_id = completed["id"]
    path = name.format(id=task_id, ID=task_id.upper(), root=tmp_path, encoded=encoded)
    answer = api.get(f"/files/{path}")
    assert_problem(answer, 404)
    assert HIDDEN not in answer.content.decode()
