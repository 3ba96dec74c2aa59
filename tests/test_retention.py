"""Ended tasks expire, and their files are deleted with them."""

import os
import time
import uuid
from pathlib import Path
from typing import NoReturn

import pytest
from django.conf import LazySettings
from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, default_storage

from tasks.dispatch import get_dispatcher, retention
from tasks.entry import TaskEntry
from tasks.registry import get_registry
from tests import kinds
from tests.helpers import Api, assert_problem, wait_for

HINT = "Create it again"


@pytest.fixture(autouse=True)
def _frequent_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.05)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return tmp_path / "files"


def test_an_ended_task_says_when_it_expires(api: Api) -> None:
    entry = api.create("gate")
    assert api.poll(entry)["expires_at"] is None
    kinds.gate.set()
    assert api.wait(entry)["expires_at"] > api.wait(entry)["finished_at"]


def test_an_expired_task_is_gone_for_the_retention_time_and_then_unknown(api: Api, settings: LazySettings) -> None:
    settings.TASK_RETENTION_SECONDS = 0.3
    entry = api.create("async")
    path = f"/poll-async/{entry['id']}"
    gone = wait_for(lambda: (answer := api.get(path)).status_code == 410 and answer)
    assert_problem(gone, 410, HINT)
    assert_problem(api.delete(entry), 410, HINT)
    wait_for(lambda: api.get(path).status_code == 404)


def test_beyond_the_limit_the_oldest_ended_tasks_and_their_files_are_dropped(
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
def test_the_file_of_a_task_that_was_cancelled_after_writing_it_is_deleted_too(
    api: Api, settings: LazySettings, files: Path, lane: str
) -> None:
    entry = api.create(lane, do="save-then-sleep", seconds=20)
    name = f"{lane}_{entry['id']}.txt"
    wait_for(lambda: (files / name).exists() and (files / name).read_text() == "half")
    settings.TASK_MAX_ENTRIES = 1
    assert api.delete(entry).json()["file_path"] == ""
    api.wait(api.create("async"))
    wait_for(lambda: not (files / name).exists())


def test_files_of_an_earlier_process_are_deleted_once_they_are_old(
    api: Api, settings: LazySettings, files: Path
) -> None:
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


def test_a_missing_folder_for_files_is_no_error(files: Path) -> None:
    assert not files.exists()
    retention.delete_leftover_files()


def test_a_file_that_cannot_be_deleted_does_not_keep_the_others_of_its_purge(
    api: Api, settings: LazySettings, files: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 600)
    get_dispatcher.reset()
    names = [api.wait(api.create("thread", do="save"))["file_path"].removeprefix("files/") for _ in range(3)]
    undeletable = files / names[0]
    undeletable.unlink()
    undeletable.mkdir()
    (undeletable / "in the way").touch()
    settings.TASK_MAX_ENTRIES = 1
    api.wait(api.create("async"))
    retention.sweep()
    assert {file.name for file in files.iterdir()} == {names[0]}
    assert f"{names[0]} could not be deleted, and will be retried" in caplog.text
    (undeletable / "in the way").unlink()
    undeletable.rmdir()
    undeletable.touch()
    os.utime(undeletable, (time.time() - 2 * settings.TASK_RETENTION_SECONDS,) * 2)
    retention.delete_leftover_files()
    assert list(files.iterdir()) == []


class UnlistableStorage(FileSystemStorage):
    def __init__(self, location: Path) -> None:
        super().__init__(location)
        self.calls = 0

    def listdir(self, path: str) -> NoReturn:
        self.calls += 1
        raise NotImplementedError("This storage cannot list its files.")


def test_a_storage_that_cannot_be_listed_does_not_stop_the_sweeps(
    api: Api, settings: LazySettings, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = UnlistableStorage(files)
    monkeypatch.setattr(retention, "default_storage", storage)
    settings.TASK_MAX_ENTRIES = 1
    for _ in range(3):
        api.wait(api.create("thread", do="save"))
        wait_for(lambda: storage.calls)
        api.wait(api.create("async"))
        wait_for(lambda: not any(files.iterdir()))
    assert storage.calls == 1


def test_the_registry_is_requested_only_for_files_that_are_old_enough(
    settings: LazySettings, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"task_{uuid.uuid4()}.json" for _ in range(5)]
    for name in names:
        default_storage.save(name, ContentFile("x"))
    os.utime(files / names[0], (time.time() - 2 * settings.TASK_RETENTION_SECONDS,) * 2)
    requested: list[uuid.UUID] = []
    get = get_registry().get

    def recorded(task_id: uuid.UUID) -> TaskEntry:
        requested.append(task_id)
        return get(task_id)

    monkeypatch.setattr(get_registry(), "get", recorded)
    retention.delete_leftover_files()
    assert [f"task_{task_id}.json" for task_id in requested] == names[:1]
    assert {file.name for file in files.iterdir()} == set(names[1:])
