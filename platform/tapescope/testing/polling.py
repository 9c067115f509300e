"""Waiting in a test: for a fact, with a deadline, and for the loop to have nothing left to do."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

__all__ = ["settle_loop", "until"]

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

    For what no event announces to the test: another process, the database, a thread that is on its
    way out. Inside one loop, wait for an ``asyncio.Event`` instead.

    ``within`` is the deadline in seconds of real time, generous because a busy machine is no
    failure; past it the test fails with an ``AssertionError`` that shows the last value. ``pause``
    is what lets time pass between two looks.
    """
    deadline = time.monotonic() + within
    while True:
        answer = fact()
        value = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"{fact!r} was still {value!r} after {within:g} s")
        await pause()


async def settle_loop(turns: int = 5) -> None:
    """Let everything that can go on go on, without letting time pass."""
    for _ in range(turns):
        await asyncio.sleep(0)
