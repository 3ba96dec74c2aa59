"""Tasks created, read and cancelled from Python, without HTTP; and the one place in which a task ends."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import LazySettings
from rest_framework.serializers import ValidationError

from tasks import service
from tasks.dispatch import get_dispatcher, runner
from tasks.entry import Status, TaskEntry
from tasks.exceptions import DispatcherFull, IdempotencyKeyReused, TaskAlreadyFinished, TaskNotFound
from tasks.kinds import get_kinds
from tasks.registry import Transition, get_registry
from tests import kinds, modes
from tests.helpers import stored, wait_for
from tests.kinds import ECHO, GATE


def end_of(entry: TaskEntry) -> TaskEntry:
    wait_for(lambda: get_registry().get(entry.id).ended)
    return get_registry().get(entry.id)


def test_a_created_task_is_stored_and_run() -> None:
    entry = service.create(ECHO, {"name": "from Python", "tags": ["one"]})
    assert (entry.kind, entry.name, entry.status) == ("echo", "from Python", Status.PENDING)
    last = end_of(service.get(ECHO, entry.id))
    assert last.result["payload"]["tags"] == ["one"]


def test_a_created_task_has_the_id_that_its_caller_chose() -> None:
    task_id = uuid.uuid4()
    assert service.create(ECHO, {"name": "n"}, task_id=task_id).id == task_id


def test_an_invalid_payload_stores_nothing() -> None:
    with pytest.raises(ValidationError):
        service.create(ECHO, {"name": ""})
    assert stored() == {}


def test_a_second_create_with_the_same_key_returns_the_first_task() -> None:
    first = service.create(ECHO, {"name": "n"}, idempotency_key="key")
    second = service.create(ECHO, {"name": "n"}, idempotency_key="key", task_id=uuid.uuid4())
    assert second.id == first.id
    with pytest.raises(IdempotencyKeyReused):
        service.create(ECHO, {"name": "other"}, idempotency_key="key")
    assert stored().keys() == {first.id}


@modes.in_lanes
def test_a_create_that_the_dispatcher_refuses_leaves_nothing_behind(settings: LazySettings) -> None:
    settings.TASK_THREADS = settings.TASK_QUEUE_LIMIT = 1
    get_dispatcher.reset()
    accepted = {service.create(GATE, {"name": "n"}).id for _ in range(2)}
    with pytest.raises(DispatcherFull):
        service.create(GATE, {"name": "n"})
    assert stored().keys() == accepted
    kinds.gate.set()


@modes.in_a_database
def test_creates_with_a_key_run_side_by_side_in_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=10)  # which a lock around the first would break
    add = get_registry().add

    def slow_add(entry: TaskEntry) -> TaskEntry:
        both.wait()
        return add(entry)

    monkeypatch.setattr(get_registry(), "add", slow_add)
    with ThreadPoolExecutor(2) as pool:
        creates = [pool.submit(service.create, ECHO, {"name": "n"}, idempotency_key=key) for key in ("one", "other")]
        assert len({create.result().id for create in creates}) == 2


def test_a_task_of_another_kind_is_not_found() -> None:
    entry = service.create(GATE, {"name": "n"})
    for call in (service.get, service.cancel):
        with pytest.raises(TaskNotFound):
            call(ECHO, entry.id)
    assert service.get(GATE, entry.id).status is Status.PENDING


def test_a_cancelled_task_stays_cancelled() -> None:
    entry = service.create(GATE, {"name": "n"})
    assert service.cancel(GATE, entry.id).status is Status.CANCELLED
    kinds.gate.set()
    with pytest.raises(TaskAlreadyFinished):
        service.cancel(GATE, entry.id)
    assert service.get(GATE, entry.id).status is Status.CANCELLED


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[TaskEntry]:
    """Every entry that comes out of `runner.end` as ended."""
    ended: list[TaskEntry] = []
    end = runner.end

    def recorded(task_id: uuid.UUID, transition: Transition, seen: TaskEntry | None = None) -> TaskEntry:
        entry = end(task_id, transition, seen)
        if entry.ended:
            ended.append(entry)
        return entry

    monkeypatch.setattr(runner, "end", recorded)
    return ended


@modes.in_lanes
def test_every_end_of_a_task_is_made_in_one_place(ends: list[TaskEntry]) -> None:
    payloads: dict[str, dict[str, Any]] = {
        "thread": {},
        "async": {},
        "process": {},
        "broken": {"how": "raise"},
        "thread-timeout": {"do": "check", "seconds": 60},
        "async-timeout": {"do": "sleep", "seconds": 60},
        "process-timeout": {"do": "sleep", "seconds": 60},
    }
    entries = [service.create(get_kinds()[kind], {"name": "n", **payload}) for kind, payload in payloads.items()]
    cancelled = service.create(GATE, {"name": "n"})
    service.cancel(GATE, cancelled.id)
    for entry in entries:
        end_of(entry)
    assert {entry.id: entry.status for entry in ends} == {entry.id: entry.status for entry in stored().values()}
    assert len(ends) == len(entries) + 1


@modes.alone
def test_a_drain_ends_tasks_in_that_place_too(ends: list[TaskEntry]) -> None:
    running = service.create(GATE, {"name": "n"})
    wait_for(lambda: get_registry().get(running.id).started_at)
    get_dispatcher().drain(timeout=0)
    assert [(entry.id, entry.status) for entry in ends] == [(running.id, Status.FAILED)]
