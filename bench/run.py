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

from bench import (
    claims,
    collectors,
    constants,
    loop,
    losses,
    maintenance,
    processes,
    rates,
    telemetry,
    wrapper,
)
from bench.drivers import drop_guards, measure
from bench.telemetry import VARIANTS, Cost
from tests.support.services import Postgres, running_postgres

PARTS: Final = [
    "events",
    "guards",
    "latency",
    "follow",
    "cancel",
    "losses",
    "tasks",
    "claims",
    "memory",
    "telemetry",
    "collectors",
    "audit",
    "prune",
    "wrapper",
    "constants",
    "loop",
]
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

    def follow(self, store: str) -> None:
        """How long until a follower in another process has an event."""
        events = max(100, int(400 * self._scale))
        took = asyncio.run(processes.follow_times(self._url(store), events))
        self._tell_times(f"append to a follower in another process, {store}, idle", took)

    def cancel(self, store: str) -> None:
        """How long a cancel takes to what runs in another process."""
        tasks = max(100, int(200 * self._scale))
        heard, ended = asyncio.run(processes.cancel_times(self._url(store), tasks))
        self._tell_times(f"cancel to the runner in another process, {store}", heard)
        self._tell_times(f"cancel to the final's news in this one, {store}", ended)

    def losses(self, store: str) -> None:
        """How long until the tasks of a process that ends go on in another, or have failed."""
        found = asyncio.run(losses.measure(self._url(store), max(2, int(10 * self._scale))))
        for what, took in (
            ("SIGKILL to the retry elsewhere", found.retried),
            ("SIGKILL to worker_lost", found.failed),
            ("SIGTERM to the start elsewhere", found.released),
        ):
            beats = [seconds / losses.HEARTBEAT for seconds in took]
            self._console.print(
                f"{what}, {store}, {len(beats)} times: median {statistics.median(beats):.2f}, "
                f"at most {max(beats):.2f} heartbeats of {losses.HEARTBEAT:g} s"
            )

    def wrapper(self, store: str) -> None:
        """What ``tapescope run`` takes of a short command, and of a flood of output."""
        took = [wrapper.start(self._url(store)) for _ in range(3 * self._rounds)]
        alone, wrapped = (statistics.median(times) for times in zip(*took, strict=True))
        self._console.print(
            f"tapescope run -- true, {store}, new store: {wrapped:.3f} s, alone {alone:.3f} s"
        )
        for line, size in wrapper.FLOODS.items():
            wanted = int(size * self._scale)
            found = wrapper.flood(self._url(store), self._folder, line, wanted, self._rounds)
            self._console.print(f"flood, {store}: {found}")

    def constants(self, store: str) -> None:
        """What a task and an event cost the server, counted; nothing of it is a time."""
        if store != "postgresql":
            return
        assert self._server is not None
        tasks = max(200, int(5_000 * self._scale))
        table = Table(
            *("events a task", "WAL, bytes", "commits", "xids", "tables, bytes"),
            *("indexes, bytes", "dead rows", "connections"),
            title=f"what one of {tasks:,} tasks costs, {store}",
        )
        for events in (0, 10):
            url = self._url(store)
            schema = url.rpartition("schema=")[2]
            found = asyncio.run(constants.count_costs(url, self._server.dsn, schema, tasks, events))
            table.add_row(
                str(events),
                f"{found.wal:,.0f}",
                f"{found.commits:.3f}",
                f"{found.xids:.3f}",
                f"{found.heap:,.0f}",
                f"{found.indexes:,.0f}",
                f"{found.dead:.1f}",
                str(found.connections),
            )
        self._console.print(table)

    def loop(self, store: str) -> None:
        """What a task and an event cost the event loop, counted, with a database that is none."""
        if store != "sqlite":
            return
        table = Table("of one", "calls of functions", "instructions", title="the event loop's work")
        for what in loop.WORK:
            found = loop.count(what, 500, max(600, int(2_500 * self._scale)))
            counted = "–" if found.instructions is None else f"{found.instructions:,.0f}"
            table.add_row(what.removesuffix("s"), f"{found.calls:,.0f}", counted)
        self._console.print(table)

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

    def claims(self, store: str) -> None:
        """Pending tasks that owners claim, and claim and finish, beside the driver's own UPDATE."""
        tasks, ended = max(200, int(10_000 * self._scale)), int(1_000_000 * self._scale)
        table = Table(
            "owners",
            "ended before",
            f"driver, UPDATE of {claims.BATCH}, rows/s",
            "claimed/s",
            "ratio",
            "claimed and finished/s",
            title=f"claims of {tasks:,} pending tasks, {store}",
        )
        for owners, before in ((1, 0), (4, 0), (8, 0), (4, ended)):
            rates_of: list[tuple[float, float, float]] = []
            for _ in range(self._rounds):
                driver = asyncio.run(claims.driver_claim_rate(self._url(store), tasks))
                own = [self._claim_rate(store, owners, tasks, before, f) for f in (False, True)]
                rates_of.append((driver, own[0], own[1]))
            ratio = statistics.median(claimed / driver for driver, claimed, _ in rates_of)
            driver, claimed, finished = map(statistics.median, zip(*rates_of, strict=True))
            figures = (f"{driver:,.0f}", f"{claimed:,.0f}", f"{ratio:.2f}", f"{finished:,.0f}")
            table.add_row(str(owners), f"{before:,}", *figures)
        self._console.print(table)

    def _claim_rate(self, store: str, owners: int, tasks: int, before: int, finish: bool) -> float:
        url = self._url(store)
        if before:
            asyncio.run(claims.add_ended(url, before))
        return asyncio.run(claims.claim_rate(url, owners, tasks, finish=finish))

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
        bare_api = asyncio.run(telemetry.measure_off(int(300_000 * self._scale)))
        self._console.print(f"recorded of an event where there is no SDK: {bare_api * 1e6:.2f} µs")

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

    def audit(self, store: str) -> None:
        """The audit of a million events, and what an append waits for it."""
        tasks = max(100, int(20_000 * self._scale))
        found = asyncio.run(maintenance.measure_audit(self._url(store), tasks, 48, self._rounds))
        self._console.print(
            f"audit, {store}: {found.tapes:,} tapes, {found.rows:,} rows in {found.seconds:.1f} s, "
            f"{found.violations} violations, {found.grown:.0f} MiB more memory"
        )
        self._console.print(
            f"audit at {maintenance.RATE:,.0f} rows/s, {store}, 100 writers: {found.writer}"
        )

    def prune(self, store: str) -> None:
        """The prune of 100,000 tapes by a policy, what an append waits for it, and the space."""
        dsn = self._server.dsn if self._server is not None and store == "postgresql" else None
        tapes = max(100, int(100_000 * self._scale))
        found = asyncio.run(maintenance.measure_prune(self._url(store), tapes, self._rounds))
        self._console.print(
            f"prune, {store}: {found.tapes:,} tapes in {found.seconds:.1f} s beside 100 writers, "
            f"{found.violations} violations then; {found.writer}"
        )
        space = asyncio.run(maintenance.measure_space(self._url(store), dsn, max(100, tapes // 4)))
        sizes = ", ".join(f"{size / 2**20:,.1f} MiB {name}" for name, size in space.items())
        self._console.print(f"space, {store}: {sizes}")


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
