"""Where something was opened: the event loop and the process that it belongs to from then on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from tapescope.errors import UsedAfterFork, UsedInAnotherLoop

__all__ = ["Home"]


class Home:
    """The running event loop and this process, for ``check`` to compare with those of a caller."""

    __slots__ = ("_loop", "_pid", "_what")

    def __init__(self, what: str) -> None:
        """``what`` is the word for it in an error: ``store``, ``manager``."""
        self._what = what
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()

    @property
    def is_gone(self) -> bool:
        """Whether the loop is closed: what still ends there ends without it."""
        return self._loop.is_closed()

    def check(self) -> None:
        """Raise ``UsedAfterFork`` or ``UsedInAnotherLoop`` for a caller that is not at home."""
        if os.getpid() != self._pid:
            raise UsedAfterFork(self._what)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # a caller without a loop
            loop = None
        if loop is not self._loop:
            raise UsedInAnotherLoop(self._what)

    def call(self, work: Callable[[], object]) -> None:
        """Call it here where this is home, soon where the caller is in another thread or loop; not
        in another process, nor where the loop is closed."""
        try:
            self.check()
        except UsedAfterFork:
            return
        except UsedInAnotherLoop:
            with suppress(RuntimeError):  # closed: nothing is left to be told
                self._loop.call_soon_threadsafe(work)
        else:
            work()
