"""Server-sent events (WHATWG HTML, section 9.2): entries, as they change."""

import time
from collections.abc import Iterator
from uuid import UUID

from rest_framework.renderers import BaseRenderer

from tasks.entry import TaskEntry
from tasks.exceptions import TaskNotFound
from tasks.registry import get_registry
from tasks.rest.renderers import as_bytes
from tasks.serializers import represent
from tasks.waiting import Subscription

MEDIA_TYPE = "text/event-stream"

# An idle stream sends a comment this often, so that no proxy closes it.
KEEP_ALIVE_SECONDS = 15
# When a client reconnects after its stream broke off, and after the waiter limit refused one.
_RETRY = b"retry: 1000\n\n"
_RETRY_LATER = b"retry: 5000\n\n"
_KEEP_ALIVE = b": keep-alive\n\n"
_RELOAD = b"event: reload\ndata: {}\n\n"
# The stream of all tasks collects changes during this time.
_GATHER_SECONDS = 0.1


class EventStreamRenderer(BaseRenderer):
    """Lets a client request events by `Accept`; the view then responds with the stream itself."""

    media_type = MEDIA_TYPE
    format = "events"
    charset = None


def of_task(subscription: Subscription, task_id: UUID, known_version: int | None) -> Iterator[float | bytes]:
    """The entry, unless the client knows that version, then each change of it until the task ends."""
    yield _RETRY
    sent_at = time.monotonic()
    while True:
        subscription.read()
        try:
            entry = get_registry().get(task_id)
        except TaskNotFound:
            return
        if entry.version != known_version:
            yield _event(entry)
            known_version, sent_at = entry.version, time.monotonic()
        if entry.ended:
            return
        if time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS:
            yield _KEEP_ALIVE
            sent_at = time.monotonic()
        left = sent_at + KEEP_ALIVE_SECONDS - time.monotonic()
        yield min(left, subscription.recheck_seconds)


def of_all(subscription: Subscription) -> Iterator[float | bytes]:
    """Each entry that is created or changes from now on, without end; rapid changes of one are merged.

    The event `reload` replaces changes that are too many to send.
    """
    yield _RETRY
    while True:
        yield KEEP_ALIVE_SECONDS
        subscription.mute()
        yield _GATHER_SECONDS
        changed = subscription.read()
        yield _RELOAD if changed is None else b"".join(map(_event_of, changed)) or _KEEP_ALIVE


def refused(entry: TaskEntry | None) -> Iterator[bytes]:
    """The current entry alone, where the waiter limit is reached; the client reconnects later."""
    yield _RETRY_LATER
    if entry is not None:
        yield _event(entry)


def _event(entry: TaskEntry) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (entry.version, as_bytes(represent(entry)))


def _event_of(task_id: UUID) -> bytes:
    try:
        return _event(get_registry().get(task_id))
    except TaskNotFound:
        return b""
