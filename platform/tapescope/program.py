"""``run_main``: ``asyncio.run`` for a program whose drivers no signal must interrupt."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine, Iterable
from types import FrameType
from typing import Any, TypeVar

__all__ = ["run_main"]

T = TypeVar("T")


def run_main(
    main: Coroutine[Any, Any, T], *, signals: Iterable[signal.Signals] = (signal.SIGINT,)
) -> T:
    """Run a coroutine as ``asyncio.run`` does, and have signals go through its event loop.

    Each of the first two cancels ``main``: the first so that it closes what it has opened, the
    second so that a manager skips its drain. A third ends the process at once. No exception is
    raised in the midst of a driver's work: ``asyncio.run`` does so with the second Ctrl-C, and
    asyncpg may then crash or hang. A signal that is ignored stays ignored.

    Raises ``KeyboardInterrupt`` when SIGINT has ended ``main``, ``SystemExit`` with 128 and the
    number for another signal. Outside of the main thread no signal can be taken, and none is.
    """
    got: list[int] = []
    loop_task: asyncio.Task[Any] | None = None

    async def run() -> T:
        nonlocal loop_task
        loop_task = asyncio.current_task()
        if got:  # it came before the loop ran
            cancel()
        return await main

    def cancel() -> None:
        if loop_task is not None:
            loop_task.cancel()

    def take(number: int, frame: FrameType | None) -> None:
        got.append(number)
        if len(got) > 2:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif loop_task is not None and not loop_task.done():
            loop_task.get_loop().call_soon_threadsafe(cancel)

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        heard = [number for number in signals if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, take) for number in heard}
    try:
        with asyncio.Runner() as runner:
            return runner.run(run())
    except asyncio.CancelledError:
        if not got:
            raise
        if got[0] == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise SystemExit(128 + got[0]) from None
    finally:
        main.close()  # in case that it was never begun
        for number, handler in before.items():
            signal.signal(number, handler)
