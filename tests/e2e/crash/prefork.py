"""A pre-forking server, as small as they come: imports, listens, forks, and re-forks.

    python -m tests.e2e.crash.prefork WORKERS

Prints its port, then `ready`. A worker that ends is replaced; SIGTERM ends all of them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tests.e2e.crash import wsgi


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def serve_for_ever(listener: socket.socket) -> None:
    server = WSGIServer(listener.getsockname(), _Quiet, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = "127.0.0.1", listener.getsockname()[1]
    server.setup_environ()
    server.set_app(wsgi.application)
    server.serve_forever()


def main(worker_count: int) -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    workers: set[int] = set()
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        for pid in workers:
            os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    print(listener.getsockname()[1])
    while workers or not ending:
        while len(workers) < worker_count and not ending:
            pid = os.fork()
            if not pid:
                signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
                serve_for_ever(listener)
            workers.add(pid)
        print("ready", flush=True)
        workers.discard(os.wait()[0])


if __name__ == "__main__":
    main(int(sys.argv[1]))
