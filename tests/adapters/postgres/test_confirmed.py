"""What an engine has is noted on PostgreSQL beside rows that another session holds locked."""

from __future__ import annotations

import asyncio

from tapescope.model.tasks import NewTask
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import session


async def test_what_a_session_holds_is_passed_over(postgres_url: str) -> None:
    """It waits for no lock, and so with nobody in a circle; what it left is found once more."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as other:
        new = [NewTask(new_task_id(), "work", engine="queue") for _ in range(3)]
        tasks = [(await store.create(one))[0] for one in new]
        ids = [task.task_id for task in tasks]
        async with other.transaction():
            await other.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", ids[1])
            noting = store.engines.note_confirmed(ids[::-1], again_in=3_600)
            await asyncio.wait_for(noting, 10)
        left = await store.engines.find_unconfirmed("queue")

    assert [task.task_id for task in left] == [ids[1]]
