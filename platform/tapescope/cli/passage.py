"""Handing a command's output on, byte for byte, without blocking the event loop."""

from __future__ import annotations

import asyncio
import os
import queue
import select
import threading
from contextlib import suppress

__all__ = ["Passage"]


class Passage:
    """Writes to one of our own descriptors, in a thread: it may be a pipe that nobody reads.

    The descriptor is not made non-blocking, for it may be shared with the shell that started us.
    The thread is a daemon: a reader that never reads cannot keep us from ending.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[tuple[bytes, asyncio.Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=f"tapescope-passage-{fd}", daemon=True).start()

    async def write(self, chunk: bytes) -> None:
        """Returns once the chunk is written. Raises ``OSError``."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._waiting.put((chunk, done))
        await done

    def _work(self) -> None:
        while True:
            chunk, done = self._waiting.get()
            error: OSError | None = None
            try:
                self._write(chunk)
            except OSError as raised:
                error = raised
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, done, error)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # somebody else has made it non-blocking
                select.select([], [self._fd], [])


def _settle(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)
