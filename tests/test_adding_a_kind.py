"""docs/adding-a-kind.md, followed to the letter, gives a third pair that works everywhere."""

import re
import shutil
from pathlib import Path

from tests.helpers import BROWSER, PROJECT, Page
from tests.servers import RUNSERVER, running

_BLOCK = re.compile(r"^`(?P<file>[^`]+)`:\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_AFTER = re.compile(r"after the line `(?P<line>[^`]+)`")


def follow_the_docs(checkout: Path) -> None:
    """Submit in a copy of the project what the first two steps say."""
    docs = (PROJECT / "docs" / "adding-a-kind.md").read_text()
    steps = docs[docs.index("## Step 1") : docs.index("## Step 3")]
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


def copy_of_the_project(directory: Path) -> Path:
    for name in ("manage.py", "taskproject", "tasks"):
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        directory.mkdir(exist_ok=True)
        copy(PROJECT / name, directory / name)
    return directory


def test_following_the_docs_to_the_letter_gives_a_third_pair(tmp_path: Path) -> None:
    checkout = copy_of_the_project(tmp_path / "checkout")
    follow_the_docs(checkout)
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
