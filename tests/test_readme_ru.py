"""README_ru.md says the same as README.md, in Russian."""

import re

from tests.helpers import PROJECT
from tests.test_readme import BLOCK, blocks

ENGLISH, RUSSIAN = "README.md", "README_ru.md"


def without_code(document: str) -> str:
    return BLOCK.sub("", (PROJECT / document).read_text())


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def headings(document: str) -> list[tuple[int, str]]:
    """The level of each heading, and its anchor."""
    found = re.findall(r"^(#+) (.+)$", without_code(document), re.MULTILINE)
    return [(len(marks), slug(text)) for marks, text in found]


def links(document: str) -> list[str]:
    """All links, in the order of their targets; one within the document by the number of its heading."""
    anchors = [anchor for _, anchor in headings(document)]
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(document))
    return sorted(
        f"#{anchors.index(target[1:])}" if target.startswith("#") else target
        for target in targets
        if target not in {ENGLISH, RUSSIAN}
    )


def test_both_have_the_same_headings_level_by_level() -> None:
    assert [level for level, _ in headings(RUSSIAN)] == [level for level, _ in headings(ENGLISH)]


def test_both_have_the_same_commands_code_and_responses() -> None:
    assert blocks(RUSSIAN) == blocks(ENGLISH)
    assert len(blocks(RUSSIAN)) > 10


def test_both_have_the_same_links() -> None:
    assert links(RUSSIAN) == links(ENGLISH)


def test_each_links_to_the_other() -> None:
    assert f"]({RUSSIAN})" in (PROJECT / ENGLISH).read_text()
    assert f"]({ENGLISH})" in (PROJECT / RUSSIAN).read_text()


def test_both_have_as_many_rows_and_list_items() -> None:
    english, russian = (re.findall(r"^(\||- )", without_code(name), re.MULTILINE) for name in (ENGLISH, RUSSIAN))
    assert russian == english
