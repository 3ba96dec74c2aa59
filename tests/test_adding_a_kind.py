"""docs/adding-a-kind.md, followed to the letter, gives endpoints that work, and its examples run as they are."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.helpers import BROWSER, PROJECT, Page, clean_environment
from tests.servers import RUNSERVER, running

_BLOCK = re.compile(r"^`(?P<file>[^`]+)`:\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_AFTER = re.compile(r"after the line `(?P<line>[^`]+)`")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DOCS = (PROJECT / "docs" / "adding-a-kind.md").read_text()
_IMMEDIATE = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "taskproject.settings"
django.setup()
from tasks.dispatch import get_dispatcher
from tasks.dispatch.immediate import ImmediateDispatcher
get_dispatcher.override(ImmediateDispatcher())
"""


def follow_the_steps(checkout: Path) -> None:
    """Make the changes of the first two steps in a copy of the project."""
    steps = _section("## Step 1", "## Step 3")
    new_file, *insertions = _BLOCK.finditer(steps)
    path = checkout / new_file["file"]
    assert not path.exists()
    path.write_text(new_file["code"])
    lines = [match["line"] for match in _AFTER.finditer(steps)]
    assert len(lines) == len(insertions) == 2
    for line, insertion in zip(lines, insertions, strict=True):
        path = checkout / insertion["file"]
        before, found, after = path.read_text().partition(f"\n{line}\n")
        assert found, line
        path.write_text(before + found + insertion["code"] + after)


def write_the_examples(checkout: Path) -> None:
    """Write each file that the rest of the page shows."""
    for example in _BLOCK.finditer(_section("## Step 3")):
        path = checkout / example["file"]
        path.parent.mkdir(exist_ok=True)
        (path.parent / "__init__.py").touch()
        path.write_text(example["code"])


def copy_of_the_project(directory: Path, *more: str) -> Path:
    for name in ("manage.py", "taskproject", "tasks", *more):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        directory.mkdir(exist_ok=True)
        copy(PROJECT / name, directory / name)
    return directory


def _section(first: str, end: str = "") -> str:
    text = _DOCS[_DOCS.index(f"\n{first}") :]
    return text[: text.index(f"\n{end}")] if end else text


def _run(checkout: Path, *arguments: str) -> str:
    """Run Python in the copy of the project; return what it prints."""
    run = subprocess.run(
        [sys.executable, *arguments],
        env=clean_environment(TASK_FILES_ROOT=str(checkout / "files")),
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_following_the_docs_to_the_letter_gives_a_third_pair(tmp_path: Path) -> None:
    checkout = copy_of_the_project(tmp_path / "checkout")
    follow_the_steps(checkout)
    with running(tmp_path / "run", *RUNSERVER, project=checkout) as server:
        entry = server.wait(server.create("word-count", text="the quick brown fox"))
        assert (entry["status"], entry["result"]) == ("completed", {"words": 4})
        assert entry["input"] == {"text": "the quick brown fox"}
        assert server.ask("POST", "/create-word-count", {"name": "x"}).json["errors"] == {
            "text": ["This field is required."]
        }
        paths = server.ask("GET", "/schema").json["paths"]
        assert {"/create-word-count", "/poll-word-count/{task_id}"} <= set(paths)
        assert server.ask("GET", "/docs").status == 200
        page = Page(server.ask("GET", "/create-word-count", Accept=BROWSER).body.decode())
        assert {"name", "text"} <= set(page.fields)


def test_the_kinds_that_the_docs_show_work(tmp_path: Path) -> None:
    checkout = copy_of_the_project(tmp_path / "checkout")
    write_the_examples(checkout)
    paths = ("lanes.LOOK_UP", "lanes.COUNTDOWN", "lanes.LONGEST_CHAIN", "kinds.INVOICE")
    settings = {"TASK_KINDS": ",".join(f"shop.{path}" for path in paths)}
    with running(tmp_path / "run", *RUNSERVER, project=checkout, **settings) as server:
        tasks = [
            server.create("longest-chain", limit=1000),
            server.create("countdown", seconds=1),
            server.create("look-up", host="127.0.0.1"),
            server.create("invoice", day="2026-02-03", amount="12.50"),
            server.create("invoice", day="2026-02-03", amount="0"),
        ]
        chain, countdown, host, invoice, wrong = map(server.wait, tasks)
        assert chain["result"] == {"start": 871, "steps": 178}
        assert (countdown["status"], countdown["message"]) == ("completed", "second 1")
        assert host["result"] == ["127.0.0.1"]
        assert server.ask("GET", f"/{invoice['file_path']}").body == b"2026-02-03: 12.50\n"
        assert wrong["error"] == {"code": "permanent", "detail": "An invoice needs an amount."}


def test_the_code_and_the_test_that_the_docs_show_run(tmp_path: Path) -> None:
    checkout = copy_of_the_project(tmp_path / "checkout", "tests", "pyproject.toml")
    follow_the_steps(checkout)
    write_the_examples(checkout)
    [code] = _PYTHON.findall(_section("## From Python", "## Testing"))
    assert _run(checkout, "-c", _IMMEDIATE + code) == "completed {'words': 4}\n"
    assert "1 passed" in _run(checkout, "-m", "pytest", "--no-cov", "-n", "0", "tests/test_word_count.py")
