"""What a command does that works until a signal: ``worker`` and ``serve``."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tapescope.cli._settings import LogFormat

if TYPE_CHECKING:
    from tapescope.cli._settings import LogLevel

__all__ = ["EndSignals", "start_service_log"]

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def start_service_log(log_format: LogFormat | None, level: LogLevel) -> None:
    """Log to stderr, as text on a terminal and as JSON elsewhere; unless the user has chosen a
    format, or the program has configured a log."""
    if log_format is None and not logging.getLogger().handlers:
        from tapescope.cli._logging import start_logging

        start_logging(LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON, level)


class EndSignals:
    """SIGTERM and Ctrl-C: the first drains, the second skips the drain, the third has no handler.

    Made in the running event loop, from then on.
    """

    def __init__(self, hurry: Callable[[], object] = lambda: None) -> None:
        """``hurry`` is called at the second one."""
        self._hurry = hurry
        self._count = 0
        self._came = asyncio.Event()
        self._closing: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._take)

    async def wait(self) -> None:
        """Until the first one."""
        await self._came.wait()

    async def race(self, work: Coroutine[Any, Any, object]) -> bool:
        """Do this, unless a signal comes first, which cancels it; whether it was done.

        Raises what ``work`` raises.
        """
        working, signalled = asyncio.ensure_future(work), asyncio.ensure_future(self.wait())
        await asyncio.wait([working, signalled], return_when=asyncio.FIRST_COMPLETED)
        done = working.done()
        for waiting in (working, signalled):
            waiting.cancel()
        with suppress(asyncio.CancelledError):
            await working
        return done

    async def close(self, closing: Coroutine[Any, Any, None]) -> None:
        """Do this to its end; the second signal cancels it, and so skips its waits."""
        self._closing = asyncio.ensure_future(closing)
        if self._count > 1:
            self._skip()
        with suppress(asyncio.CancelledError):  # the one of the second signal: all is done by then
            await self._closing

    def _take(self) -> None:
        self._count += 1
        self._came.set()
        if self._count > 1:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._hurry()
            self._skip()

    def _skip(self) -> None:
        if self._closing is not None:
            self._loop.call_soon(self._closing.cancel)  # once it has begun: else it closes nothing
