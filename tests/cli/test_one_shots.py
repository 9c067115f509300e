"""Commands that are over in a moment are counted, each once: from the store, and by push."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from functools import partial
from typing import Any

import pytest

from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.support.scrapes import fetch, scrape
from tests.support.services import Collector

pytestmark = pytest.mark.observability

COMMANDS = [(["true"], 3), (["false"], 2)]
"""What is run, and how often; the runs are side by side."""
ENDED = {"succeeded": 3, "failed": 2}


async def run_all(tapescope: Tapescope) -> None:
    """Every command, each a process of its own."""
    runs = [
        asyncio.to_thread(tapescope, "run", "--", *command)
        for command, times in COMMANDS
        for _ in range(times)
    ]
    await asyncio.gather(*runs)


def read_ends(points: list[dict[str, Any]]) -> Counter[str]:
    """What the points of the duration count by outcome, taken together."""
    ends: Counter[str] = Counter()
    for point in points:
        if point["name"] == "tapescope.task.duration":
            ends[point["attributes"]["tapescope.task.outcome"]] += int(point["value"])
    return ends


async def test_deltas_add_up(tapescope: Tapescope, collector: Collector) -> None:
    """What each process pushed as deltas is the whole of it, and none is there twice."""
    tapescope.env |= collector.variables("http/protobuf", "deltas")
    tapescope.env |= {"OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "delta"}
    await run_all(tapescope)
    arrived = partial(collector.received.metrics, "deltas")
    await until(lambda: read_ends(arrived()).total() >= 5)
    points = arrived()
    temporality = {(point["kind"], point["temporality"]) for point in points}

    assert read_ends(points) == ENDED
    assert len({point["resource"]["service.instance.id"] for point in points}) == 5
    assert temporality >= {("counter", "delta"), ("histogram", "delta")}
    assert temporality <= {
        ("counter", "delta"),
        ("histogram", "delta"),
        ("updowncounter", "cumulative"),
        ("gauge", ""),
    }


async def test_the_exporter_counts_them_from_the_store(tapescope: Tapescope) -> None:
    """None of them has to be scraped, or to push."""
    await run_all(tapescope)
    with tapescope.started("exporter", "--port", "0") as process:
        assert process.stderr is not None
        url = process.stderr.readline().decode().split()[-1]

        async def is_read() -> bool:
            return fetch(f"{url}/readyz").status == 200

        await until(is_read)
        scraped = scrape(url)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    ends = {
        outcome: scraped.value(
            "tapescope_store_tasks_finished_total", task_op="shell", task_outcome=outcome
        )
        for outcome in ENDED
    }

    assert ends == ENDED
