"""The work on Celery workers, on any number of machines. The row is the truth, and a message only a hint to it."""

import asyncio
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import UUID

from celery import Celery
from celery.exceptions import SoftTimeLimitExceeded
from celery.signals import worker_init, worker_process_init, worker_process_shutdown
from django.conf import settings
from django.db import connections
from kombu.messaging import Producer

from tasks import runner
from tasks.checks import obstacle
from tasks.dispatcher import get_dispatcher
from tasks.entry import TaskEntry, TaskFailure
from tasks.exceptions import DispatcherStopping
from tasks.job import Job
from tasks.kinds import get_kinds
from tasks.lanes import LaneCounts
from tasks.maintenance import SWEEP_SECONDS, Custody, Repeater, heartbeat, rescue, sweep
from tasks.once import Once
from tasks.registry import get_registry
from tasks.runner import Outcome
from tasks.timer import Timer

logger = logging.getLogger(__name__)

_MAX_RETRY_AFTER = 30
_STOPPED_RETRY_AFTER = 60
# A code that ignores its time limit loses its process so many seconds later.
_SOFT_LIMIT_LATE_SECONDS = 0.2
_HARD_LIMIT_LATE_SECONDS = 2
_LEAST_VISIBILITY_SECONDS = 3600
# What comes within such a pause after messages were published is published together, which Redis has cheaper.
_PAUSE_SECONDS = 0.02
# A worker gives way to a server on the same machine, but not so far that it could not say that it lives.
_NICENESS = 10

Publish = Callable[[Producer], object]

app = Celery("tasks")
app.config_from_object("django.conf:settings", namespace="CELERY")


@app.on_after_configure.connect
def _hide_messages_long_enough(sender: Celery, **_: Any) -> None:
    # Redis gives a message to a second worker when the first has not acknowledged it by then; that costs a look at the
    # row each time, so it is longer than any task may take.
    longest = max((kind.timeout or 0 for kind in get_kinds().values()), default=0)
    sender.conf.broker_transport_options["visibility_timeout"] = max(2 * longest, _LEAST_VISIBILITY_SECONDS)


@app.task(name="tasks.run")
def run_task(task_id: str) -> None:
    """Make one attempt at the task, unless there is nothing left to do."""
    get_worker().run(UUID(task_id))


class CeleryDispatcher:
    """Publishes messages. A thread of its own does that, so that no request ever waits for the broker.

    What cannot be published now, since the broker is away or too much waits for it, is published by a later sweep.
    """

    def __init__(self) -> None:
        self._to_publish: queue.Queue[Publish | None] = queue.Queue(settings.TASK_QUEUE_LIMIT)
        self._timer = Timer("tasks-timer")
        self._sweeper = Repeater("tasks-sweeper", SWEEP_SECONDS, self._look_after)
        self._start = Once(self._start_threads)
        self._is_away = False
        self.is_stopping = False
        self._publisher: threading.Thread | None = None

    def start(self) -> None:
        self._start()

    def dispatch(self, entry: TaskEntry, delay: float = 0) -> None:
        if self.is_stopping:
            raise DispatcherStopping(_STOPPED_RETRY_AFTER)
        self._start()
        if delay:
            self._timer.call_later(delay, lambda: self._enqueue(partial(_publish, entry)))
        else:
            self._enqueue(partial(_publish, entry))

    def cancel(self, entry: TaskEntry) -> None:
        self._start()
        self._enqueue(lambda _: app.control.revoke(str(entry.id), terminate=True, signal="SIGKILL"))

    def retry_after(self, entry: TaskEntry) -> int:
        """As long again as the task waits or runs by now; nobody here knows more of the workers."""
        return max(1, min(round(entry.due_in or entry.age), _MAX_RETRY_AFTER))

    def drain(self, timeout: float) -> bool:
        self.is_stopping = True
        self._sweeper.stop()
        self._timer.clear()
        self._enqueue(None)
        if thread := self._publisher:
            thread.join(timeout)
        return True

    def counts(self) -> dict[str, LaneCounts]:
        return {}

    def _start_threads(self) -> None:
        self._publisher = threading.Thread(target=self._publish_all, name="tasks-publisher", daemon=True)
        self._publisher.start()
        self._sweeper.start()

    def _look_after(self) -> None:
        sweep()
        rescue(self.dispatch, self._to_publish.maxsize - self._to_publish.qsize())

    def _enqueue(self, publish: Publish | None) -> None:
        try:
            self._to_publish.put_nowait(publish)
        except queue.Full:
            logger.warning("Too much waits for the broker: a task is published later")

    def _publish_all(self) -> None:
        while (publish := self._to_publish.get()) is not None:
            try:
                with app.producer_pool.acquire(block=True) as producer, producer.batch():
                    producer.maybe_declare(app.amqp.queues[settings.CELERY_TASK_DEFAULT_QUEUE])
                    while publish is not None:
                        publish(producer)
                        if self._to_publish.empty():
                            break
                        publish = self._to_publish.get()
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
    # As apply_async does, without what it prepares for results, routes, chains and logs.
    message = app.amqp.create_task_message(
        task_id, run_task.name, (task_id,), {}, argsrepr=task_id, kwargsrepr="", **limits
    )
    app.amqp.send_task_message(producer, run_task.name, message, declare=())


