"""What a task and an event cost the event loop, counted: the database answers at once.

No time is taken, so it does not matter what else the machine does. As a program it does so much
work, and prints what it called: ``python -m bench.loop tasks 1000``.
"""

from __future__ import annotations

import asyncio
import cProfile
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tapescope import NewEvent, NewTask, Reporter, TaskManager
from tapescope.store.flush import ClaimAnswer, Flush, FlushAnswer
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore

__all__ = ["WORK", "Cost", "count"]

_AT_ONCE: Final = 100
_BODY: Final = {"message": "x" * 100}


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one task, or of one event."""

    calls: float
    """Calls of functions, Python's own and those of C."""
    instructions: float | None
    """Of the processor; ``None`` where valgrind is not installed."""


class NullBackend(MemoryBackend):
    """Says that it wrote everything, and keeps nothing."""

    async def write(self, flush: Flush) -> FlushAnswer:
        """Answer at once."""
        now = self._context.clock.now()
        first, self._last_key = self._last_key + 1, self._last_key + len(flush.creates)
        return FlushAnswer(
            now,
            keys=range(first, self._last_key + 1),
            claims=[ClaimAnswer(row.attempt + 1, now, now + row.lease, 1) for row in flush.claims],
        )


async def _nothing(report: object) -> None:
    """The runner of a no-op task."""


async def tasks(n: int) -> None:
    """No-op tasks, each submitted and awaited by itself."""

    async def keep_going() -> None:
        for _ in range(n // _AT_ONCE):
            handle = await manager.submit("noop", _nothing)
            await handle.result()

    async with MemoryStore(backend=NullBackend()) as store, TaskManager(store) as manager:
        await asyncio.gather(*(keep_going() for _ in range(_AT_ONCE)))


async def events(n: int) -> None:
    """Events of running tasks, each awaited by its runner."""

    async def work(report: Reporter) -> None:
        for _ in range(n // _AT_ONCE):
            await report.emit("log.line", _BODY)

    async with MemoryStore(backend=NullBackend()) as store, TaskManager(store) as manager:
        for handle in [await manager.submit("work", work) for _ in range(_AT_ONCE)]:
            await handle.result()


async def appends(n: int) -> None:
    """Events by the store's own verb, without a run."""
    async with MemoryStore(backend=NullBackend()) as store:

        async def keep_going() -> None:
            task, _ = await store.create(NewTask(new_task_id(), "bench"))
            claim = await store.claim_if_pending(task, "bench", 3_600)
            assert claim is not None
            for _ in range(n // _AT_ONCE):
                await store.append(claim.attempt, [NewEvent("log.line", _BODY)])

        await asyncio.gather(*(keep_going() for _ in range(_AT_ONCE)))


WORK: Final = {"tasks": tasks, "events": events, "appends": appends}


def count(what: str, few: int, many: int) -> Cost:
    """What one costs: two processes that do so many, and the difference between them."""
    calls = _call(what, many) - _call(what, few)
    instructions: int | None = None
    if shutil.which("valgrind"):
        instructions = _instruct(what, many) - _instruct(what, few)
    each = many - few
    return Cost(calls / each, None if instructions is None else instructions / each)


def _call(what: str, n: int) -> int:
    return int(_run([], what, n).stdout)


def _instruct(what: str, n: int) -> int:
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    told = _run(tool, what, n, "bare").stderr
    found = re.search(r"I +refs: +([\d,]+)", told)
    assert found is not None, told
    return int(found[1].replace(",", ""))


def _run(tool: list[str], what: str, n: int, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*tool, sys.executable, "-m", "bench.loop", what, str(n), *more],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONHASHSEED": "0"},
        check=True,
        capture_output=True,
        encoding="utf-8",
    )


def main(what: str, n: int, *, bare: bool) -> None:
    """Do so much work; print what it called, unless it is to be ``bare``."""
    if bare:
        asyncio.run(WORK[what](n))
        return
    profile = cProfile.Profile()
    profile.runcall(asyncio.run, WORK[what](n))
    print(sum(entry.callcount for entry in profile.getstats()))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), bare=sys.argv[3:] == ["bare"])
