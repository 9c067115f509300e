"""``ManualClock``: time that a test moves on by hand."""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from itertools import count
from typing import Any, Final
from weakref import WeakSet

from tapescope.clock import Clock
from tapescope.errors import BadSetting
from tapescope.store.validation import check_seconds
from tapescope.testing.polling import until

__all__ = ["ManualClock"]

_STEPS: Final = 1_000
"""Steps of an ``advance`` at most: however far it goes, the work of the test has a bound."""
_TURNS: Final = 200
"""Turns of the loop after each step at most, for a runner that is never quiet. A task falls due, is
claimed, run and settled in about thirty where its store is in memory."""
_QUIET: Final = 2
"""Turns in a row in which nothing was begun, after which nothing is left to do: what a timer does
is seen in the turn after it."""
_FORGET_FROM: Final = 1_000
"""Timers that are remembered before those that are over are looked for."""
_REAL_TIME: Final = 0.2
"""Seconds that the thread of a runner has for its work, once, before time goes on without it."""
_THREADS: Final = "tapescope-"
"""How the names of such threads begin."""
_KEPT_AS: Final = "_tapescope_time"


class ManualClock(Clock):
    """Time that goes on by itself, and that ``advance`` moves on by any length at once.

    A ``JudgedManager`` with it, on a store in memory, has all its times by it: delays, retries,
    timeouts, leases, and what its runners sleep. The timers of the event loop in which the manager
    is opened, or ``advance`` is called, go by it from then on, those of others among them.

    Time goes on between two calls of ``advance`` as well, as fast as ever, so that what waits for
    a thread or a socket has its real time.
    """

    def __init__(self) -> None:
        self._ahead = 0.0

    @property
    def ahead(self) -> float:
        """Seconds by which it was moved on."""
        return self._ahead

    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        return super().now() + round(self._ahead * 1_000_000)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return super().monotonic() + self._ahead

    def attach(self) -> None:
        """Have the timers of the running event loop go by it.

        Raises ``BadSetting`` in a loop that is not asyncio's own: its timers cannot be moved.
        """
        _find_loop_time()

    async def advance(self, seconds: float) -> None:
        """Move time on by so many seconds, with no real wait; what falls due meanwhile is done.

        Time goes from timer to timer, in a thousand steps at the most: an act that follows upon
        another one in a long ``advance`` may be late by a thousandth of it. The thread of a runner
        has a fifth of a second, once, before time goes on without it. What takes longer there, or
        waits for a socket, has real time alone: wait for that (``until``) before you go on.

        Raises ``BadSetting`` for a number below 0, and as ``attach`` does.
        """
        left = check_seconds("seconds", seconds)
        loop_time = _find_loop_time()
        least = left / _STEPS
        await loop_time.rest()
        while left > 0:
            step = min(left, max(least, loop_time.find_next()))
            self._ahead += step
            loop_time.ahead += step
            left -= step
            await loop_time.rest()


class _LoopTime:
    """The time of one event loop, which runs ahead, and the timers set in it since."""

    def __init__(self, loop: asyncio.BaseEventLoop) -> None:
        self.ahead = 0.0
        self._read, self._set, self._begin = loop.time, loop.call_at, loop.call_soon
        self._begun = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._number = count()
        self._known = WeakSet[threading.Thread]()
        """Threads of runners that have had their time."""
        self._forget_from = _FORGET_FROM

    def time(self) -> float:
        """In the place of the loop's ``time``."""
        return self._read() + self.ahead

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """In the place of the loop's ``call_at``."""
        timer = self._set(when, callback, *args, context=context)
        if len(self._timers) >= self._forget_from:
            now = self.time()
            self._timers = [one for one in self._timers if one[0] > now and not one[2].cancelled()]
            heapq.heapify(self._timers)
            self._forget_from = max(_FORGET_FROM, 2 * len(self._timers))
        heapq.heappush(self._timers, (when, next(self._number), timer))
        return timer

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """In the place of the loop's ``call_soon``."""
        self._begun += 1
        return self._begin(callback, *args, context=context)

    async def rest(self) -> None:
        """Let what is due be done, in the loop and in the threads of runners."""
        await self.settle()
        while thread := self._find_new_thread():
            self._known.add(thread)
            await _wait_for(thread)
            await self.settle()

    def _find_new_thread(self) -> threading.Thread | None:
        here = threading.current_thread()
        new = (one for one in threading.enumerate() if one not in self._known and one is not here)
        return next((one for one in new if one.name.startswith(_THREADS)), None)

    async def settle(self) -> None:
        """Let everything that can go on go on, without letting time pass."""
        quiet = 0
        for _ in range(_TURNS):
            before = self._begun
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._begun <= before + 1 else 0  # one is this task's own
            if quiet == _QUIET:
                return

    def find_next(self) -> float:
        """Seconds until the next timer that was set since; infinity where there is none."""
        now = self.time()
        while self._timers and (self._timers[0][0] <= now or self._timers[0][2].cancelled()):
            heapq.heappop(self._timers)
        return self._timers[0][0] - now if self._timers else math.inf


def _find_loop_time() -> _LoopTime:
    """The time of the running loop: one for all clocks, kept with it."""
    loop = asyncio.get_running_loop()
    # uvloop's is a subclass of the abstract one alone, and has its timers outside Python.
    if not isinstance(loop, asyncio.BaseEventLoop):
        expected = "asyncio's own: the timers of another one cannot be moved by hand"
        raise BadSetting("the event loop", type(loop).__qualname__, expected)
    kept: _LoopTime | None = vars(loop).get(_KEPT_AS)
    if kept is None:
        kept = _LoopTime(loop)
        ours = {"time": kept.time, "call_at": kept.call_at, "call_soon": kept.call_soon}
        vars(loop).update(ours | {_KEPT_AS: kept})
    return kept


async def _wait_for(thread: threading.Thread) -> None:
    with suppress(AssertionError):  # it takes longer, and is not waited for any more
        await until(lambda: not thread.is_alive(), within=_REAL_TIME)
