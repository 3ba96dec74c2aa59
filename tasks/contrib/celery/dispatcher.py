"""Publishes tasks to Celery workers. The row is the truth, and a message only a hint to it."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from django.conf import settings
from kombu.messaging import Producer

from tasks.contrib.celery.app import RUN_TASK, app
from tasks.dispatch import LaneCounts
from tasks.dispatch.recovery import recovery_thread
from tasks.dispatch.retention import retention_thread
from tasks.entry import TaskEntry
from tasks.exceptions import DispatcherStopping
from tasks.kinds import get_kinds
from tasks.registry import get_registry
from tasks.utils.lazy import RunOnce
from tasks.utils.timer import Timer

logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER = 30
_STOPPED_RETRY_AFTER = 60
# The process of code that ignores its time limit is killed so many seconds later.
_SOFT_LIMIT_LATE_SECONDS = 0.2
_HARD_LIMIT_LATE_SECONDS = 2
# Messages within such a pause after others were published are published together, which costs less on Redis.
_PAUSE_SECONDS = 0.02

Publish = Callable[[Producer], object]


class CeleryDispatcher:
    """Publishes messages in a thread of its own, so that no request ever waits for the broker.

    A task that cannot be published now, since the broker is away or the outbox is full, is published by a later
    recovery.
    """

    def __init__(self) -> None:
        self._outbox: queue.Queue[Publish | None] = queue.Queue(settings.TASK_QUEUE_LIMIT)
        self._timer = Timer("tasks-timer")
        self._services = [retention_thread()]
        if (leases := get_registry().leases) is not None:
            self._services.append(recovery_thread(leases, self.dispatch, self._room))
        self._start = RunOnce(self._start_threads)
        self._is_away = False
        self.is_stopping = False
        self._publisher: threading.Thread | None = None

    def start(self) -> None:
        self._start()

    def dispatch(self, entry: TaskEntry) -> None:
        if self.is_stopping:
            raise DispatcherStopping(_STOPPED_RETRY_AFTER)
        self._start()
        if seconds := entry.delay:
            self._timer.call_later(seconds, lambda: self._enqueue(partial(_publish, entry)))
        else:
            self._enqueue(partial(_publish, entry))

    def cancel(self, entry: TaskEntry) -> None:
        self._start()
        self._enqueue(lambda _: app.control.revoke(str(entry.id), terminate=True, signal="SIGKILL"))

    def retry_after(self, entry: TaskEntry) -> int:
        """As long again as the task has waited or run so far; a server knows no more of the workers."""
        return max(1, min(round(entry.delay or entry.seconds_in_state), _MAX_RETRY_AFTER))

    def drain(self, timeout: float) -> bool:
        self.is_stopping = True
        for service in self._services:
            service.stop()
        self._timer.clear()
        self._enqueue(None)
        if thread := self._publisher:
            thread.join(timeout)
        return True

    def counts(self) -> dict[str, LaneCounts]:
        """The messages that wait to be published, as the lane `broker`; only the workers know what runs."""
        return {"broker": LaneCounts(waiting=self._outbox.qsize(), running=0, orphaned=0)}

    def _start_threads(self) -> None:
        self._publisher = threading.Thread(target=self._publish_all, name="tasks-publisher", daemon=True)
        self._publisher.start()
        for service in self._services:
            service.start()

    def _room(self) -> int:
        return self._outbox.maxsize - self._outbox.qsize()

    def _enqueue(self, publish: Publish | None) -> None:
        try:
            self._outbox.put_nowait(publish)
        except queue.Full:
            logger.warning("The outbox for the broker is full: a task is published later")

    def _publish_all(self) -> None:
        while (publish := self._outbox.get()) is not None:
            try:
                with app.producer_pool.acquire(block=True) as producer, producer.batch():
                    producer.maybe_declare(app.amqp.queues[settings.CELERY_TASK_DEFAULT_QUEUE])
                    while publish is not None:
                        publish(producer)
                        if self._outbox.empty():
                            break
                        publish = self._outbox.get()
            except Exception as error:  # noqa: BLE001 - each broker's library has its own
                if not self._is_away:
                    logger.warning("The broker cannot be reached, and tasks are published later: %r", error)
                self._is_away = True
            else:
                self._is_away = False
            if publish is None:
                return
            time.sleep(_PAUSE_SECONDS)


def _publish(entry: TaskEntry, producer: Producer) -> None:
    task_id, seconds = str(entry.id), get_kinds()[entry.kind].timeout
    limits = {}
    if seconds is not None:
        limits = {
            "soft_time_limit": seconds + _SOFT_LIMIT_LATE_SECONDS,
            "time_limit": seconds + _HARD_LIMIT_LATE_SECONDS,
        }
    # As apply_async does, without the fields for results, routes, chains and logs.
    message = app.amqp.create_task_message(task_id, RUN_TASK, (task_id,), {}, argsrepr=task_id, kwargsrepr="", **limits)
    app.amqp.send_task_message(producer, RUN_TASK, message, declare=())
