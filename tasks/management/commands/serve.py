import ctypes
import gc
import socket
from argparse import ArgumentParser
from contextlib import suppress
from functools import partial
from math import ceil
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.core.servers.basehttp import get_internal_wsgi_application
from granian import Granian
from granian.constants import Interfaces

from tasks.checks import obstacle
from tasks.dispatcher import get_dispatcher
from tasks.gateway import Gateway
from tasks.stopping import drain_on_signals

# Past the drain a worker still answers the last polls and ends its processes.
_KILL_AFTER_DRAIN_SECONDS = 15
# So many connections there may be beside those of the clients that wait; Granian makes the next ones wait.
_OTHER_CONNECTIONS = 1024
# Of malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8
_TRIM_BYTES = 131_072


def _load_application(threads: int) -> Any:
    """Called in the worker process, before it serves."""
    _give_memory_back()
    drain_on_signals()
    get_dispatcher().start()
    gateway = Gateway(get_internal_wsgi_application(), threads)
    gc.freeze()  # what is loaded stays, and to look through all of it would hold up requests for some 40 ms
    return gateway


def _give_memory_back() -> None:
    """Have glibc keep little of what is freed. By default each of many threads would have freed memory of its own.

    That serves threads that allocate at the same time, which those of one Python interpreter do not.
    """
    with suppress(OSError, AttributeError):  # another C library
        allocator = ctypes.CDLL(None)
        allocator.mallopt(_M_ARENA_MAX, 1)
        allocator.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def _refuse_taken_address(host: str, port: int) -> None:
    """Granian would share the port with another server, and each would get some of the requests."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise CommandError(
            f"Cannot listen at {host}, port {port}: {reason}. Stop what listens there, or choose another address by "
            "--host and --port."
        ) from error


class Command(BaseCommand):
    help = "Serve in production, on Granian. SIGTERM or SIGINT stops it once the running tasks have ended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="the port to listen at (default: %(default)s)")
        parser.add_argument("--workers", type=int, default=1, help="server processes (default: %(default)s)")
        parser.add_argument(
            "--threads",
            type=int,
            default=4,
            help="threads that answer requests, in each process (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] > 1 and not settings.HAS_DATABASE:
            raise CommandError(
                f"--workers {options['workers']} cannot work while the tasks are kept in memory: a poll would ask a "
                "process that never heard of the task. Set DATABASE_URL to keep them in a database, or use "
                "--workers 1; --threads sets how many requests it answers at once."
            )
        for name in ("workers", "threads"):
            if options[name] < 1:
                raise CommandError(f"--{name} is {options[name]}; set it to 1 or more.")
        if what := obstacle():
            raise CommandError(what)
        _refuse_taken_address(options["host"], options["port"])
        self.stdout.write(f"Serving at http://{options['host']}:{options['port']}/, with its API explained at /docs.")
        Granian(
            settings.WSGI_APPLICATION,
            address=options["host"],
            port=options["port"],
            interface=Interfaces.RSGI,
            workers=options["workers"],
            backpressure=settings.TASK_MAX_WAITERS + _OTHER_CONNECTIONS,
            workers_kill_timeout=ceil(settings.TASK_DRAIN_SECONDS) + _KILL_AFTER_DRAIN_SECONDS,
            websockets=False,
        ).serve(target_loader=partial(_load_application, options["threads"]), wrap_loader=False)
