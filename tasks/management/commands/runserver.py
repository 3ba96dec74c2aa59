import select
import socket
from typing import Any

from django.contrib.staticfiles.management.commands.runserver import Command as RunserverCommand
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer

from tasks.dispatch import get_dispatcher
from tasks.serving.shutdown import drain_on_signals
from tasks.serving.suspend import IS_GONE


class _Server(WSGIServer):
    # The backlog of connections. Beyond it, a client connects only when it retries, a second later.
    request_queue_size = 1024

    def get_request(self) -> Any:
        connection, address = super().get_request()
        # The headers and the body are sent separately. On a kept-alive connection, Nagle's algorithm would delay the
        # body until the client's delayed ACK.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def finish_request(self, request: Any, client_address: Any) -> None:
        # Django would use its own handler here.
        _RequestHandler(request, client_address, self)


class _RequestHandler(WSGIRequestHandler):
    connection: Any  # a socket, although the stubs declare a request

    def get_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environ()
        environ[IS_GONE] = self._is_gone
        return environ

    def _is_gone(self) -> bool:
        """Whether the client has closed the connection, so that the next read returns the end of the stream."""
        try:
            readable, _, _ = select.select([self.connection], [], [], 0)
            return bool(readable) and self.connection.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True


class Command(RunserverCommand):
    server_cls = _Server

    def inner_run(self, *args: Any, **options: Any) -> None:
        # The autoreloader handles the signals itself and kills its child process.
        if not options["use_reloader"]:
            drain_on_signals()
        get_dispatcher().start()
        super().inner_run(*args, **options)
