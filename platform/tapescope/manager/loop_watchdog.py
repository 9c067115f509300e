"""The watchdog of an event loop, in another thread: says what blocks the loop, and how long."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePath
from typing import Final

from tapescope_telemetry.logger import Logger

__all__ = ["BLOCKED", "LoopWatchdog"]

_log = Logger("tapescope")

BLOCKED: Final = 1 / 3
"""The part of a lease that a loop may be blocked before it is warned of."""

FindOps = Callable[[object], set[str]]
"""The ops that run now (``None``), or the op of the run whose asyncio task is given."""


class LoopWatchdog:
    """Asks a loop for a sign of life, and warns once of each block, while it lasts."""

    def __init__(self, thread: int, lease: float) -> None:
        self._thread = thread
        self._lease = lease
        self._answered = True
        self._silent = 0.0
        """Seconds without an answer of the loop, in which the watchdog could run."""
        self._warned = False

    def check(
        self, loop: asyncio.AbstractEventLoop, find_ops: FindOps, pause: float, late: float
    ) -> None:
        """Check once: ``pause`` seconds after the last check, and ``late`` seconds after its time.

        A watchdog that could not run itself says nothing of the loop.
        """
        if late > self._lease * BLOCKED:
            _log.warning(
                "This process did not run for %.3f s, %.0f %% of a lease: it was paused, or a call "
                "held the interpreter; running here: %s.",
                late,
                100 * late / self._lease,
                _join(find_ops(None)),
            )
        if self._answered:
            if self._warned:
                _log.warning("The event loop goes on, after %.3f s.", self._silent)
            self._silent, self._warned = 0.0, False
            if find_ops(None):
                self._answered = False
                with suppress(RuntimeError):  # the loop was closed just now
                    loop.call_soon_threadsafe(self._answer)
            return
        self._silent += pause
        if self._silent >= self._lease * BLOCKED and not self._warned and loop.is_running():
            self._warned = True
            self._warn(loop, find_ops)

    def _answer(self) -> None:
        self._answered = True

    def _warn(self, loop: asyncio.AbstractEventLoop, find_ops: FindOps) -> None:
        loop_task = asyncio.current_task(loop)
        culprit = find_ops(loop_task) if loop_task is not None else set[str]()
        _log.warning(
            "The event loop is blocked by %s, for %.3f s by now, %.0f %% of a lease%s; "
            "running here: %s.",
            _join(culprit) if culprit else "something",
            self._silent,
            100 * self._silent / self._lease,
            self._find_place(),
            _join(find_ops(None)),
        )

    def _find_place(self) -> str:
        frame = sys._current_frames().get(self._thread)  # pyright: ignore[reportPrivateUsage]  # documented, for this
        if frame is None:
            return ""
        code = frame.f_code
        return f", in {code.co_name} ({PurePath(code.co_filename).name}:{frame.f_lineno})"


def _join(ops: set[str]) -> str:
    return ", ".join(sorted(ops)) or "nothing"
