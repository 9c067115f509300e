"""``make bench``: the stores beside their own drivers, in one run. It prints; it judges nothing.

Absolute figures drift from machine to machine and run to run: only the ratios of one run count.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench import collectors, rates, telemetry
from bench.drivers import drop_guards, measure
from bench.telemetry import VARIANTS, Cost
from tests.services import Postgres, running_postgres

PARTS: Final = ["events", "guards", "latency", "tasks", "memory", "telemetry", "collectors"]
EVENTS: Final = 10
"""Events of a task where the price of telemetry is asked for."""


def _median(rounds: int, measured: Callable[[], float]) -> float:
    return statistics.median(measured() for _ in range(rounds))


class Bench:
    """One run: its folder, its server, and what it measures."""

    def __init__(self, folder: Path, server: Postgres | None, rounds: int, scale: float) -> None:
        self._folder, self._server = folder, server
        self._rounds, self._scale = rounds, scale
        self._made = 0
        self._console = Console(highlight=False)

    def _url(self, store: str) -> str:
        self._made += 1
        if store == "postgresql":
            assert self._server is not None
            return self._server.url()
        return f"sqlite:///{self._folder}/bench-{self._made}.db"

    def events(self, store: str) -> None:
        """Events a second beside the driver's own rate, the two measured in turn."""
        table = Table(
            "tasks at once", "driver, rows/s", "store, events/s", "ratio", title=f"append, {store}"
        )
        dsn = self._server.dsn if self._server is not None and store == "postgresql" else None
        for tasks, total in ((1, 2_000), (100, 30_000), (1_000, 60_000)):
            events = max(tasks, int(total * self._scale))
            driver: list[float] = []
            own: list[float] = []
            for _ in range(self._rounds):
                with tempfile.TemporaryDirectory(dir=self._folder) as scratch:
                    driver.append(measure(store, Path(scratch), dsn, tasks, events))
                own.append(asyncio.run(rates.append_rate(self._url(store), tasks, events)))
            ratio = statistics.median(a / b for a, b in zip(own, driver, strict=True))
            table.add_row(
                f"{tasks:,}",
                f"{statistics.median(driver):,.0f}",
                f"{statistics.median(own):,.0f}",
                f"{ratio:.2f}",
            )
        self._console.print(table)

    def guards(self, store: str) -> None:
        """What the triggers on events cost: the same appends with and without them, in turn."""
        dsn = self._server.dsn if self._server is not None and store == "postgresql" else None
        events = max(100, int(30_000 * self._scale))
        on: list[float] = []
        off: list[float] = []
        for _ in range(self._rounds):
            on.append(asyncio.run(rates.append_rate(self._url(store), 100, events)))
            url = self._url(store)
            without = partial(drop_guards, url, dsn)
            off.append(asyncio.run(rates.append_rate(url, 100, events, without)))
        price = 1 - statistics.median(a / b for a, b in zip(on, off, strict=True))
        self._console.print(
            f"guards, {store}, 100 at once: {statistics.median(on):,.0f} events/s on, "
            f"{statistics.median(off):,.0f} off: they cost {price:.0%}"
        )

    def latency(self, store: str) -> None:
        """How long an append takes among 100 tasks, and until a follower has it when idle."""
        events = max(1_000, int(20_000 * self._scale))
        took = asyncio.run(rates.append_times(self._url(store), 100, events))
        self._tell_times(f"append, {store}, 100 at once", took)
        took = asyncio.run(rates.follow_times(self._url(store), max(100, int(2_000 * self._scale))))
        self._tell_times(f"append to follower, {store}, idle", took)

    def _tell_times(self, what: str, took: list[float]) -> None:
        cuts = statistics.quantiles(took, n=100)
        p50, p99 = cuts[49] * 1e3, cuts[98] * 1e3
        self._console.print(
            f"{what}: p50 {p50:.2f} ms, p99 {p99:.2f} ms, p99 / p50 {p99 / p50:.1f}"
        )

    def tasks(self, store: str) -> None:
        """No-op tasks a second, end to end."""
        count = max(100, int(5_000 * self._scale))
        rate = _median(self._rounds, lambda: asyncio.run(rates.task_rate(self._url(store), count)))
        self._console.print(f"no-op tasks, {store}, 100 at once: {rate:,.0f} tasks/s")

    def memory(self, store: str) -> None:
        """What finished and pending tasks leave in a manager."""
        table = Table("finished tasks", "resident MiB", "live objects", title=f"memory, {store}")
        counts = (1_000, max(2_000, int(100_000 * self._scale)))
        for done, mebibytes, objects in asyncio.run(rates.memory_after(self._url(store), counts)):
            table.add_row(f"{done:,}", f"{mebibytes:,.1f}", f"{objects:,}")
        self._console.print(table)
        held = asyncio.run(rates.memory_pending(self._url(store), 5_000))
        self._console.print(f"a pending task, {store}: {held:.1f} KiB")

    def telemetry(self, store: str) -> None:
        """What telemetry costs, a task and an event: whole-process CPU, the variants in turn."""
        tasks = max(200, int(10_000 * self._scale))
        bare: dict[str, list[Cost]] = {name: [] for name in VARIANTS}
        full: dict[str, list[Cost]] = {name: [] for name in VARIANTS}
        for _ in range(self._rounds):
            for name in VARIANTS:
                bare[name].append(telemetry.measure(name, self._url(store), tasks, 0))
                full[name].append(telemetry.measure(name, self._url(store), tasks, EVENTS))
        table = Table(
            *("telemetry", "rate / off", "CPU / off", "CPU, µs a task more", "µs an event more"),
            title=f"telemetry, {store}, {tasks:,} tasks × {EVENTS} events",
        )
        off = next(iter(VARIANTS))
        for name in VARIANTS:
            pairs = list(zip(full[name], full[off], strict=True))
            a_task = [
                (one.cpu - other.cpu) / tasks
                for one, other in zip(bare[name], bare[off], strict=True)
            ]
            an_event = [
                ((one.cpu - other.cpu) / tasks - task) / EVENTS
                for (one, other), task in zip(pairs, a_task, strict=True)
            ]
            table.add_row(
                name,
                f"{statistics.median(other.wall / one.wall for one, other in pairs):.2f}",
                f"{statistics.median(one.cpu / other.cpu for one, other in pairs):.2f}",
                f"{statistics.median(a_task) * 1e6:.0f}",
                f"{statistics.median(an_event) * 1e6:.1f}",
            )
        self._console.print(table)

    def collectors(self, store: str) -> None:
        """The same work with a collector that takes all, and with bad ones, in turn."""
        tasks = max(200, int(5_000 * self._scale))
        table = Table(
            *("protocol", "collector", "rate / takes all", "shutdown, s", "lost"),
            title=f"collectors, {store}, {tasks:,} tasks × 10 events",
        )
        for protocol in ("grpc", "http/protobuf"):
            went = [
                {
                    kind: collectors.measure(kind, protocol, self._url(store), tasks)
                    for kind in collectors.COLLECTORS
                }
                for _ in range(self._rounds)
            ]
            for kind in collectors.COLLECTORS:
                ratio = statistics.median(one["takes all"].work / one[kind].work for one in went)
                ended = max(one[kind].shutdown for one in went)
                table.add_row(protocol, kind, f"{ratio:.2f}", f"{ended:.2f}", went[-1][kind].lost)
        self._console.print(table)


def main() -> None:
    """Read the arguments and run what they ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=["sqlite", "postgresql", "all"], default="all")
    parser.add_argument("--rounds", type=int, default=3, help="of each rate; the median counts")
    parser.add_argument("--scale", type=float, default=1.0, help="of the amounts of work")
    parser.add_argument("--only", choices=PARTS, action="append")
    chosen = parser.parse_args()
    stores = ["sqlite", "postgresql"] if chosen.store == "all" else [chosen.store]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tapes-bench-")))
        server = stack.enter_context(running_postgres()) if "postgresql" in stores else None
        bench = Bench(folder, server, chosen.rounds, chosen.scale)
        for store in stores:
            for part in chosen.only or PARTS:
                getattr(bench, part)(store)


if __name__ == "__main__":
    main()
