"""A process that works until it is killed, and tells each answer that its store gave it.

A line of JSON each, in one write, so that a kill leaves a whole one or none: ``made`` (a submit was
answered), ``run`` (an attempt began), ``event`` (a report was answered), ``cancel`` and ``end``.
What was told is what a caller may rely on, whatever happens next.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from multiprocessing.connection import Connection
from typing import Any, Final

from tapescope import Ops, Reporter, TaskManager
from tapescope.errors import TaskCancelled
from tapescope.run.reporter import ThreadReporter
from tests.stress.delays import pause

__all__ = ["PARTS", "Workshop", "live"]

PARTS: Final = ("async", "thread", "flaky", "cancelled")
"""Kinds of tasks: ``flaky`` fails twice, ``cancelled`` is cancelled at a random moment."""
LEASE: Final = 15.0
HEARTBEAT: Final = 1.0
_AT_ONCE: Final = 6
_RETRIES: Final = 10_000
"""More than kills: a task ends as failed only where something is wrong."""
_FAILURES: Final = 2
_MOST_REPORTS: Final = 12


class Workshop:
    """The ops, as each process of an attack has them, and where they tell their answers."""

    def __init__(self, tell: int | None) -> None:
        """``tell``: a file descriptor, of a pipe; ``None``: nobody listens."""
        self._tell = tell
        self.ops = Ops()
        self.ops.op("async", retries=_RETRIES)(self.work)
        self.ops.op("thread", retries=_RETRIES)(self.work_in_thread)
        self.ops.op("flaky", retries=_RETRIES)(self.fail_twice)
        self.ops.op("cancelled", retries=_RETRIES)(self.work)

    def make_manager(self, url: str) -> TaskManager:
        """A manager with these ops."""
        return TaskManager(
            url, ops=self.ops, lease=LEASE, heartbeat=HEARTBEAT, max_running=8, retry_delay=0.002
        )

    def tell(self, *fact: Any) -> None:
        """Say what is certain from now on."""
        if self._tell is not None:
            os.write(self._tell, f"{json.dumps(fact)}\n".encode())

    async def work(self, report: Reporter, reports: int) -> int:
        """So many reports, each awaited."""
        self.tell("run", report.task_id, report.attempt)
        for number in range(reports):
            await report.log("info", str(number))
            self.tell("event", report.task_id, report.attempt, number)
        return reports

    def work_in_thread(self, report: ThreadReporter, reports: int) -> int:
        """The same in a thread."""
        self.tell("run", report.task_id, report.attempt)
        for number in range(reports):
            report.log("info", str(number))
            self.tell("event", report.task_id, report.attempt, number)
        return reports

    async def fail_twice(self, report: Reporter, reports: int) -> int:
        """The same, and the first attempts fail at the end of it."""
        done = await self.work(report, reports)
        if report.attempt <= _FAILURES:
            raise OSError("as it is meant to")
        return done


async def _make_tasks(manager: TaskManager, shop: Workshop, chance: random.Random) -> None:
    while True:
        part = chance.choice(PARTS)
        handle = await manager.submit(part, params={"reports": chance.randrange(_MOST_REPORTS)})
        shop.tell("made", handle.task_id, part)
        if part == "cancelled":
            await pause(chance.uniform(0, 0.02))
            answer = await handle.cancel("torture")
            shop.tell("cancel", handle.task_id, answer.state.value)
        try:
            await handle.result()
        except TaskCancelled:
            shop.tell("end", handle.task_id, "cancelled")
        else:
            shop.tell("end", handle.task_id, "succeeded")


async def _live(url: str, seed: int, fd: int) -> None:
    shop, chance = Workshop(fd), random.Random(seed)
    async with shop.make_manager(url) as manager, asyncio.TaskGroup() as makers:
        for _ in range(_AT_ONCE):
            makers.create_task(_make_tasks(manager, shop, random.Random(chance.random())))


def live(url: str, seed: int, answers: Connection) -> None:
    """Work on this store until the process is killed."""
    asyncio.run(_live(url, seed, answers.fileno()))


if __name__ == "__main__":
    asyncio.run(_live(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
