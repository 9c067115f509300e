"""How large a store is, and which of its connections are in use, on the real databases."""

from __future__ import annotations

import asyncio
import os

import pytest

from tapescope import NewEvent, NewTask, UnknownTask
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import _connection
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.postgres_sessions import session
from tests.support.workbench import make_store

CONNECTIONS = "tapescope.store.connections"


async def test_late_events_and_the_last_audit_are_told_by_every_process(
    store_url: str, captured: CapturedTelemetry
) -> None:
    """Also by one that does not lead: both are the store's."""
    other = CapturedTelemetry()
    async with (
        make_store(store_url, captured) as store,
        make_store(store_url, other) as second,
    ):
        await second.measure_size()
        never = other.points("tapescope.tape.audit.last_success.timestamp")
        none = other.value("tapescope.store.quarantine.size")
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        await store.append(claim.attempt, [NewEvent("log", "late"), NewEvent("log", "later")])
        term = await store.leadership.acquire("me", 60)
        await store.leadership.record_job("me", "audited")
        await second.measure_size()
        audited = other.value("tapescope.tape.audit.last_success.timestamp")
        kept = other.value("tapescope.store.quarantine.size")
    other.close()

    assert (never, none, kept) == ([], 0, 2)
    assert term is not None
    assert 0 <= audited - term.now / 1e6 < 60


async def test_a_file_and_its_disk_are_measured(
    sqlite_url: str, captured: CapturedTelemetry
) -> None:
    """The file as it is on the disk; a server's disk is the server's."""
    path = sqlite_url.removeprefix("sqlite:///")
    async with make_store(sqlite_url, captured) as store:
        await store.measure_size()
        told = {
            name: captured.value(f"tapescope.store.{name}")
            for name in ("file.size", "file.free", "disk.free", "disk.size", "log.size")
        }
        size = os.stat(path).st_size
        store.meter.size_left(store.name)

    assert told["file.size"] == size > 0
    assert 0 <= told["file.free"] < size
    assert 0 < told["disk.free"] <= told["disk.size"]
    assert captured.points("tapescope.store.file.size") == []
    assert captured.points(CONNECTIONS) == []


async def test_connections_in_use_and_calls_that_wait_for_one(
    postgres_url: str, captured: CapturedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four calls are carried out at once; the next ones wait, and both are told."""
    monkeypatch.setattr(_connection, "_LOCK_TIMEOUT", 60_000)

    def read() -> tuple[float, float, float]:
        used, idle = (
            captured.value(CONNECTIONS, connection_state=state) for state in ("used", "idle")
        )
        return used, idle, captured.value("tapescope.store.connections.waiting")

    async with make_store(postgres_url, captured) as store, session(postgres_url) as raw:
        before = read()
        async with raw.transaction():
            await raw.execute("LOCK TABLE tasks IN ACCESS EXCLUSIVE MODE")
            calls = [asyncio.ensure_future(store.get(new_task_id())) for _ in range(6)]
            assert await until(lambda: read() == (4, 0, 2))
        for call in calls:
            with pytest.raises(UnknownTask):
                await call
        after = read()

    assert before[0] == before[2] == 0
    assert after == (0, 4, 0)
