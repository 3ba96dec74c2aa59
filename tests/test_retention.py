"""Ended tasks go, and their files with them."""

import os
import time
import uuid
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from tasks.dispatch import retention
from tasks.registry import get_registry
from tests import kinds
from tests.helpers import Api, assert_problem, wait_for

TOLD_TO = "Create it again"


@pytest.fixture(autouse=True)
def _swift_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.05)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def test_an_ended_task_says_when_it_expires(api: Api) -> None:
    entry = api.create("gate")
    assert api.poll(entry)["expires_at"] is None
    kinds.gate.set()
    assert api.wait(entry)["expires_at"] > api.wait(entry)["finished_at"]


def test_an_expired_task_is_gone_for_as_long_again_and_then_unknown(api: Api, settings: LazySettings) -> None:
    settings.TASK_RETENTION_SECONDS = 0.3
    entry = api.create("async")
    path = f"/poll-async/{entry['id']}"
    gone = wait_for(lambda: (answer := api.get(path)).status_code == 410 and answer)
    assert_problem(gone, 410, TOLD_TO)
    assert_problem(api.delete(entry), 410, TOLD_TO)
    wait_for(lambda: api.get(path).status_code == 404)


def test_past_the_limit_the_oldest_ended_tasks_go_and_their_files(
    api: Api, settings: LazySettings, files: Path
) -> None:
    settings.TASK_MAX_ENTRIES = 2
    live = api.create("gate")
    ended = [api.wait(api.create("thread", do="save")) for _ in range(4)]
    wait_for(lambda: [api.get(f"/poll-thread/{entry['id']}").status_code for entry in ended] == [410, 410, 200, 200])
    kept = {entry["file_path"].removeprefix("files/") for entry in ended[2:]}
    wait_for(lambda: {file.name for file in files.iterdir()} == kept)
    assert api.get(f"/{ended[0]['file_path']}").status_code == 404
    assert api.poll(live)["status"] == "pending"


@pytest.mark.parametrize("lane", ["thread", "async", "process"])
def test_the_file_of_a_task_that_was_cancelled_after_it_wrote_goes_too(
    api: Api, settings: LazySettings, files: Path, lane: str
) -> None:
    entry = api.create(lane, do="save-then-sleep", seconds=20)
    name = f"{lane}_{entry['id']}.txt"
    wait_for(lambda: (files / name).exists() and (files / name).read_text() == "half")
    settings.TASK_MAX_ENTRIES = 1
    assert api.delete(entry).json()["file_path"] == ""
    api.wait(api.create("async"))
    wait_for(lambda: not (files / name).exists())


def test_files_that_an_earlier_process_left_go_once_they_are_old(api: Api, settings: LazySettings, files: Path) -> None:
    kept = api.wait(api.create("thread", do="save"))["file_path"].removeprefix("files/")
    names = {
        "old": f"task_{uuid.uuid4()}.json",
        "young": f"task_{uuid.uuid4()}.json",
        "foreign": "notes.txt",
        "known": kept,
    }
    for what, name in names.items():
        if what != "known":
            default_storage.save(name, ContentFile("x"))
        if what != "young":
            os.utime(files / name, (time.time() - 2 * settings.TASK_RETENTION_SECONDS,) * 2)
    retention.delete_leftover_files()
    assert {file.name for file in files.iterdir()} == set(names.values()) - {names["old"]}


def test_without_a_folder_for_files_there_is_nothing_to_tidy(files: Path) -> None:
    assert not files.exists()
    retention.delete_leftover_files()


def test_a_file_that_cannot_be_deleted_keeps_no_other_one(
    api: Api, settings: LazySettings, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings.TASK_MAX_ENTRIES = 1
    first = api.wait(api.create("thread", do="save"))["file_path"].removeprefix("files/")
    (files / first).unlink()
    (files / first).mkdir()
    (files / first / "in the way").touch()
    api.wait(api.create("thread", do="save"))
    wait_for(lambda: "could not be deleted, and will be retried" in caplog.text)
    second = api.wait(api.create("thread", do="save"))
    api.wait(api.create("async"))
    wait_for(lambda: not (files / second["file_path"].removeprefix("files/")).exists())
    assert len(get_registry()) == 1
