"""Collectors that take nothing: away, silent, cut off, refusing. On free ports of 127.0.0.1."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

__all__ = ["BAD_COLLECTORS", "bad_collector"]

BAD_COLLECTORS = ("away", "silent", "reset", "refusing")


@contextmanager
def bad_collector(kind: str, protocol: str) -> Generator[str]:
    """The endpoint of one: nothing listens; nothing answers; the connection is reset; 503."""
    if kind == "away":
        with socket.socket() as taken:  # bound and not listening: no other process gets the port
            taken.bind(("127.0.0.1", 0))
            yield f"http://127.0.0.1:{taken.getsockname()[1]}"
    elif kind == "refusing":
        refuse = _refusing_grpc if protocol == "grpc" else _refusing_http
        with refuse() as port:
            yield f"http://127.0.0.1:{port}"
    else:
        with _accepting(_reset if kind == "reset" else lambda _: None) as port:
            yield f"http://127.0.0.1:{port}"


def _reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def _accepting(then: Callable[[socket.socket], None]) -> Generator[int]:
    kept: list[socket.socket] = []
    wake, woken = socket.socketpair()

    def work() -> None:
        with selectors.DefaultSelector() as waiting:
            waiting.register(server, selectors.EVENT_READ)
            waiting.register(woken, selectors.EVENT_READ)
            while all(key.fileobj is server for key, _ in waiting.select()):
                connection, _ = server.accept()
                kept.append(connection)
                then(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            wake.send(b".")
            thread.join()
            for one in (*kept, wake, woken):
                one.close()


@contextmanager
def _refusing_http() -> Generator[int]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "0")
            with suppress(OSError):  # who asked has left
                self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass  # the tests' output is not its place

        def handle(self) -> None:
            with suppress(OSError):  # who asked has left
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Unavailable(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def refuse(_: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.UNAVAILABLE, "no room")
            return b""

        make: Any = grpc.unary_unary_rpc_method_handler
        return make(refuse)


@contextmanager
def _refusing_grpc() -> Generator[int]:
    with ThreadPoolExecutor(4) as workers:
        server = grpc.server(workers)
        server.add_generic_rpc_handlers((_Unavailable(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield port
        finally:
            server.stop(None).wait()
