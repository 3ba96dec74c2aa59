"""How a server process ends: it refuses further tasks, lets the running ones end, and exits."""

import logging
import os
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker

from django.conf import settings

from tasks.dispatch import get_dispatcher
from tasks.registry import get_registry

logger = logging.getLogger(__name__)

# So that clients that poll every second still learn how the last tasks ended.
_LAST_POLLS_SECONDS = 1.5
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


def drain_on_signals() -> None:
    """From now on SIGTERM and SIGINT end this process by a drain; a second SIGINT ends it immediately.

    Call it from the main thread before any other thread starts: all threads must leave the signals to the one that
    waits for them. Requests are answered until the end, which comes with exit code 0 after TASK_DRAIN_SECONDS and a
    few seconds at most, whatever the tasks do. Without POSIX signals (Windows) nothing changes.
    """
    if hasattr(signal, "pthread_sigmask"):
        # Starting the resource tracker unblocks both signals in the calling thread, so start it first.
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
        others = "are left to other processes, or to the next start"
        is_shared = get_registry().leases is not None
        logger.info(
            "%s: stopping; %d running tasks have %g seconds to end, %d waiting ones %s",
            signal.Signals(received).name,
            running,
            settings.TASK_DRAIN_SECONDS,
            waiting,
            others if is_shared else "fail as interrupted",
        )
        if not get_dispatcher().drain(settings.TASK_DRAIN_SECONDS):
            logger.warning("Some tasks had not ended and %s", others if is_shared else "failed as interrupted")
        if running or waiting:
            time.sleep(_LAST_POLLS_SECONDS)
        get_registry().close()
    finally:
        _exit(0)


def _exit(code: int) -> None:
    # The interpreter's own exit would wait for a thread that a task occupies.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
