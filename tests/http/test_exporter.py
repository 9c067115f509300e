"""The exporter: what a store holds, told by a process that only reads it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from tapescope import NewTask, find_store
from tapescope.http.exporter import StoreExporter
from tapescope.manager import backlog_reader, size_reader
from tapescope.model import StoreSize
from tapescope.store import StoreAway
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.support.breaches import make_ended
from tests.support.captured_telemetry import CapturedTelemetry

FINISHED = "tapescope.store.tasks.finished"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first reading is at once."""
    monkeypatch.setattr(backlog_reader, "_FIRST", 0.0)
    monkeypatch.setattr(backlog_reader, "_EVERY", 0.05)


@asynccontextmanager
async def exporting(url: str) -> AsyncGenerator[tuple[StoreExporter, CapturedTelemetry]]:
    """An exporter of this store, and what it tells."""
    captured = CapturedTelemetry()
    exporter = StoreExporter(find_store(url, telemetry=captured.telemetry))
    running = asyncio.ensure_future(exporter.run())
    try:
        yield exporter, captured
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        captured.close()


async def test_any_number_of_exporters_tell_the_same(store_url: str) -> None:
    """What waits, and totals that a prune takes nothing from; each keeps nothing itself."""
    async with find_store(store_url) as store:
        for _ in range(2):
            await make_ended(store)
        await store.create(NewTask(new_task_id(), "x"))
        await store.maintenance.prune(older_than=0)
        async with exporting(store_url) as one, exporting(store_url) as two:
            told: list[dict[str, float]] = []
            for exporter, captured in (one, two):
                assert await until(partial(captured.points, FINISHED))
                told.append(
                    {
                        point.labels["tapescope.task.outcome"]: point.value
                        for point in captured.points(FINISHED, task_op="x")
                    }
                    | {"submitted": captured.value("tapescope.store.tasks.submitted")}
                    | {"due": captured.value("tapescope.task.backlog", task_state="due")}
                )
                assert all(check.ok for check in exporter.check_health())

    assert told[0] == told[1]
    assert told[0] == {"succeeded": 2, "failed": 0, "cancelled": 0, "submitted": 3, "due": 1}


async def test_an_exporter_tells_how_large_the_store_and_its_disk_are(sqlite_url: str) -> None:
    """What ``TapescopeDiskLow``, ``StoreLogLarge`` and ``QuarantineFull`` ask for, of a store whose
    processes are not scraped; nothing once the exporter has ended."""
    sizes = ("file.size", "file.free", "log.size", "disk.free", "disk.size", "quarantine.size")
    async with find_store(sqlite_url) as store:
        await make_ended(store)
        async with exporting(sqlite_url) as (_, captured):
            assert await until(partial(captured.points, "tapescope.store.file.size"))
            told = {name: captured.value(f"tapescope.store.{name}") for name in sizes}
            size = os.stat(sqlite_url.removeprefix("sqlite:///")).st_size
    ended = [name for name in sizes if captured.points(f"tapescope.store.{name}")]

    assert (told["quarantine.size"], told["file.size"]) == (2, size)
    assert 0 < told["disk.free"] <= told["disk.size"]
    assert told["log.size"] > 0
    assert ended == []


async def test_a_size_that_is_not_so_any_more_is_not_told(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute in which the store could not be measured there is none, until it can be."""
    away = False
    for name, seconds in (("_EVERY", 0.0), ("_STALE_AFTER", -1.0)):
        monkeypatch.setattr(size_reader, name, seconds)
    async with find_store(sqlite_url), exporting(sqlite_url) as (exporter, captured):
        store = exporter._store  # pyright: ignore[reportPrivateUsage]  # to take its disk away
        read_size = store.backend.read_size

        async def read_or_fail() -> StoreSize:
            if away:
                raise StoreAway("the disk is gone")
            return await read_size()

        monkeypatch.setattr(store.backend, "read_size", read_or_fail)
        assert await until(partial(captured.points, "tapescope.store.disk.free"))
        away = True
        assert await until(lambda: not captured.points("tapescope.store.disk.free"))
        away = False
        assert await until(partial(captured.points, "tapescope.store.disk.free"))


async def test_a_store_that_is_away_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its health says why there are no numbers; nothing else ends."""
    monkeypatch.setattr("tapescope.http.exporter._TRY_AGAIN", 0.01)
    url = "postgresql://nobody@127.0.0.1:1/none?patience=0.1"
    async with exporting(url) as (exporter, captured):

        def is_said() -> bool:
            check, _ = exporter.check_health()
            return not check.ok and "not open yet" not in check.detail

        assert await until(is_said)
        assert captured.points(FINISHED) == []
