"""What a database keeps of the traces of runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from tapescope import find_store
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent
from tapescope.testing.tasks import start
from tests.support.postgres_sessions import session


async def count_rows(url: str) -> int:
    """How many attempts have a trace."""
    query = "SELECT count(*) FROM attempts_traced"
    if url.startswith("postgresql"):
        async with session(url) as raw:
            return int(str(await raw.fetchval(query)))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
        return int(conn.execute(query).fetchone()[0])


async def test_a_deleted_task_leaves_no_trace(store_url: str) -> None:
    """The database deletes it with the task, whoever does that: older code knows nothing of it."""
    async with find_store(store_url) as store:
        attempt = await start(store)
        store.attach_span(attempt, "a1" * 16, None, "b2" * 8)
        await store.finish_if_running(attempt, FinalEvent.succeeded())
        before = await count_rows(store_url)
        await store.maintenance.prune(older_than=0)
        after = await count_rows(store_url)

    assert (before, after) == (1, 0)


async def test_a_heartbeat_forgets_no_trace_that_it_did_not_keep(store_url: str) -> None:
    """After a flush of unknown fate an attempt's place is read anew: its trace goes with that."""
    async with find_store(store_url) as store:
        known, doubtful = await start(store), await start(store)
        for nth, attempt in enumerate((known, doubtful)):
            store.attach_span(attempt, f"a{nth}" * 16, None, f"b{nth}" * 8)
        cursor: Any = doubtful.cursor
        cursor.key = None
        await store.note_traces([known, doubtful])
        before = await count_rows(store_url)
        await store.append(doubtful, [NewEvent("log", "here")])
        after = await count_rows(store_url)

    assert (before, after) == (1, 2)
