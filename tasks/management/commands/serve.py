import socket
from argparse import ArgumentParser
from functools import partial
from math import ceil
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.core.servers.basehttp import get_internal_wsgi_application
from granian import Granian
from granian.constants import Interfaces

from tasks.checks import startup_problem
from tasks.dispatch import get_dispatcher
from tasks.serving.rsgi import RSGIHandler
from tasks.serving.runtime import freeze_loaded_objects, return_freed_memory
from tasks.serving.shutdown import drain_on_signals

# After the drain a worker still answers the last polls and ends its processes.
_KILL_AFTER_DRAIN_SECONDS = 15
# So many connections may be open beside those of waiting clients; Granian delays further ones.
_OTHER_CONNECTIONS = 1024


def _load_application(threads: int) -> Any:
    """Called in the worker process, before it serves."""
    return_freed_memory()
    drain_on_signals()
    get_dispatcher().start()
    handler = RSGIHandler(get_internal_wsgi_application(), threads)
    freeze_loaded_objects()
    return handler


def _refuse_used_address(host: str, port: int) -> None:
    """Granian would share the port with another server, and each would get some of the requests."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise CommandError(
            f"Cannot listen on {host}, port {port}: {reason}. Stop the program that listens there, or choose another "
            "address with --host and --port."
        ) from error


class Command(BaseCommand):
    help = "Serve in production with Granian. On SIGTERM or SIGINT, the server stops when its running tasks have ended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: %(default)s)")
        parser.add_argument(
            "--workers", type=int, default=1, help="the number of server processes (default: %(default)s)"
        )
        parser.add_argument(
            "--threads",
            type=int,
            default=4,
            help="the number of threads in each process that handle requests (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] > 1 and not settings.HAS_DATABASE:
            raise CommandError(
                f"--workers {options['workers']} cannot work while the tasks are kept in memory: a poll may reach a "
                "process that does not know the task. Set DATABASE_URL to keep them in a database, or use "
                "--workers 1; --threads sets how many requests run at the same time."
            )
        for name in ("workers", "threads"):
            if options[name] < 1:
                raise CommandError(f"--{name} is {options[name]}; set it to 1 or more.")
        if problem := startup_problem():
            raise CommandError(problem)
        _refuse_used_address(options["host"], options["port"])
        self.stdout.write(f"Serving at http://{options['host']}:{options['port']}/. /docs documents the API.")
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
