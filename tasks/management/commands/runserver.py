import socket
from typing import Any

from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
from django.core.servers.basehttp import WSGIServer

from tasks.stopping import drain_on_signals


class _Server(WSGIServer):
    # A burst of clients waits in the queue; past it a connection is made a second later.
    request_queue_size = 1024

    def get_request(self) -> Any:
        connection, address = super().get_request()
        # Head and body go out apart; on a kept connection the body would wait for the client's delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address


class Command(RunserverCommand):
    server_cls = _Server

    def inner_run(self, *args: Any, **options: Any) -> None:
        # The autoreloader handles the signals itself, and kills its child.
        if not options["use_reloader"]:
            drain_on_signals()
        super().inner_run(*args, **options)
