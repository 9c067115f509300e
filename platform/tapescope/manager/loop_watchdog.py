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
"""The part of a lease that a loop may be blocked before it is warned of, however often."""

TOLD_AFTER: Final = 0.7
"""Seconds that a loop may be blocked before it is warned of, whatever the lease."""

_WARN_EVERY: Final = 30.0
"""Seconds between two warnings of blocks that no lease is in danger of; the others are counted."""

_FRAMES: Final = 6
"""Calls of the stack that a warning has, the innermost first."""

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
        self._counted = False
        self._quiet = _WARN_EVERY
        """Seconds since the last warning."""
        self._untold = 0
        """Blocks since then that were not warned of."""

    def check(
        self, loop: asyncio.AbstractEventLoop, find_ops: FindOps, pause: float, late: float
    ) -> None:
        """Check once: ``pause`` seconds after the last check, and ``late`` seconds after its time.

        A watchdog that could not run itself says nothing of the loop.
        """
        self._quiet += pause + late
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
            self._silent, self._warned, self._counted = 0.0, False, False
            if find_ops(None):
                self._answered = False
                with suppress(RuntimeError):  # the loop was closed just now
                    loop.call_soon_threadsafe(self._answer)
            return
        self._silent += pause
        if self._warned or not loop.is_running():
            return
        urgent = self._lease * BLOCKED
        if self._silent >= urgent or (self._silent >= TOLD_AFTER and self._quiet >= _WARN_EVERY):
            self._warned = True
            self._warn(loop, find_ops)
        elif self._silent >= TOLD_AFTER and not self._counted:
            self._counted = True
            self._untold += 1

    def _answer(self) -> None:
        self._answered = True

    def _warn(self, loop: asyncio.AbstractEventLoop, find_ops: FindOps) -> None:
        loop_task = asyncio.current_task(loop)
        culprit = find_ops(loop_task) if loop_task is not None else set[str]()
        more = self._untold - self._counted
        self._quiet, self._untold = 0.0, 0
        _log.warning(
            "The event loop is blocked by %s, for %.3f s by now, %.0f %% of a lease%s; "
            "running here: %s.%s",
            _join(culprit) if culprit else "something",
            self._silent,
            100 * self._silent / self._lease,
            self._find_place(),
            _join(find_ops(None)),
            f" It was blocked {more} times more since the last warning." if more else "",
        )

    def _find_place(self) -> str:
        frame = sys._current_frames().get(self._thread)  # pyright: ignore[reportPrivateUsage]  # documented, for this
        calls: list[str] = []
        while frame is not None and len(calls) < _FRAMES:
            code = frame.f_code
            calls.append(f"{code.co_name} ({PurePath(code.co_filename).name}:{frame.f_lineno})")
            frame = frame.f_back
        return f", in {', called by '.join(calls)}" if calls else ""


def _join(ops: set[str]) -> str:
    return ", ".join(sorted(ops)) or "nothing"
