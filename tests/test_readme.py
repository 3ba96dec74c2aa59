"""The README's commands, run in their order, print what it shows.

A block of `sh` or `python` that talks to the server is run, and the block without a language that comes next is what it
prints. Of that, whole lines may be left out, a line that begins with one space goes on where the one before was broken,
and `…` stands for anything.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import modes
from tests.helpers import PROJECT, clean_environment
from tests.servers import SERVE, running

# Those of the environment that the tests run in come first.
PROGRAMS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
MISSING = [name for name in ("bash", "curl", "http") if shutil.which(name, path=PROGRAMS) is None]
if MISSING and os.environ.get("REQUIRE_SERVICES") != "1":
    pytest.skip(f"{' and '.join(MISSING)} missing; http is a part of httpie", allow_module_level=True)

# As HTTPie prints at a terminal.
HTTPIE = '{"default_options": ["--print=hb", "--pretty=format", "--ignore-stdin"]}'
NEXT = "\f"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
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


def examples() -> list[Example]:
    found: list[Example] = []
    talks = False
    for language, text in _BLOCK.findall((PROJECT / "README.md").read_text()):
        if language:
            talks = _TALKS.search(text) is not None
            if talks:
                found.append(Example(f"python - <<'END'\n{text}END\n" if language == "python" else text, shown=""))
        elif talks:
            found[-1] = found[-1]._replace(shown=text)
            talks = False
    return found


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
    """The lines, with a mark in place of what another run prints otherwise."""
    masked = [_VARIES.sub("~", line) for line in text.splitlines()]
    return [_SO_FAR.sub(r'"\1":~', line) if '"status":"pending"' in line else line for line in masked]


def first_missing(shown: str, printed: str) -> str | None:
    """The first of the lines shown that was not printed after those before it."""
    rest = iter(lines(printed))
    for line in lines(_BREAK.sub("", shown)):
        # Servers differ in how they write the names of headers.
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))), re.IGNORECASE)
        if not any(pattern.fullmatch(other) for other in rest):
            return line
    return None


@modes.alone
def test_the_commands_of_the_readme_print_what_it_shows(tmp_path: Path) -> None:
    found = examples()
    with running(tmp_path / "server", *SERVE, TASK_STEP_SECONDS="0.3") as server:
        printed = printed_by([example.commands for example in found], server.port, tmp_path)
    assert len(printed) == len(found) > 10
    for example, output in zip(found, printed, strict=True):
        missing = first_missing(example.shown, output)
        assert missing is None, f"{example.commands}\nprinted\n\n{output}\n\nand not\n\n{missing}"
