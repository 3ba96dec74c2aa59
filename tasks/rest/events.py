"""Server-sent events (WHATWG HTML, section 9.2): entries, as they change."""

import time
from collections.abc import Iterator
from uuid import UUID

from rest_framework.renderers import BaseRenderer

from tasks.entry import TaskEntry
from tasks.exceptions import TaskNotFound
from tasks.registry import get_registry
from tasks.rest.renderers import as_bytes
from tasks.serializers import EntrySerializer
from tasks.waiting import LOOK_SECONDS, Watcher

MEDIA_TYPE = "text/event-stream"

# So often a stream says something, so that no proxy takes it for dead.
KEEP_ALIVE_SECONDS = 15
# How soon a client comes again after a stream was broken off, and after one for which there was no place.
_RETRY = b"retry: 1000\n\n"
_RETRY_LATER = b"retry: 5000\n\n"
_KEEP_ALIVE = b": still here\n\n"
_RELOAD = b"event: reload\ndata: {}\n\n"
# Changes of all tasks are gathered for so long.
_GATHER_SECONDS = 0.1

_entry = EntrySerializer()


class EventStreamRenderer(BaseRenderer):
    """Lets a client ask for events by `Accept`; the view answers with the stream itself."""

    media_type = MEDIA_TYPE
    format = "events"
    charset = None


def of_task(watcher: Watcher, task_id: UUID, known_version: int | None) -> Iterator[float | bytes]:
    """The entry, unless the client knows that version, and then each change of it; it ends with the task."""
    yield _RETRY
    heard_at = time.monotonic()
    while True:
        watcher.read()
        try:
            entry = get_registry().get(task_id)
        except TaskNotFound:
            return
        if entry.version != known_version:
            yield _event(entry)
            known_version, heard_at = entry.version, time.monotonic()
        if entry.ended:
            return
        if time.monotonic() - heard_at >= KEEP_ALIVE_SECONDS:
            yield _KEEP_ALIVE
            heard_at = time.monotonic()
        left = heard_at + KEEP_ALIVE_SECONDS - time.monotonic()
        yield min(left, LOOK_SECONDS) if get_registry().is_shared else left


def of_all(watcher: Watcher) -> Iterator[float | bytes]:
    """Each entry that was created or has changed since, without end; quick changes of one are one event.

    The event `reload` stands for more of them than can be told.
    """
    yield _RETRY
    while True:
        yield KEEP_ALIVE_SECONDS
        watcher.mute()
        yield _GATHER_SECONDS
        changed = watcher.read()
        yield _RELOAD if changed is None else b"".join(map(_event_of, changed)) or _KEEP_ALIVE


def no_place(entry: TaskEntry | None) -> Iterator[bytes]:
    """What is known now, where too many wait already; the client comes again later."""
    yield _RETRY_LATER
    if entry is not None:
        yield _event(entry)


def _event(entry: TaskEntry) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (entry.version, as_bytes(_entry.to_representation(entry)))


def _event_of(task_id: UUID) -> bytes:
    try:
        return _event(get_registry().get(task_id))
    except TaskNotFound:
        return b""
