"""The rate of appends on PostgreSQL beside the driver's own: printed, not judged."""

from __future__ import annotations

import asyncio
import time

import pytest

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Claim
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import session, start_task

TASKS, ROUNDS = 100, 100
BODY = {"phase": "resize", "current": 17, "total": 100, "detail": "x" * 80}


@pytest.mark.slow  # a number to look at: nothing goes by it
async def test_append_rate_is_printed(
    postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A hundred tasks report at once; the same rows go by unnest into a table with no guards."""
    async with PostgresStore(postgres_url) as store:
        claims = await asyncio.gather(*(start_task(store) for _ in range(TASKS)))

        async def report(claim: Claim) -> None:
            for _ in range(ROUNDS):
                await store.append(claim.attempt, [NewEvent("log", BODY)])

        began = time.perf_counter()
        await asyncio.gather(*map(report, claims))
        ours = TASKS * ROUNDS / (time.perf_counter() - began)
    async with session(postgres_url) as raw:
        await raw.execute("CREATE TABLE bare (LIKE events INCLUDING ALL)")
        rows = await raw.fetch(
            "SELECT seq, array_agg(task) AS tasks, array_agg(offer) AS offers,"
            " array_agg(body) AS bodies FROM events WHERE type = 'log' GROUP BY seq ORDER BY seq"
        )
        insert = await raw.prepare(
            "INSERT INTO bare (task, seq, attempt, offer, type, ts, body) SELECT * FROM"
            " unnest($1::bigint[], $2::int[], $3::int[], $4::int[], $5::text[], $6::bigint[],"
            " $7::text[])"
        )
        began = time.perf_counter()
        for seq, tasks, offers, bodies in rows:
            n = len(tasks)
            await insert.fetch(tasks, [seq] * n, [1] * n, offers, ["log"] * n, [1] * n, bodies)
        driver = TASKS * ROUNDS / (time.perf_counter() - began)
        stored = await raw.fetchval("SELECT count(*) FROM bare")
    with capsys.disabled():
        print(f"\n{ours:,.0f} events/s, the driver {driver:,.0f}: {ours / driver:.2f}")

    assert stored == TASKS * ROUNDS
