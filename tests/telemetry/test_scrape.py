"""A manager under load, scraped: by hand, and by a real Prometheus."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tapescope import Reporter, TaskCancelled, TaskFailed, TaskHandle, ThreadReporter
from tapescope.http.health import serve_health
from tapescope.testing import until
from tapescope_telemetry.names import (
    BACKLOG,
    ENGINE_BROUGHT,
    ENGINE_OVERDUE,
    ENGINE_RECONCILED,
    FIRINGS,
    LATENESS,
    MESSAGES,
    OLDEST_DUE,
    OP_PAUSED,
    OP_TIMEOUT,
    OP_WORKERS,
    RUNNING_AGE,
)
from tapescope_telemetry.prometheus import PrometheusReader
from tests.support.prometheus_server import running_prometheus
from tests.support.scrapes import OPENMETRICS, SCRAPE_NAMES, Scraped, fetch, scrape
from tests.support.workbench import GRACE, Block, Workbench, started, wait_for_cancel, working

READ_LATER = {
    SCRAPE_NAMES[row.name][1]
    for row in (BACKLOG, OLDEST_DUE, RUNNING_AGE, OP_WORKERS, OP_PAUSED, OP_TIMEOUT)
}
"""What a process reads of its store after a second, and then again and again."""
UNASKED_ROWS = (FIRINGS, LATENESS, MESSAGES, ENGINE_BROUGHT, ENGINE_RECONCILED, ENGINE_OVERDUE)
UNASKED = {SCRAPE_NAMES[row.name][1] for row in UNASKED_ROWS}
"""Where no schedule fires, nobody sends a message and no engine brings a task there are none."""

LACKING = {
    "sqlite": [  # it goes by the process's clock, and has no connections that calls share
        "tapescope_store_clock_skew_seconds",
        "tapescope_store_connections",
        "tapescope_store_connections_waiting",
    ],
    "postgresql": [  # the server's files and its disk are its own
        "tapescope_store_log_size_bytes",
        "tapescope_store_file_size_bytes",
        "tapescope_store_file_free_bytes",
        "tapescope_store_disk_free_bytes",
        "tapescope_store_disk_size_bytes",
    ],
}
"""What the store of an adapter has none of."""

EXEMPLARS = {
    "tapescope_task_duration": 3,
    "tapescope_task_queue_wait": 1,
    "tapescope_cancel_duration": 1,
    "tapescope_cancel_overrun": 1,
    "tapescope_tape_event_dropped": 1,
}
"""What has exemplars under this load, and how many traces at least."""


async def succeed(report: Reporter) -> str:
    """A runner with something to report."""
    await report.progress("work", 1, 1)
    return "done"


async def fail(report: Reporter) -> None:
    """A runner that does not."""
    raise ValueError("no such file")


class Late(Block):
    """A runner that ignores its cancel, and reports when it is over: too late."""

    def __call__(self, report: ThreadReporter) -> str:
        """Block the thread, then report."""
        super().__call__(report)
        report.log("info", "still here")
        return "never"


async def settle(task: TaskHandle) -> None:
    """Wait for the end of a task, whichever it is."""
    with suppress(TaskFailed, TaskCancelled):  # the tape tells
        await task.result()


async def make_load(bench: Workbench) -> None:
    """Tasks that end in every way, a late event, a fenced runner that runs on, an audit."""
    manager = bench.manager
    tasks = [
        await manager.submit("resize", succeed),
        await manager.submit("resize", fail),
        await manager.submit("resize", fail, retries=1),
    ]
    cancelled = await manager.submit("wait", wait_for_cancel)
    await started(cancelled)
    await cancelled.cancel("enough")
    block = Late()
    deaf = await manager.submit("deaf", block)
    await asyncio.to_thread(block.begun.wait)
    await deaf.cancel("enough")
    for task in (*tasks, cancelled, deaf):
        await settle(task)
    block.released.set()
    await bench.zombies_ended()
    await manager.audit()


def trace_ids(bench: Workbench) -> set[str]:
    """The trace ids of the run spans that have ended."""
    return {
        f"{span.context.trace_id:032x}"
        for span in bench.captured.spans()
        if span.context is not None and span.name.startswith("run ")
    }


def exemplars_of(scraped: Scraped, prefix: str) -> set[str]:
    """The trace ids of the exemplars of these metrics."""
    return {trace for (name, _), trace in scraped.exemplars.items() if name.startswith(prefix)}


async def test_load_shows_on_the_scrape(store_url: str) -> None:
    """Under load each metric of the contract is scraped by name and type; the ledger adds up."""
    reader = PrometheusReader()
    async with working(store_url, readers=[reader], cancel_grace=GRACE, retry_delay=0.01) as bench:
        with serve_health(bench.manager, metrics=reader, port=0) as health:
            before = await asyncio.to_thread(scrape, health.url)
            await make_load(bench)
            after = await asyncio.to_thread(scrape, health.url)
    name = "tapescope_task_duration_seconds_count"
    dropped = after.total("tapescope_tape_event_dropped_total")
    stored = after.total("tapescope_tape_event_appended_total")

    assert before.ours.items() <= after.ours.items()
    told = {name: kind for kind, name in SCRAPE_NAMES.values()}
    for lacking in LACKING[bench.store.adapter]:
        del told[lacking]
    assert after.ours.items() <= told.items()
    assert told.keys() - after.ours.keys() <= READ_LATER | UNASKED
    assert after.value(name, task_op="resize", task_outcome="succeeded") == 1
    assert after.value(name, task_op="resize", task_outcome="failed") == 2
    assert after.value(name, task_op="wait", task_outcome="cancelled") == 1
    assert after.value("tapescope_task_retries_total", task_op="resize", error_type="timeout") == 0
    assert after.value("tapescope_tape_event_unaccounted") == 0
    assert after.value("tapescope_tape_event_offered_total") == stored + dropped
    assert dropped == 1


async def test_counters_are_there_before_their_first_event(sqlite_url: str) -> None:
    """The first scrape of a manager has its counters at zero: an alert can see the first drop."""
    reader = PrometheusReader()
    async with working(sqlite_url, readers=[reader]) as bench:
        with serve_health(bench.manager, metrics=reader, port=0) as health:
            scraped = await asyncio.to_thread(scrape, health.url)
    store = {"store_adapter": "sqlite"}

    assert scraped.value("tapescope_cancel_requests_total", cancel_reason="user") == 0
    assert (
        scraped.value("tapescope_tape_audit_violations_total", audit_rule="sequence_gap", **store)
        == 0
    )
    assert (
        scraped.value(
            "tapescope_tape_event_dropped_total",
            drop_reason="after_terminal",
            event_type="log",
            task_op="_OTHER",
            tape_outcome="cancelled",
            **store,
        )
        == 0
    )


async def test_exemplars_lead_to_the_spans(sqlite_url: str) -> None:
    """Exemplars of durations, waits and drops are traces of runs; ten scrapes in a row keep all."""
    reader = PrometheusReader()
    async with working(sqlite_url, readers=[reader], cancel_grace=GRACE, retry_delay=0.01) as bench:
        with serve_health(bench.manager, metrics=reader, port=0) as health:
            await make_load(bench)
            scrapes = [await asyncio.to_thread(scrape, health.url) for _ in range(10)]
        runs = trace_ids(bench)
    last = scrapes[-1]

    assert {"trace_id", "span_id"} == {
        label for s in last.samples if s.exemplar is not None for label in s.exemplar.labels
    }
    for name, least in EXEMPLARS.items():
        found = exemplars_of(last, name)
        assert found <= runs, name
        assert len(found) >= least, name
    for scraped in scrapes:
        assert scraped.exemplars.keys() >= scrapes[0].exemplars.keys()


async def test_format_is_negotiated(sqlite_url: str) -> None:
    """OpenMetrics for those who accept it, with exemplars; else the text format, without."""
    reader = PrometheusReader()
    async with working(sqlite_url, readers=[reader]) as bench:
        with serve_health(bench.manager, metrics=reader, port=0) as health:
            await settle(await bench.manager.submit("resize", succeed))
            url = f"{health.url}/metrics"
            text = await asyncio.to_thread(fetch, url, "text/plain")
            open_metrics = await asyncio.to_thread(fetch, url, OPENMETRICS)
            one = await asyncio.to_thread(fetch, f"{url}?name[]=tapescope_task_limit", "")

    assert text.headers["Content-Type"].startswith("text/plain; version=")
    assert "trace_id" not in text.text
    assert open_metrics.headers["Content-Type"].startswith("application/openmetrics-text")
    assert "# {span_id=" in open_metrics.text
    assert open_metrics.text.endswith("# EOF\n")
    assert one.text.splitlines()[2:] == ["tapescope_task_limit 100.0"]


@pytest.mark.observability
async def test_a_real_prometheus_keeps_the_exemplars(sqlite_url: str, tmp_path: Path) -> None:
    """Prometheus scrapes it, and an exemplar that it stored is the trace of a run."""
    reader = PrometheusReader()
    async with working(sqlite_url, readers=[reader], cancel_grace=GRACE, retry_delay=0.01) as bench:
        with serve_health(bench.manager, metrics=reader, port=0) as health:
            target = health.url.removeprefix("http://")
            async with running_prometheus(tmp_path, [target]) as prometheus:
                await until(lambda: prometheus.query("up == 1"), within=30)
                await make_load(bench)

                async def find_exemplars() -> list[Any]:
                    found: list[Any] = await prometheus.ask(
                        "query_exemplars",
                        query="tapescope_task_duration_seconds_bucket",
                        start="0",
                        end="4102444800",
                    )
                    return found

                found = await until(find_exemplars, within=30)
                finished = await prometheus.query("sum(tapescope_task_duration_seconds_count)")
                targets = await prometheus.ask("targets")
        runs = trace_ids(bench)
    stored = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}

    assert stored
    assert stored <= runs
    assert finished[0][1] > 0
    assert [target["lastError"] for target in targets["activeTargets"]] == [""]
