"""The commands of README.md and docs/http.md, run in their order, print what is shown there.

A block of `sh` or `python` that talks to the server is run, and the block without a language that comes next is what it
prints. Of that, whole lines may be left out, a line that begins with one space goes on where the one before was broken,
and `…` stands for anything. Each document has a shell of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.test import Client

from tests import modes
from tests.helpers import PROJECT, assert_problem, clean_environment, stored
from tests.servers import SERVE, Server, running

# Those of the environment that the tests run in come first.
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
MISSING = [name for name in ("bash", "curl", "http") if shutil.which(name, path=PROGRAMS) is None]
needs_programs = pytest.mark.skipif(
    bool(MISSING) and os.environ.get("REQUIRE_SERVICES") != "1",
    reason=f"{' and '.join(MISSING)} missing; http is a part of httpie",
)

# As HTTPie prints at a terminal.
HTTPIE = '{"default_options": ["--print=hb", "--pretty=format", "--ignore-stdin"]}'
NEXT = "\f"

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TALKS = re.compile("localhost:8000|manage.py runtask")
_BREAK = re.compile(r"\n (?! )")
_VARIES = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|(?<=^retry-after: )\d+|(?<=^id: )\d+",
    re.IGNORECASE,
)
# What depends on how far a pending task is.
_SO_FAR = re.compile(r'"(progress|message|attempt|version|started_at)":("[^"]*"|\w+)')


class Example(NamedTuple):
    commands: str
    shown: str


def examples(document: str) -> list[Example]:
    found: list[Example] = []
    talks = False
    for language, text in blocks(document):
        if language:
            talks = _TALKS.search(text) is not None
            if talks:
                found.append(Example(f"python - <<'END'\n{text}END\n" if language == "python" else text, shown=""))
        elif talks:
            found[-1] = found[-1]._replace(shown=text)
            talks = False
    return found


def blocks(document: str) -> list[tuple[str, str]]:
    """The language and the text of each block of code."""
    return BLOCK.findall((PROJECT / document).read_text())


def printed_by(commands: list[str], port: int, home: Path) -> list[str]:
    """Paste them into one shell, where each must succeed, and return what each prints."""
    (home / "config.json").write_text(HTTPIE)
    script = f"printf '{NEXT}'\n".join(commands)
    script = script.replace("localhost:8000", f"localhost:{port}").replace(".venv/bin/python", "python")
    script = script.replace("manage.py runtask", f"manage.py runtask --url http://127.0.0.1:{port}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=clean_environment(PATH=PROGRAMS, HTTPIE_CONFIG_DIR=str(home), NO_PROXY="localhost,127.0.0.1"),
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    printed = ran.stdout.decode().replace("\r", "").replace(f":{port}/", ":8000/")
    assert ran.returncode == 0, printed
    return printed.split(NEXT)


def lines(text: str) -> list[str]:
    """The lines, with a mark in place of parts that differ from run to run."""
    masked = [_VARIES.sub("~", line) for line in text.splitlines()]
    return [_SO_FAR.sub(r'"\1":~', line) if '"status":"pending"' in line else line for line in masked]


def first_missing(shown: str, printed: str) -> str | None:
    """The first of the lines shown that was not printed after those before it."""
    rest = iter(lines(printed))
    for line in lines(_BREAK.sub("", shown)):
        # Servers differ in how they write the names of headers.
        pattern = re.compile(as_pattern(line), re.IGNORECASE)
        if not any(pattern.fullmatch(other) for other in rest):
            return line
    return None


def as_pattern(text: str) -> str:
    return ".*".join(map(re.escape, text.split("…")))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("server"), *SERVE, TASK_STEP_SECONDS="0.3") as server:
        yield server


@needs_programs
@modes.alone
@pytest.mark.parametrize("document", ["README.md", "docs/http.md"])
def test_the_commands_of_a_document_print_what_it_shows(server: Server, tmp_path: Path, document: str) -> None:
    found = examples(document)
    printed = printed_by([example.commands for example in found], server.port, tmp_path)
    assert len(printed) == len(found) > 3
    for example, output in zip(found, printed, strict=True):
        assert example.shown, f"{document} does not show what this prints:\n{example.commands}"
        missing = first_missing(example.shown, output)
        assert missing is None, f"{example.commands}\nprinted\n\n{output}\n\nand not\n\n{missing}"


def test_the_python_of_the_readme_creates_a_task_and_reads_it() -> None:
    (code,) = [text for language, text in blocks("README.md") if language == "python" and "service.create" in text]
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the README's own
    entry = names["entry"]
    assert (entry.kind, entry.name, entry.input) == ("prime-count", "from Python", {"limit": 1000})
    assert entry.id in stored()


def test_the_kind_of_the_readme_is_the_one_that_is_explained() -> None:
    (kind,) = [text for language, text in blocks("README.md") if language == "python" and "class WordCount" in text]
    assert ("python", kind) in blocks("docs/adding-a-kind.md")


class Wrong(NamedTuple):
    """A request, and the status that it gets."""

    status: int
    method: str
    path: str
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = {}


FORM = "application/x-www-form-urlencoded"
WRONG = [
    Wrong(400, "POST", "/create-task", "{}"),
    Wrong(400, "POST", "/create-task", "{"),
    Wrong(400, "POST", "/create-task", "[" * 33 + "]" * 33),
    Wrong(400, "POST", "/create-task", '{"name": "a", "name": "b"}'),
    Wrong(400, "POST", "/create-task", "a", "multipart/form-data"),
    Wrong(400, "POST", "/create-task?wait=soon", '{"name": "a"}'),
    Wrong(400, "POST", "/create-task", '{"name": "a"}', headers={"Idempotency-Key": ""}),
    Wrong(400, "GET", "/poll-task/1"),
    Wrong(400, "GET", "/tasks?kind=none"),
    Wrong(400, "GET", "/tasks?cursor=none"),
    Wrong(400, "GET", "/tasks", headers={"Host": "other.example"}),
    Wrong(403, "POST", "/create-task", "name=a", FORM, headers={"Origin": "http://other.example"}),
    Wrong(404, "GET", "/poll-task/2c54bfa4-6f8e-4b63-a1d0-0f4f0c1c9a52"),
    Wrong(404, "GET", "/nothing"),
    Wrong(405, "PUT", "/create-task", "{}"),
    Wrong(406, "GET", "/tasks", headers={"Accept": "image/png"}),
    Wrong(413, "POST", "/create-task", " " * 65_537),
    Wrong(415, "POST", "/create-task", "a", "text/plain"),
]


def documented(status: int) -> list[str]:
    """The sentences of the table of problems for a status."""
    rows = re.findall(rf"^\| {status} \| (.+?) \| ", (PROJECT / "docs" / "http.md").read_text(), re.MULTILINE)
    assert rows
    return rows


@pytest.mark.parametrize("wrong", WRONG)
def test_the_sentence_of_a_problem_is_in_the_table(client: Client, wrong: Wrong) -> None:
    answer = client.generic(
        wrong.method, wrong.path, wrong.body, content_type=wrong.content_type, headers=wrong.headers
    )
    detail = assert_problem(answer, wrong.status)["detail"]
    assert [row for row in documented(wrong.status) if re.fullmatch(as_pattern(row), detail)], detail


def test_the_terms_of_the_glossary_are_in_alphabetical_order_and_each_is_one_sentence() -> None:
    text = (PROJECT / "docs" / "glossary.md").read_text()
    terms = re.findall(r"^\| ([a-z- ]+) \| (.+) \|$", text, re.MULTILINE)[2:]
    names = [name for name, _ in terms]
    assert len(names) > 30
    assert names == sorted(set(names))
    for name, meaning in terms:
        assert meaning.endswith("."), name
        assert ". " not in meaning, name
