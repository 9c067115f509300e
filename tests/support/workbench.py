"""A manager on a recorded store, and one account of what is told of a task by all witnesses."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import ReadableSpan

from tapescope import DropReason, Reporter, TaskHandle, TaskManager
from tapescope.testing import History, MemoryStore, Recording, check, until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore
from tests.support.captured_telemetry import CapturedTelemetry


class RecordedMemory(Recording, MemoryStore):
    """A memory store that notes its calls."""


class RecordedSqlite(Recording, SqliteStore):
    """A SQLite store that notes its calls."""


class RecordedPostgres(Recording, PostgresStore):
    """A PostgreSQL store that notes its calls."""


RecordedStore = RecordedMemory | RecordedSqlite | RecordedPostgres


def make_store(
    url: str, captured: CapturedTelemetry, history: History | None = None
) -> RecordedStore:
    """The recorded store of a URL; ``memory:`` is the model in memory."""
    scheme = url.partition(":")[0]
    if scheme == "memory":
        return RecordedMemory(telemetry=captured.telemetry, history=history)
    if scheme == "sqlite":
        return RecordedSqlite(url, telemetry=captured.telemetry, history=history)
    return RecordedPostgres(url, telemetry=captured.telemetry, history=history)


@dataclass(frozen=True)
class Account:
    """What the four witnesses of one task say of it."""

    tape: list[str]
    """Its event types."""
    row: tuple[str, str | None]
    """Status and error code."""
    span: tuple[str, str, str | None] | None
    """The run span's status, outcome and ``error.type``; ``None`` when there is none."""
    cancel: tuple[bool, str | None] | None
    """The run span's ``cancel.requested`` and ``cancel.reason``."""
    duration: dict[str, str]
    """The labels of the one point of the duration metric, without the op."""


class Workbench:
    """A manager, its store, and what they told."""

    def __init__(
        self, url: str, store: RecordedStore, captured: CapturedTelemetry, manager: TaskManager
    ) -> None:
        self.url = url
        self.store = store
        self.captured = captured
        self.manager = manager

    def make_other_store(self) -> RecordedStore:
        """Another store on the same database, as another process has it; in the same history."""
        assert self.store.outlives_process
        return make_store(self.url, self.captured, self.store.history)

    def run_spans(self, task_id: str) -> list[ReadableSpan]:
        """The ended run spans of a task."""
        return [
            span
            for span in self.captured.spans()
            if span.name.startswith("run ")
            and (span.attributes or {}).get("tapescope.task.id") == task_id
        ]

    async def body(self, task: TaskHandle, type: str = "final") -> Any:
        """The body of the only event of this type on the task's tape."""
        (body,) = [event.body for event in (await task.tape()).events if event.type == type]
        return body

    async def account(self, task: TaskHandle) -> Account:
        """What is told of the only task of its op, once it has ended."""
        row = await task.status()
        spans = self.run_spans(task.task_id)
        span = cancel = None
        if spans:
            (run,) = spans
            told: Any = run.attributes
            status, error = run.status.status_code.name, told.get("error.type")
            span = (status, told["tapescope.task.outcome"], error)
            requested = told.get("tapescope.cancel.requested", False)
            if requested:
                cancel = (requested, told.get("tapescope.cancel.reason"))
        (point,) = self.captured.points("tapescope.task.duration", task_op=row.op)
        labels = {str(k): str(v) for k, v in point.labels.items() if k != "tapescope.task.op"}
        return Account(
            [event.type for event in (await task.tape()).events],
            (row.status.value, row.error_code),
            span,
            cancel,
            {key.removeprefix("tapescope."): value for key, value in labels.items()},
        )

    async def drops(self, task: TaskHandle) -> dict[DropReason, int]:
        """The task's drops by reason, as the store counts them."""
        return dict((await task.drops()).counts)

    async def zombies_ended(self) -> None:
        """Wait until no fenced runner runs on."""
        await until(
            lambda: all(p.value == 0 for p in self.captured.points("tapescope.task.zombies"))
        )


@asynccontextmanager
async def working(
    url: str, *, readers: Sequence[MetricReader] = (), **settings: Any
) -> AsyncGenerator[Workbench]:
    """A manager at work on the store of ``url``; at the end the history is judged (I1 to I9)."""
    captured = CapturedTelemetry(*readers)
    store = make_store(url, captured)
    try:
        async with store:
            async with TaskManager(store, **settings) as manager:
                bench = Workbench(url, store, captured, manager)
                yield bench
            await bench.zombies_ended()
            # What a runner sent and did not wait for may be on its way past its manager's end.
            await until(lambda: store.meter.ledger.in_flight == 0)
            dropped = sum(p.value for p in captured.points("tapescope.tape.event.dropped"))
            violations = await check(
                store.history, store, spans=captured.spans(), dropped_metric=int(dropped)
            )
    finally:
        captured.close()

    assert violations == [], violations
    assert {p.value for p in captured.points("tapescope.task.active")} <= {0}


class Block:
    """A plain-function runner that ignores every cancel until the test lets it go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()

    def __call__(self, report: Any) -> str:
        """Block the thread."""
        self.begun.set()
        self.released.wait(30)
        return "released"


GRACE = 0.05
"""Seconds of ``cancel_grace`` where a test waits for it to be over."""


def ended(
    outcome: str,
    *,
    error: str | None = None,
    tape: list[str] | None = None,
    reason: str | None = None,
) -> Account:
    """The account of a task that ran and ended so, every witness agreeing."""
    duration = {"task.outcome": outcome}
    if error is not None:
        duration["error.type"] = error
    if outcome == "cancelled":
        duration["cancel.reason"] = str(reason)
    return Account(
        tape or ["task_started", "final"],
        (outcome, error),
        ("ERROR" if outcome == "failed" else "UNSET", outcome, error),
        (True, reason) if reason else None,
        duration,
    )


async def started(task: TaskHandle) -> None:
    """Wait until the runner has put its first event on the tape."""
    async for event in task.follow():
        if event.type != "task_started":
            return


async def wait_for_cancel(report: Reporter) -> None:
    """A runner that says it is there and waits to be cancelled."""
    await report.log("info", "here")
    await asyncio.Event().wait()