class Worker:
    """What a process of a worker does beside running tasks: it beats, and looks after those of others."""

    def __init__(self) -> None:
        self._timer = Timer("tasks-timer")
        self._custody = Custody()
        # The tasks that run here, and how to stop each. Adding to a dictionary and taking away are atomic.
        self._here: dict[UUID, Callable[[], object]] = {}
        self._heart = heartbeat(lambda: self._custody.beat(set(self._here), get_dispatcher().dispatch, self.cancel))
        get_dispatcher().start()
        self._heart.start()

    def stop(self) -> None:
        self._heart.stop()
        get_dispatcher().drain(settings.TASK_DRAIN_SECONDS)
        get_registry().close()

    def run(self, task_id: UUID) -> None:
        entry = runner.claim(task_id)
        if entry is None:
            return
        self._here[task_id] = _nothing
        seconds = get_kinds()[entry.kind].timeout
        deadline = None if seconds is None else self._timer.call_later(seconds, lambda: self._time_out(entry, seconds))
        try:
            outcome = self._call(entry)
            if outcome is not None and seconds is not None and _is_stopped_by_celery(outcome):
                outcome = _timeout(seconds)
            if outcome is not None:
                _settle(entry, outcome)
        finally:
            if deadline is not None:
                deadline.cancel()
            del self._here[task_id]

    def cancel(self, task_id: UUID | None) -> None:
        """Stop a coroutine whose task has ended; a function is stopped by Celery, with its process."""
        if task_id is not None:
            with suppress(RuntimeError):  # its loop has closed meanwhile: the coroutine has returned
                self._here.get(task_id, _nothing)()

    def _call(self, entry: TaskEntry) -> Outcome | None:
        job = Job(entry)
        if not get_kinds()[entry.kind].is_async:
            return runner.call(entry, job)
        with suppress(asyncio.CancelledError):
            return asyncio.run(self._acall(entry, job))
        return None

    async def _acall(self, entry: TaskEntry, job: Job) -> Outcome:
        loop, work = asyncio.get_running_loop(), asyncio.current_task()
        if work is not None:
            self._here[entry.id] = lambda: loop.call_soon_threadsafe(work.cancel)
        outcome = await runner.acall(entry, job)
        await asyncio.to_thread(job.close)
        return outcome

    def _time_out(self, entry: TaskEntry, seconds: float) -> None:
        # Celery's limits stop the code as well; they know nothing of the entry.
        _settle(entry, _timeout(seconds))
        self.cancel(entry.id)


def _timeout(seconds: float) -> Outcome:
    return Outcome(error=TaskFailure("timeout", f"The attempt took longer than {seconds:g} seconds."))


def _is_stopped_by_celery(outcome: Outcome) -> bool:
    """Whether Celery's limit came first, whose time begins some moments before the claim."""
    return outcome.error is not None and outcome.error.detail.startswith(SoftTimeLimitExceeded.__name__)


def _nothing() -> None:
    """Stops nothing."""


def _settle(entry: TaskEntry, outcome: Outcome) -> None:
    settled = runner.settle(entry, outcome)
    if settled is not None and not settled.ended:
        with suppress(DispatcherStopping):  # a sweep of another process publishes it
            get_dispatcher().dispatch(settled, settled.due_in)


get_worker = Once(Worker)


@worker_init.connect
def _begin_worker(**_: Any) -> None:
    if what := obstacle():
        sys.exit(what)
    os.nice(_NICENESS)


@worker_process_init.connect
def _begin_process(**_: Any) -> None:
    # Celery closes a process's connections after each task, and the whole pool with them; so it has none.
    connections.settings["default"]["OPTIONS"].pop("pool", None)
    connections.settings["default"]["CONN_MAX_AGE"] = None
    get_worker()


@worker_process_shutdown.connect
def _end_process(**_: Any) -> None:
    get_worker().stop()
