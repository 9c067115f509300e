"""Retention on PostgreSQL beside writers that hold what it looks at."""

from __future__ import annotations

import asyncio

from tapescope import DropReason, NewEvent, find_store
from tapescope.model.tasks import Attempt
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.support.postgres_sessions import session

DROP = """
    SELECT drop_rows(ARRAY[1], ARRAY[0::bigint], ARRAY[1], ARRAY[2], ARRAY['log'],
                     ARRAY[1::bigint << 52], ARRAY['"second"'], ARRAY['me'], ARRAY[$1],
                     ARRAY[NULL], 1000, 10000)
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ $1"


async def test_late_event_beside_a_prune_keeps_its_count(postgres_url: str) -> None:
    """An unknown task's last late event goes while the next one comes: that one stays counted.

    The flush that drops it has not committed when the prune looks.
    """
    async with find_store(postgres_url) as store, session(postgres_url) as late:
        unknown = Attempt(new_task_id(), 1, "me")
        await store.append(unknown, [NewEvent("log", "first")])
        async with late.transaction():
            await late.fetchval(DROP, unknown.task_id)
            pruning = asyncio.create_task(store.maintenance.prune_quarantine(older_than=0))
            async with session(postgres_url) as looker:
                await until(lambda: looker.fetchval(WAITING, "delete_drops|quarantine"))
        pruned = await pruning
        page = await store.read_quarantine()

    assert pruned == 1
    assert [drop.body for drop in page.drops] == ["second"]
    assert page.counts == {DropReason.UNKNOWN_TASK: 2}
