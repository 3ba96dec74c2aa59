"""How a server process ends: it takes no more tasks, lets the running ones end, and then it is gone."""

import logging
import os
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker

from django.conf import settings

from tasks.dispatcher import get_dispatcher
from tasks.registry import get_registry

logger = logging.getLogger(__name__)

# So that clients that poll each second still learn how the last tasks ended.
_LAST_POLLS_SECONDS = 1.5
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def drain_on_signals() -> None:
    """From now on SIGTERM and SIGINT end this process by a drain; a second SIGINT ends it at once.

    Call it from the main thread, before any other is started: all threads must leave the signals to the one that
    waits for them. Requests are answered until the end, which comes with exit code 0 after TASK_DRAIN_SECONDS and
    a moment at the most, whatever the tasks do. Without POSIX signals (Windows) nothing changes.
    """
    if hasattr(signal, "pthread_sigmask"):
        # Its start unblocks both signals in the thread that first starts a process, which then would get them.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=_wait, name="tasks-stop", daemon=True).start()


def _wait() -> None:
    received = signal.sigwait(_SIGNALS)
    threading.Thread(target=_drain_and_exit, args=(received,), name="tasks-drain", daemon=True).start()
    while signal.sigwait(_SIGNALS) != signal.SIGINT:
        pass
    _exit(1)


def _drain_and_exit(received: signal.Signals) -> None:
    try:
        lanes = get_dispatcher().counts().values()
        running, waiting = sum(lane.running for lane in lanes), sum(lane.waiting for lane in lanes)
        logger.info(
            "%s: stopping; %d running tasks have %g seconds to end, %d waiting ones are given up",
            signal.Signals(received).name,
            running,
            settings.TASK_DRAIN_SECONDS,
            waiting,
        )
        if not get_dispatcher().drain(settings.TASK_DRAIN_SECONDS):
            shared = get_registry().is_shared
            fate = "left to other processes, or to the next start" if shared else "failed as interrupted"
            logger.warning("Some tasks had not ended and are %s", fate)
        if running or waiting:
            time.sleep(_LAST_POLLS_SECONDS)
        get_registry().close()
    finally:
        _exit(0)


def _exit(code: int) -> None:
    # A task may hold on to a thread that no exit of the interpreter would get past.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
