"""What telemetry costs: tasks in a process of their own, with telemetry off and on.

A process a measurement, so that its CPU is all there is to count. Each prints where it may be
scraped (an empty line where it may not), does its work, and prints what that took.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from tapescope import Reporter, TaskManager, Telemetry
from tapescope.http.health import HealthListener
from tapescope.testing import MemoryStore
from tapescope_telemetry import setup
from tapescope_telemetry.prometheus import PrometheusReader
from tests.support.services import running_collector

_AT_ONCE = 100


@dataclass(frozen=True)
class Exposed:
    """What a variant gives to the manager, and where it is scraped."""

    telemetry: Telemetry
    url: str = ""


class _NoSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _NoMetrics(MetricExporter):
    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: object
    ) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: object) -> None:
        pass


@contextmanager
def _off() -> Generator[Exposed]:
    yield Exposed(Telemetry())


@contextmanager
def _sdk(reader: MetricReader | None = None) -> Generator[Exposed]:
    """Every span and metric is made, and given to exporters that do nothing."""
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(_NoSpans()))
    reader = PeriodicExportingMetricReader(_NoMetrics()) if reader is None else reader
    meters = MeterProvider([reader], shutdown_on_exit=False)
    try:
        yield Exposed(Telemetry(tracer_provider=tracers, meter_provider=meters))
    finally:
        tracers.shutdown()
        meters.shutdown()


@contextmanager
def _scraped() -> Generator[Exposed]:
    reader = PrometheusReader()
    with _sdk(reader) as exposed, HealthListener(tuple, metrics=reader, port=0) as health:
        yield Exposed(exposed.telemetry, f"{health.url}/metrics")


@contextmanager
def _sent() -> Generator[Exposed]:
    """As a program has it: spans, metrics and logs to the collector that the variables name."""
    with setup() as made:
        assert made.active
        yield Exposed(made.telemetry)


VARIANTS: dict[str, Callable[[], AbstractContextManager[Exposed]]] = {
    "off": _off,
    "SDK": _sdk,
    "SDK, OTLP": _sent,
    "SDK, a scrape a second": _scraped,
}
"""By the name that the table shows; the first is what the others are compared with."""


@dataclass(frozen=True)
class Cost:
    """What a measurement took, in seconds."""

    wall: float
    cpu: float
    """Of all threads, in user mode and in the kernel."""


def measure(variant: str, url: str, tasks: int, events: int) -> Cost:
    """Run so many tasks of so many events each in a new process, scraped if it wants to be."""
    command = [sys.executable, __file__, variant, url, str(tasks), str(events)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with ExitStack() as stack:
        if VARIANTS[variant] is _sent:
            collector = stack.enter_context(running_collector())
            environment |= collector.variables("grpc", "bench")
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
        )
        assert process.stdout is not None
        address = process.stdout.readline().decode().strip()
        over = threading.Event()
        scraper = threading.Thread(target=_scrape, args=(address, over))
        if address:
            scraper.start()
        try:
            told = process.stdout.readline()
        finally:
            over.set()
            if address:
                scraper.join()
    return Cost(**json.loads(told))


async def measure_off(calls: int) -> float:
    """CPU seconds an event that what is recorded of it takes where there is no SDK."""
    async with MemoryStore(telemetry=Telemetry()) as store:
        meter, began = store.meter, time.process_time()
        for _ in range(calls):
            meter.ledger.offer(1)
            meter.operation("append", 0.003)
        return (time.process_time() - began) / calls


def _scrape(address: str, over: threading.Event) -> None:
    request = urllib.request.Request(
        address, headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    while not over.wait(1.0):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
        except OSError:
            return  # it has ended


async def _work(url: str, telemetry: Telemetry, tasks: int, events: int) -> Cost:
    async def report(reporter: Reporter) -> None:
        for number in range(events):
            await reporter.log("info", f"line {number}")

    async def keep_going(manager: TaskManager, mine: int) -> None:
        for _ in range(mine):
            await (await manager.submit("bench", report)).result()

    async with TaskManager(url, telemetry=telemetry) as manager:
        await asyncio.gather(*(keep_going(manager, 5) for _ in range(_AT_ONCE)))
        wall, cpu = time.perf_counter(), _cpu()
        await asyncio.gather(*(keep_going(manager, tasks // _AT_ONCE) for _ in range(_AT_ONCE)))
        return Cost(time.perf_counter() - wall, _cpu() - cpu)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """One measurement, in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("url")
    parser.add_argument("tasks", type=int)
    parser.add_argument("events", type=int)
    chosen = parser.parse_args()
    with VARIANTS[chosen.variant]() as exposed:
        print(exposed.url, flush=True)
        cost = asyncio.run(_work(chosen.url, exposed.telemetry, chosen.tasks, chosen.events))
    print(json.dumps({"wall": cost.wall, "cpu": cost.cpu}), flush=True)


if __name__ == "__main__":
    main()
