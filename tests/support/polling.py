"""The one place where a test waits for time to pass: polling a fact, with a deadline.

For what no event announces to the test: another process, the database, a thread that is on its way
out. Inside one loop, wait for an ``asyncio.Event`` instead.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")


async def _moment() -> None:
    await asyncio.sleep(0.002)


Pause = Callable[[], Awaitable[None]]


@overload
async def until(
    fact: Callable[[], Awaitable[T]], *, within: float = 10.0, pause: Pause = _moment
) -> T: ...


@overload
async def until(fact: Callable[[], T], *, within: float = 10.0, pause: Pause = _moment) -> T: ...


async def until(fact: Callable[[], Any], *, within: float = 10.0, pause: Pause = _moment) -> Any:
    """Wait until ``fact()``, or what it returns awaited, is true; give that value.

    ``within`` is the deadline in seconds of real time, generous because a busy machine is no
    failure; past it the test fails with an ``AssertionError`` that shows the last value. ``pause``
    is what lets time pass between two looks.
    """
    deadline = time.monotonic() + within
    while True:
        answer = fact()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"{fact!r} was still {found!r} after {within:g} s")
        await pause()
