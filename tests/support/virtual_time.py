"""An event loop whose time is virtual: a wait of ten seconds takes none.

For tests of patience, backoff and parked calls. When the loop would wait for a timer, the clock
jumps to it; when it would wait for nothing at all, or goes on without a wait, the test fails at
once instead of hanging.
"""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, ParamSpec

from tapescope.clock import Clock

P = ParamSpec("P")


_SPINS: Final = 20_000
"""Turns of the loop that no work takes without a wait: about a second of them."""


class Deadlock(AssertionError):
    """Everything waits, and nothing is left that could end a wait; or what runs never waits."""


class _JumpingSelector(selectors.BaseSelector):
    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self.now = 1_000.0
        self._awake = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Deadlock("every task waits for something that will not come")
        self._awake = 0 if timeout > 0 else self._awake + 1
        if self._awake > _SPINS:
            raise Deadlock(f"the loop spins: it has not slept for {_SPINS:,} turns")
        self.now += max(0.0, timeout)
        return self._inner.select(0)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """A loop whose ``time()`` jumps from timer to timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds of virtual time."""
        return self._jumping.now

    def advance(self, seconds: float) -> None:
        """Let time pass while the caller does not wait."""
        self._jumping.now += seconds


class VirtualClock(Clock):
    """A store's clock that reads the virtual time of the running loop."""

    def now(self) -> int:
        """Microseconds of virtual time."""
        return round(self.monotonic() * 1_000_000)

    def monotonic(self) -> float:
        """Seconds of virtual time."""
        return asyncio.get_running_loop().time()


def advance(seconds: float) -> None:
    """Let virtual time pass at once, as if the machine had been busy."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    loop.advance(seconds)


def run_in_virtual_time(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end in a loop of virtual time."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(work)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Decorate an ``async def`` test: it runs in a loop of virtual time."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        run_in_virtual_time(test(*args, **kwargs))

    return run
