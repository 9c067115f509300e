"""The threads behind the health listener: one waits for connections, one answers each request."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress
from selectors import EVENT_READ, DefaultSelector
from socketserver import TCPServer, ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

__all__ = ["HealthServer"]

_REQUEST_TIMEOUT: Final = 10.0
"""Seconds that a request may take to be sent, and its answer to be read."""
_MAX_REQUESTS: Final = 32
"""Connections at once. One more takes the place of the one that has sent no whole request for the
longest; it is refused where all of them are being answered."""
_MADE_ROOM_WITHIN: Final = 2.0
"""Seconds for the thread of a connection that was closed here to notice."""

_log = Logger("tapescope")


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_TIMEOUT

    def parse_request(self) -> bool:
        """From here on the client is answered, and gives its place to no other."""
        parsed = super().parse_request()
        cast("HealthServer", self.server).note_request(self.connection)
        return parsed

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes and probes come every few seconds: they are not worth a line each."""


class HealthServer(ThreadingMixIn, WSGIServer):
    """One thread for each request, so that a slow client delays no other."""

    daemon_threads = True
    request_queue_size = 128  # with the five of socketserver a burst of clients waits for seconds
    timeout = 0  # do not wait for a connection that is closed before it is accepted
    allow_reuse_port = False  # two processes on one port would answer each other's scrapes in turn

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._host = host
        self._free = threading.Semaphore(_MAX_REQUESTS)
        self._asking: dict[socket.socket, None] = {}
        """Connections without a whole request, the oldest first."""
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Bind without ``HTTPServer``'s question to a name server for this machine's name."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self._host, self.socket.getsockname()[1]
        self.setup_environ()

    def work(self, woken: socket.socket) -> None:
        """Answer until the other end of ``woken`` is closed."""
        with woken, DefaultSelector() as selector:
            selector.register(self.socket, EVENT_READ)
            selector.register(woken, EVENT_READ)
            while not any(key.fileobj is woken for key, _ in selector.select()):
                self.handle_request()

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(0.1)  # no descriptor is free: the connection stays, and the loop would spin
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless too many requests are being answered."""
        if self._free.acquire(blocking=False) or self._make_room():
            with self._lock:
                self._asking[request] = None
            super().process_request(request, client_address)
        else:
            _log.warning(
                "%d requests at once: one more to %s was refused.", _MAX_REQUESTS, self._host
            )
            self.shutdown_request(request)

    def note_request(self, connection: socket.socket) -> None:
        """Its request is whole: it is being answered."""
        with self._lock:
            self._asking.pop(connection, None)

    def _make_room(self) -> bool:
        """Hang up on the client that has been sending its request for the longest.

        So clients that never end one, however many, keep no probe from its answer.
        """
        with self._lock:
            slowest = next(iter(self._asking), None)
            if slowest is None:
                return False
            del self._asking[slowest]
            with suppress(OSError):  # it has hung up itself
                slowest.shutdown(socket.SHUT_RDWR)
        return self._free.acquire(timeout=_MADE_ROOM_WITHIN)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and let one more request in."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.note_request(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a client that went away, or sent no request: a debug line is enough."""
        _log.debug("A request to %s:%s ended early: %r", *client_address[:2], sys.exception())
