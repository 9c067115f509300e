"""A transaction that somebody leaves open makes the log grow; the metric shows it."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tapescope import NewEvent, NewTask, find_store
from tapescope.store.validation import new_task_id
from tests.support.captured_telemetry import CapturedTelemetry

LARGE = "x" * 60_000


async def test_log_that_a_reader_holds_is_seen_to_grow(sqlite_url: str) -> None:
    """With each write, however often a checkpoint is made; without the reader it starts anew."""
    captured = CapturedTelemetry()
    path = sqlite_url.removeprefix("sqlite:///")
    sizes: list[float] = []
    async with find_store(sqlite_url, telemetry=captured.telemetry) as store:
        new, _ = await store.create(NewTask(new_task_id(), "x"))
        claim = await store.claim_if_pending(new, "me", 60)
        assert claim is not None
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM tasks").fetchone()
            for _ in range(2):
                for _ in range(100):
                    await store.append(claim.attempt, [NewEvent("log", LARGE)])
                await store.measure_size()
                sizes.append(captured.value("tapescope.store.log.size", store_adapter="sqlite"))
    captured.close()

    assert sizes[0] >= 100 * len(LARGE)
    assert sizes[1] >= 200 * len(LARGE)
