"""The stores that are stressed: recorded, with telemetry of their own; and one that is broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tapescope.codec import encode
from tapescope.model.answers import Finished
from tapescope.model.tape import FINAL
from tapescope.model.tasks import Attempt, CancelReason, FinalEvent, TaskStatus
from tapescope.store.flush import CancelAnswer, EventRow
from tapescope.store.notifications import Change
from tapescope.store.port import TaskStore
from tapescope.testing import History, MemoryBackend, MemoryStore, Recording
from tapescope.testing._tables import Record
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore
from tapescope_telemetry import Telemetry
from tests.stress.delays import pause
from tests.support.faulty_telemetry import Fault, FaultyTelemetry

__all__ = ["STORES", "Bench", "TwoTransactionStore", "open_bench"]


class RecordedMemory(Recording, MemoryStore):
    """Memory, recorded."""


class RecordedSqlite(Recording, SqliteStore):
    """SQLite, recorded."""


class RecordedPostgres(Recording, PostgresStore):
    """PostgreSQL, recorded."""


class TwoTransactionStore(MemoryStore):
    """What tapescope exists to prevent: the status first, the ``final`` second, a cancel between.

    Its cancel is the common one: it cancels the asyncio task that is at work. The harness must find
    terminal rows without a ``final`` on it, or it would not find them elsewhere.
    """

    _COMMIT: Final = 0.001
    """Seconds that the second transaction takes to begin."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._finishing: dict[str, asyncio.Task[Finished]] = {}

    async def finish_if_running(self, attempt: Attempt, final: FinalEvent) -> Finished:
        """End the task in two transactions."""
        assert isinstance(self.backend, MemoryBackend)
        record = self.backend.find(attempt.task_id)
        assert record is not None
        status = TaskStatus(final.outcome.value)
        record.task = replace(record.task, status=status, finished_us=self.clock.now())
        work = self._finishing[attempt.task_id] = asyncio.ensure_future(
            self._write_final(record, attempt, final)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.cancelled():
                raise
            return Finished(False, None, final.outcome, 0)
        finally:
            del self._finishing[attempt.task_id]

    async def _write_final(self, record: Record, attempt: Attempt, final: FinalEvent) -> Finished:
        await pause(self._COMMIT)
        self.meter.ledger.offer()
        body, now = encode(final.as_json(), "result"), self.clock.now()
        seq, offer = record.last_seq + 1, record.tape[-1].offer + 1
        record.tape.append(
            EventRow(record.task.key, seq, attempt.number, offer, FINAL, now, body, attempt.owner)
        )
        self.meter.ledger.store(FINAL)
        self._core.changes.publish(Change(attempt.task_id, seq))
        return Finished(True, None, final.outcome, seq)

    async def request_cancel(
        self,
        task_id: str,
        reason: CancelReason | str = CancelReason.USER,
        message: str = "",
        by: str | None = None,
    ) -> CancelAnswer:
        """Cancel the actor that works on the task, and record the cancel."""
        if (work := self._finishing.get(task_id)) is not None:
            work.cancel()
        return await super().request_cancel(task_id, reason, message, by)


class RecordedTwoTransactions(Recording, TwoTransactionStore):
    """The broken one, recorded."""


STORES: Final[dict[str, Callable[..., Recording]]] = {
    "memory": RecordedMemory,
    "sqlite": RecordedSqlite,
    "postgresql": RecordedPostgres,
    "two-transactions": RecordedTwoTransactions,
}


class Bench:
    """An open store, and the spans and metrics that its runs leave."""

    def __init__(self, name: str, url: str | None, fault: Fault | None = None) -> None:
        """``fault``: the telemetry raises or is slow, and what it tells cannot be judged."""
        self.faulty = None if fault is None else FaultyTelemetry(fault, made=True)
        self.exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._tracers = TracerProvider()
        self._tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self._meters = MeterProvider([self._reader])
        telemetry = Telemetry(tracer_provider=self._tracers, meter_provider=self._meters)
        if self.faulty is not None:
            telemetry = self.faulty.telemetry
        place = () if url is None else (url,)
        self._make = partial(STORES[name], *place, telemetry=telemetry)
        self.store = self._make()
        self.name = name
        self.url = url
        """Of the database; ``None`` for memory."""

    @asynccontextmanager
    async def beside(self, history: History) -> AsyncGenerator[TaskStore]:
        """Another store on the same database; where it is in memory, the store itself."""
        if not self.store.outlives_process:
            yield self.store
            return
        async with self._make(history=history) as store:
            yield store

    def dropped_metric(self) -> int:
        """The sum of ``tapescope.tape.event.dropped`` as a reader collects it."""
        data = self._reader.get_metrics_data()
        return sum(
            int(point.value)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == "tapescope.tape.event.dropped"
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint)
        )

    def close(self) -> None:
        """Shut the providers down."""
        if self.faulty is not None:
            self.faulty.close()
        self._tracers.shutdown()
        self._meters.shutdown()


@asynccontextmanager
async def open_bench(
    name: str, url: str | None = None, fault: Fault | None = None
) -> AsyncGenerator[Bench]:
    """A bench with its store open, with telemetry that has this fault at each of its hooks."""
    bench = Bench(name, url, fault)
    try:
        with nullcontext() if bench.faulty is None else bench.faulty.installed():
            async with bench.store:
                yield bench
    finally:
        bench.close()
