"""A minimal server with two worker processes: `python -m tests.prefork PORT`."""

import os
import signal
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server

from taskproject.wsgi import application

if __name__ == "__main__":
    server = make_server("127.0.0.1", int(sys.argv[1]), application, handler_class=WSGIRequestHandler)
    for _ in range(2):
        if os.fork() == 0:
            server.serve_forever()
    signal.pause()
