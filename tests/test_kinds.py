import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from rest_framework import serializers

from taskproject import environment
from tasks.kinds import get_kinds
from tasks.kinds.base import TaskKind, TaskPayload
from tests import modes
from tests.helpers import PROJECT, clean_environment


async def coroutine(job: Any, payload: Any) -> None:
    """Do nothing."""


KINDS = '''
from tasks.kinds.base import TaskKind

def process(job, payload):
    """Do nothing."""

FIRST = TaskKind(name="shop-task", process=process)
SECOND = TaskKind(name="shop-task", process=process)
DUPLICATE = TaskKind(name="task", process=process)
NO_KIND = 5
'''
BAD_NAME = """
from tasks.kinds.base import TaskKind

INVOICE = TaskKind(name="Shop Invoice", process=print)
"""


def check(tmp_path: Path, command: str = "check", **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of `manage.py` in its own process."""
    (tmp_path / "shop_kinds.py").write_text(KINDS)
    (tmp_path / "shop_bad_name.py").write_text(BAD_NAME)
    return subprocess.run(
        [sys.executable, PROJECT / "manage.py", command],
        env=clean_environment(PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1", **settings),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@modes.before_the_registry
@pytest.mark.parametrize(
    ("setting", "value", "hint"),
    [
        ("TASK_KINDS", "shop_kinds.FIRST,shop_kinds.SECOND", "'shop-task'"),
        ("TASK_KINDS", "shop_kinds.DUPLICATE", "'task'"),
        ("TASK_KINDS", "shop_bad_name.INVOICE", "'Shop Invoice'"),
        ("TASK_KINDS", "shop_nowhere.INVOICE", "'shop_nowhere.INVOICE'"),
        ("TASK_KINDS", "shop_kinds.NOBODY", "'shop_kinds.NOBODY'"),
        ("TASK_KINDS", "shop", "'shop'"),
        ("TASK_KINDS", "shop_kinds.NO_KIND", "int"),
        ("TASK_THREADS", "0", "TASK_THREADS"),
        ("TASK_THREADS", "abc", "TASK_THREADS"),
        ("TASK_STEP_SECONDS", "nan", "TASK_STEP_SECONDS"),
        ("DEBUG", "maybe", "DEBUG"),
    ],
)
def test_an_invalid_setting_stops_the_start_with_one_clear_sentence(
    tmp_path: Path, setting: str, value: str, hint: str
) -> None:
    done = check(tmp_path, **{setting: value})
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("Cannot start: ")
    assert line.endswith(".")
    assert hint in line
    assert done.stdout == ""


def test_the_service_starts_with_a_custom_kind_and_valid_settings(tmp_path: Path) -> None:
    done = check(tmp_path, TASK_KINDS=" shop_kinds.FIRST, ", TASK_THREADS="1", TASK_STEP_SECONDS="0", DEBUG="TRUE")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_an_invalid_kind_stops_a_command_that_runs_no_checks(tmp_path: Path) -> None:
    done = check(tmp_path, "diffsettings", TASK_KINDS="shop_kinds.DUPLICATE")
    assert done.returncode != 0
    assert done.stderr.startswith("Cannot start: ")


@modes.before_the_registry
@pytest.mark.parametrize(
    ("paths", "hint"),
    [
        (["tests.kinds.GATE", "tests.kinds.GATE"], None),
        (["tests.kinds.NOBODY"], "cannot be imported"),
        (["tests.kinds.gate"], "which is a Event"),
        (["tests.bad_kinds.DUPLICATE"], "Two kinds of task are named 'task'"),
    ],
)
def test_every_path_must_lead_to_a_kind_with_a_unique_name(
    settings: LazySettings, paths: list[str], hint: str | None
) -> None:
    settings.TASK_KINDS = paths
    load = get_kinds.build
    if hint is None:
        assert "gate" in load()
    else:
        with pytest.raises(ImproperlyConfigured, match=hint):
            load()


@modes.before_the_registry
@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"process": None}, "`process`"),
        ({"cpu_bound": True, "process": coroutine}, "`cpu_bound`"),
        ({"timeout": 0}, "`timeout`"),
        ({"timeout": float("nan")}, "`timeout`"),
        ({"retries": -1}, "`retries`"),
        ({"retry_delay": -0.1}, "`retry_delay`"),
        ({"max_running": 0}, "`max_running`"),
    ],
)
def test_an_invalid_option_is_refused(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=hint):
        TaskKind(**{"name": "shop", "process": print, **options})


# The values of a setting


@modes.before_the_registry
@pytest.mark.parametrize("value", ["1", "true", "TRUE", " yes ", "On"])
def test_a_flag_can_be_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("X", value)
    assert environment.flag("X") is True


@modes.before_the_registry
@pytest.mark.parametrize("value", ["0", "false", "No", "off", "", "  "])
def test_a_flag_is_off_unless_it_is_set(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("X", value)
    assert environment.flag("X") is False


@modes.before_the_registry
@pytest.mark.parametrize(("value", "number"), [("1", 1), (" 64 ", 64), ("", 7)])
def test_an_integer_is_read(monkeypatch: pytest.MonkeyPatch, value: str, number: int) -> None:
    monkeypatch.setenv("X", value)
    assert environment.integer("X", 7) == number


@modes.before_the_registry
@pytest.mark.parametrize(("value", "number"), [("0", 0), ("0.5", 0.5), (" 1e3 ", 1000), ("", 7)])
def test_seconds_are_read(monkeypatch: pytest.MonkeyPatch, value: str, number: float) -> None:
    monkeypatch.setenv("X", value)
    assert environment.seconds("X", 7) == number


@modes.before_the_registry
@pytest.mark.parametrize(
    ("reader", "values"),
    [
        (environment.flag, ["maybe", "2", "tru"]),
        (partial(environment.integer, default=7), ["0", "-1", "1.5", "abc", "1e3", "nan"]),
        (partial(environment.seconds, default=7), ["-1", "-0.1", "abc", "nan", "inf", "1e10", "1s"]),
    ],
    ids=["flag", "integer", "seconds"],
)
def test_an_invalid_value_is_refused_and_the_error_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, reader: Callable[[str], object], values: list[str]
) -> None:
    for value in values:
        monkeypatch.setenv("X", value)
        with pytest.raises(ImproperlyConfigured, match=rf"^X is '{value}'; set it to .*\.$"):
            reader("X")


# The name and the payload of a kind


class Invoice(TaskPayload):
    number = serializers.IntegerField()


class NoPayload(serializers.Serializer[Any]):
    name = serializers.CharField()


@modes.before_the_registry
@pytest.mark.parametrize("name", ["a", "task", "prime-count", "a1", "a-1-b", "x" * 50])
def test_lower_case_words_joined_by_hyphens_name_a_kind(name: str) -> None:
    assert TaskKind(name=name, process=print).name == name


@modes.before_the_registry
@pytest.mark.parametrize(
    "name",
    [
        "", " ", "Task", "tásk", "a_b", "a--b", "-a", "a-", "1a", "a b", "a/b", "a.b", "a\n", "task\x00", "x" * 51,
        None, 5, b"a",
    ],
    ids=repr,
)  # fmt: skip
def test_any_other_name_is_refused(name: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="lower-case words joined by hyphens"):
        TaskKind(name=name, process=print)


@modes.before_the_registry
@pytest.mark.parametrize("payload", [None, dict, NoPayload, Invoice(), "Invoice"], ids=repr)
def test_a_payload_that_does_not_extend_the_common_one_is_refused(payload: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="TaskPayload"):
        TaskKind(name="invoice", process=print, payload=payload)


def test_a_kind_splits_the_payload_into_name_and_input() -> None:
    entry = TaskKind(name="invoice", process=print, payload=Invoice).new_entry({"name": "x", "number": "7", "other": 1})
    assert (entry.kind, entry.name, entry.input) == ("invoice", "x", {"number": 7})
