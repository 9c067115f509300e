"""``run_main``: signals reach a program through its loop."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys

import pytest

from tapescope import TaskManager, run_main
from tapescope.testing import MemoryStore
from tests.stress.delays import pause_thread

PROGRAM = """
import asyncio, sys
from tapescope import TaskManager, run_main

async def work(report):
    while True:
        await report.emit("tick")

async def main():
    async with TaskManager(sys.argv[1], drain=600) as manager:
        for _ in range(20):
            last = await manager.submit("work", work)
        async for event in last.follow():
            if event.type == "tick":
                break
        print("ready", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            print("closing", flush=True)

run_main(main())
"""


def interrupt(url: str, seconds: float | None) -> int:
    """A program that is interrupted twice; its exit status.

    The second time is once it closes, or after so many seconds.
    """
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            if seconds is None:
                assert process.stdout.readline() == "closing\n"
            else:
                pause_thread(seconds)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode


def end_of(url: str) -> dict[str, int]:
    """How many tasks are in which status."""

    async def count() -> dict[str, int]:
        async with TaskManager(url, work=False) as manager:
            return {status.value: n for status, n in (await manager.store.count()).items() if n}

    return asyncio.run(count())


def test_a_second_interrupt_skips_the_drain(store_url: str) -> None:
    """The program dies of SIGINT as it should, and has ended its tasks before."""
    assert interrupt(store_url, None) == -signal.SIGINT
    assert end_of(store_url) == {"cancelled": 20}


@pytest.mark.slow
def test_interrupts_at_any_moment_crash_nothing(postgres_url: str) -> None:
    """No SIGSEGV, no program that never ends, however the second signal falls."""
    draws = random.Random(7)
    ended = {interrupt(postgres_url, draws.uniform(0, 0.3)) for _ in range(20)}

    assert ended == {-signal.SIGINT}


def test_the_result_comes_back() -> None:
    """Without a signal it is ``asyncio.run``; the handlers are as they were."""
    before = signal.getsignal(signal.SIGINT)

    async def main() -> str:
        async with MemoryStore() as store, TaskManager(store):
            return "done"

    assert run_main(main()) == "done"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_cancels_the_program(number: signal.Signals, raised: type[BaseException]) -> None:
    """It cleans up, and the caller is told in the usual way."""
    told: list[str] = []

    async def main() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("cleaned up")
            raise

    with pytest.raises(raised) as error:
        run_main(main(), signals=[number])

    assert told == ["cleaned up"]
    assert not isinstance(error.value, SystemExit) or error.value.code == 128 + number
