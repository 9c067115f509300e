"""A worker that will be paused: ``python -m tests.stress.paused_worker URL TASKS``.

It has registered the ops of its tasks, as the worker that goes on with them. It runs async runners,
threads and shell commands until they are stopped, and prints what the other side is to judge, a
JSON object a line: ``ready`` (its tasks), ``late`` (what became of a report that a stopped runner
still made), ``span`` (each run span that ended), ``ledger`` (at the end).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from itertools import cycle
from typing import Any, Final

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tapescope import EventDropped, Reporter, TaskHandle, TaskManager, find_store
from tapescope.run.reporter import ThreadReporter
from tapescope.shell.command import ShellCommand
from tapescope_telemetry import Telemetry
from tests.stress.delays import pause, pause_thread

__all__ = ["HEARTBEAT", "LEASE", "PARTS", "op_of"]

LEASE: Final = 1.5
HEARTBEAT: Final = 0.3
PARTS: Final = ("async", "thread", "shell")
_BEAT: Final = 0.03
"""Seconds between the reports of a runner."""
_SCRIPT: Final = "sleep 600 & echo pids $$ $!; while :; do echo tick; sleep 0.1; done"
"""A command with a child of its own, which is to end with it."""


def op_of(part: str) -> str:
    """The op of a part."""
    return f"pause-{part}"


def tell(**fact: Any) -> None:
    """Print a fact: in one piece, for threads tell theirs, too."""
    os.write(sys.stdout.fileno(), f"{json.dumps(fact)}\n".encode())


class Teller(SpanExporter):
    """Prints each run span, and notes when as many have ended as there are tasks."""

    def __init__(self, tasks: int) -> None:
        self._left = tasks
        self.ended = asyncio.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Print them."""
        for span in spans:
            if span.name.startswith("run "):
                told = span.attributes or {}
                tell(
                    span=told["tapescope.task.id"],
                    outcome=told["tapescope.task.outcome"],
                    status=span.status.status_code.name,
                )
                self._left -= 1
        if self._left <= 0:
            self.ended.set()
        return SpanExportResult.SUCCESS


async def work(report: Reporter) -> None:
    """Report until refused, or until stopped and once more after that."""
    try:
        try:
            while True:
                await report.log("info", "at work")
                await pause(_BEAT)
        except asyncio.CancelledError:
            await report.log("info", "late")
            tell(late=report.task_id, fate="stored")
            raise
    except EventDropped as drop:
        tell(late=report.task_id, fate=drop.reason.value)


def work_in_thread(report: ThreadReporter) -> None:
    """The same in a thread, which sees its cancel and goes on all the same."""
    try:
        while True:
            report.log("info", "at work")
            pause_thread(_BEAT)
    except EventDropped as drop:
        tell(late=report.task_id, fate=drop.reason.value)


async def is_at_work(task: TaskHandle) -> None:
    """Wait until a task has reported."""
    async for event in task.follow():
        if event.type == "log":
            return


async def main(url: str, tasks: int) -> None:
    """Run the tasks until all of their spans have ended."""
    runners: dict[str, Any] = {
        "async": work,
        "thread": work_in_thread,
        "shell": ShellCommand(_SCRIPT, grace=0.5),
    }
    teller = Teller(tasks)
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(teller))
    telemetry = Telemetry(tracer_provider=tracers, meter_provider=NoOpMeterProvider())
    async with (
        find_store(url, telemetry=telemetry) as store,
        TaskManager(
            store, lease=LEASE, heartbeat=HEARTBEAT, max_running=tasks, max_zombies=tasks
        ) as manager,
    ):
        for part in PARTS:
            manager.op(op_of(part), retries=1)(runners[part])
        made = [
            (part, await manager.submit(op_of(part)))
            for part, _ in zip(cycle(PARTS), range(tasks), strict=False)
        ]
        await asyncio.gather(*(is_at_work(task) for _, task in made))
        tell(ready=[(part, task.task_id) for part, task in made])
        await teller.ended.wait()
    reading = store.meter.ledger.read()  # what was not waited for is decided by now
    tell(ledger=reading.unaccounted, in_flight=reading.in_flight)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
