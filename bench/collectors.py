"""What a collector does to the work: the same tasks with one that takes all, and with bad ones.

A process a measurement: it sets telemetry up as its variables say, and prints the seconds that the
work took, the seconds of its shutdown, and what was lost.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tapescope import Reporter, TaskManager, Telemetry
from tapescope_telemetry import setup
from tests.support.bad_collectors import BAD_COLLECTORS, bad_collector
from tests.support.services import running_collector

__all__ = ["COLLECTORS", "Course", "measure"]

COLLECTORS: Final = ("off", "takes all", *BAD_COLLECTORS)
_AT_ONCE: Final = 100
_EVENTS: Final = 10


@dataclass(frozen=True)
class Course:
    """How one measurement went."""

    work: float
    """Seconds of the tasks."""
    shutdown: float
    """Seconds of the end."""
    lost: str


def measure(collector: str, protocol: str, url: str, tasks: int) -> Course:
    """Run so many tasks with such a collector."""
    with _endpoint(collector, protocol) as variables:
        done = subprocess.run(
            [sys.executable, __file__, url, str(tasks)],
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the SDK's complaints
            check=True,
        )
    return Course(**json.loads(done.stdout))


@contextmanager
def _endpoint(collector: str, protocol: str) -> Generator[dict[str, str]]:
    if collector == "off":
        yield {}
    elif collector == "takes all":
        with running_collector() as running:
            yield running.variables(protocol, "bench")
    else:
        with bad_collector(collector, protocol) as endpoint:
            yield {
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
            }


async def _work(url: str, telemetry: Telemetry, tasks: int) -> float:
    async def report(reporter: Reporter) -> None:
        for number in range(_EVENTS):
            await reporter.progress("bench", number, _EVENTS)

    async def keep_going(manager: TaskManager, mine: int) -> None:
        for _ in range(mine):
            await (await manager.submit("bench", report)).result()

    async with TaskManager(url, telemetry=telemetry) as manager:
        await keep_going(manager, 10)
        began = time.perf_counter()
        await asyncio.gather(*(keep_going(manager, tasks // _AT_ONCE) for _ in range(_AT_ONCE)))
        return time.perf_counter() - began


def _main(url: str, tasks: int) -> None:
    made = setup()
    work = asyncio.run(_work(url, made.telemetry, tasks))
    began = time.perf_counter()
    lost = made.shutdown()
    print(json.dumps({"work": work, "shutdown": time.perf_counter() - began, "lost": str(lost)}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
