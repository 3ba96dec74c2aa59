"""The pages are true: the files and functions that they name exist, and their links lead somewhere."""

import ast
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import unquote

import pytest

from tasks.entry import TaskEntry
from tests.helpers import PROJECT

DESIGN = PROJECT / "docs" / "design.md"
ROOT_PAGES = [PROJECT / name for name in ("README.md", "README_ru.md", "CONTRIBUTING.md")]
PAGES = [page for page in ROOT_PAGES if page.exists()] + sorted((PROJECT / "docs").glob("*.md"))
MAX_LINES_WITHOUT_CONTENTS = 150
MAX_LINES_OF_A_MODULE = 220

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE_SPAN = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^(#{1,6}) +(.+?)[ #]*$", re.MULTILINE)
_LINK_WITHIN = re.compile(r"\[([^\]]+)\]\(#([^)]+)\)")
_PATH = re.compile(r"(?<![\w/<.-])(?:tasks|taskproject|tests|docs|benchmarks|faults)/(?:[\w./-]*[\w/])?")
_FILE_NAME = re.compile(r"[\w.-]+\.(?:py|md|toml|txt|yaml|svg|png)")
_DRAWN_CALL = re.compile(r" +([\w.]+)\(.*?\) +(\S+\.py)(?:  .*)?")
_DRAWN_ROOM = re.compile(r'(\w+)\["([\w/.]+)"\]')


def shown(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def without_code(page: Path) -> str:
    return _FENCED.sub("", page.read_text())


class Heading(NamedTuple):
    level: int
    text: str
    anchor: str


def headings(page: Path) -> list[Heading]:
    """The headings with the anchors that GitHub gives them."""
    found = []
    earlier: Counter[str] = Counter()
    for marks, text in _HEADING.findall(without_code(page)):
        visible = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        anchor = re.sub(r"[^\w\- ]", "", visible.lower()).replace(" ", "-")
        found.append(Heading(len(marks), text, f"{anchor}-{earlier[anchor]}" if earlier[anchor] else anchor))
        earlier[anchor] += 1
    return found


def contents_of(page: Path) -> tuple[str, list[tuple[str, str]]]:
    """The text before the list of contents, and the entries of the list: the first paragraph of links into the page."""
    text = without_code(page)
    for paragraph in text.split("\n\n"):
        entries = _LINK_WITHIN.findall(" ".join(paragraph.split()))
        if len(entries) > 1:
            return text.partition(paragraph)[0], entries
    return "", []


def leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        return True  # another server's
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(PROJECT) or not file.exists():
        return False
    return not anchor or file.suffix != ".md" or anchor in {heading.anchor for heading in headings(file)}


def section(title: str) -> str:
    """What the design has below a second-level heading."""
    return DESIGN.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def layout() -> Iterator[str]:
    """The paths of the layout, where what is further in belongs to the folder above it."""
    folders: list[str] = []
    for line in section("Layout").splitlines():
        if line.startswith("    "):
            name = line.split()[0]
            del folders[(len(line) - len(line.lstrip()) - 4) // 2 :]
            yield "".join([*folders, name])
            if name.endswith("/"):
                folders.append(name)


def modules() -> list[Path]:
    return [*(PROJECT / "tasks").rglob("*.py"), *(PROJECT / "taskproject").rglob("*.py")]


def is_defined(name: str, file: Path) -> bool:
    """Whether the file defines a function of that name, or a method as in `Class.method`."""
    body: list[Any] = ast.parse(file.read_text()).body
    for part in name.split("."):
        found = [node for node in body if getattr(node, "name", None) == part]
        body = found[0].body if found else []
    return bool(body)


def drawn_rooms() -> tuple[dict[str, str], set[tuple[str, str]]]:
    """The rooms of the drawing, each with its path, and its arrows."""
    lines = section("Rooms and imports").partition("```mermaid\n")[2].partition("```")[0].splitlines()
    rooms = {room: path for line in lines for room, path in _DRAWN_ROOM.findall(line)}
    arrows = set()
    for line in lines:
        importer, arrow, imported = re.sub(r'\["[^"]*"\]', "", line).partition("-->")
        if arrow:
            arrows |= {(importer.strip(), room.strip()) for room in imported.split("&")}
    return rooms, arrows


def imports_between(rooms: dict[str, str]) -> set[tuple[str, str]]:
    """The imports that there are from one room to another."""

    def room_of(module: str) -> str:
        path = module.replace(".", "/")
        return next((room for room, start in rooms.items() if f"{path}/".startswith(start.replace(".py", "/"))), path)

    found = set()
    for file in modules():
        importer = room_of(shown(file).removesuffix(".py"))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and re.match(r"(tasks|taskproject)\b", node.module):
                # `from tasks import service` names the module last.
                names = [f"tasks.{alias.name}" for alias in node.names] if node.module == "tasks" else [node.module]
                found |= {(importer, room_of(name)) for name in names}
    return {(importer, imported) for importer, imported in found if importer != imported}


def test_every_path_that_the_design_names_exists() -> None:
    text = DESIGN.read_text().replace(section("Layout"), "")
    spans = _CODE_SPAN.findall(_FENCED.sub("", text))
    named = {*_PATH.findall(text), *filter(_FILE_NAME.fullmatch, spans)}
    assert len(named) > 30
    assert [path for path in sorted(named) if not (PROJECT / path).exists()] == []


def test_the_layout_names_nothing_that_is_not_there() -> None:
    assert [path for path in layout() if not list(PROJECT.glob(path))] == []


def test_the_layout_has_every_python_file() -> None:
    # The line of a folder stands for its __init__.py.
    files = {shown(file) for file in modules() if file.name != "__init__.py"}
    folders = {f"{shown(file.parent)}/" for file in modules() if file.name == "__init__.py" and file.stat().st_size}
    assert sorted((files | folders) - set(layout())) == []


def test_every_function_that_the_design_draws_is_in_the_file_beside_it() -> None:
    lines = [line for line in section("How a request travels").splitlines() if line.startswith("      ")]
    drawn = [_DRAWN_CALL.fullmatch(line) for line in lines]
    assert [line for line, call in zip(lines, drawn, strict=True) if call is None] == []
    calls = [(call[1], call[2]) for call in drawn if call]
    assert len(calls) > 30
    assert [call for call in calls if not is_defined(call[0], PROJECT / call[1])] == []


def test_the_drawing_of_the_states_has_every_transition_of_an_entry() -> None:
    labels = re.findall(r"-->.*: (.+)", section("The states of a task"))
    transitions = {
        name
        for name, method in inspect.getmembers(TaskEntry, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(method).return_annotation is Self
    }
    assert {name for label in labels for name in label.split(", ")} == transitions


def test_the_arrows_between_the_rooms_are_the_imports_that_there_are() -> None:
    rooms, arrows = drawn_rooms()
    imports = imports_between(rooms)
    assert sorted(arrows - imports) == []
    implied = set(arrows)
    while more := {(a, d) for a, b in implied for c, d in implied if b == c} - implied:
        implied |= more
    assert sorted(imports - implied) == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = [inline or reference for inline, reference in _LINK.findall(_CODE_SPAN.sub("", without_code(page)))]
    assert [target for target in links if not leads_somewhere(page, target)] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_long_page_begins_with_a_list_of_its_sections(page: Path) -> None:
    if page.read_text().count("\n") <= MAX_LINES_WITHOUT_CONTENTS:
        return
    before, contents = contents_of(page)
    # The list may come after the first section, and may also name what is within a section.
    earlier = before.count("\n## ")
    assert earlier <= 1
    sections = [(heading.text, heading.anchor) for heading in headings(page) if heading.level == 2][earlier:]
    anchors = {anchor for _, anchor in sections}
    assert [entry for entry in contents if entry[1] in anchors] == sections


def test_no_module_is_too_long_to_read_in_one_go() -> None:
    lengths = {shown(file): file.read_text().count("\n") for file in (PROJECT / "tasks").rglob("*.py")}
    assert {file: length for file, length in lengths.items() if length > MAX_LINES_OF_A_MODULE} == {}
