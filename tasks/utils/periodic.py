"""Work that is done again and again, in a thread of its own."""

import logging
import threading
from collections.abc import Callable

from tasks.utils.lazy import RunOnce

logger = logging.getLogger(__name__)


class PeriodicThread:
    """Calls `work` every `seconds`, in a thread of that name, from `start` to `stop`. An error never ends it.

    An error of the class `outage` is logged when it first occurs, and again only after `work` has succeeded.
    """

    def __init__(self, name: str, seconds: float, work: Callable[[], object], *, outage: type[Exception]) -> None:
        self._name = name
        self._seconds = seconds
        self._work = work
        self._outage = outage
        self._is_outage = False
        self._stopped = threading.Event()
        self._start = RunOnce(lambda: threading.Thread(target=self._run, name=name, daemon=True).start())

    def start(self) -> None:
        """Start; a second call changes nothing."""
        self._start()

    def stop(self) -> None:
        """Let the thread end after its current call."""
        self._stopped.set()

    def _run(self) -> None:
        while True:
            self._try()
            if self._stopped.wait(self._seconds):
                return

    def _try(self) -> None:
        try:
            self._work()
        except self._outage as error:
            if not self._is_outage:
                logger.warning("%s: %s Retrying.", self._name, error)
            self._is_outage = True
        except Exception:
            logger.exception("%s failed; it will run again", self._name)
        else:
            self._is_outage = False
