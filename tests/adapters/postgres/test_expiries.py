"""Tasks that have expired, beside rows that another session holds, and workers of an older
version."""

from __future__ import annotations

import pytest

from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store import _cancel_looks
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import schema_of, session

ME = "me:1:0:aa"


async def make_expired(store: PostgresStore) -> str:
    """A task that has been due since long ago, and had a second."""
    task, _ = await store.create(NewTask(new_task_id(), "work", run_at=1, expires_in=1))
    return task.task_id


async def test_a_locked_task_holds_up_no_other(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a claim nor a look waits for it: it is passed over, and ended when it is let go."""
    monkeypatch.setattr(_cancel_looks, "_WAIT", 0.3)
    async with PostgresStore(postgres_url, patience=60) as store, session(postgres_url) as raw:
        held, *others = [await make_expired(store) for _ in range(4)]
        live, _ = await store.create(NewTask(new_task_id(), "work"))
        async with raw.transaction():
            await raw.execute("SELECT FROM tasks WHERE task_id = $1 FOR UPDATE", held)
            (claim,) = await store.claim_due(ME, ["work"], 2, 60)
            count = await store.end_expired()
            ended = [(await store.get(task_id)).status for task_id in others]
        # A request that was withdrawn may have been sent: it is recorded, and answered to nobody.
        later = [await store.end_expired() for _ in range(2)]
        let_go = (await store.get(held)).status

    assert claim.task.task_id == live.task_id
    assert count in (0, 1)  # the claim has ended those that it met
    assert ended == [TaskStatus.CANCELLED] * 3
    assert later in ([1, 0], [0, 0])
    assert let_go is TaskStatus.CANCELLED


async def test_an_older_worker_meets_nothing_that_has_expired(postgres_url: str) -> None:
    """It calls the same function, and would count what it is told of as begun: it is told of
    nothing else than what it has claimed, and begins nothing that has expired."""
    claim = (
        "SELECT claim_due($1, $2, $1, $3, '{work}', 5, 60000000, 1, '{\"attempt\":', '}', false)"
    )
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await raw.execute(f"SET search_path = {schema_of(postgres_url)}")
        over = await make_expired(store)
        alone = await raw.fetchval(claim, "lane", 1, ME)
        await store.create(NewTask(new_task_id(), "work"))
        beside = await raw.fetchval(claim, "lane", 2, ME)
        waits = await store.get(over)

    assert alone is None
    assert beside.count('"task_id"') == 1
    assert over not in beside
    assert (waits.status, waits.attempt) == (TaskStatus.PENDING, 0)


async def test_a_claim_one_by_one_begins_nothing_that_has_expired(postgres_url: str) -> None:
    """As one goes that met a row which cannot be claimed: what has expired is passed over."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        await raw.execute(f"SET search_path = {schema_of(postgres_url)}")
        broken, _ = await store.create(NewTask(new_task_id(), "work", run_at=1))
        await raw.execute("SET session_replication_role = replica")
        past = "UPDATE tasks SET attempt = 2147483647 WHERE task_id = $1"
        await raw.execute(past, broken.task_id)
        over = [await make_expired(store) for _ in range(2)]
        live, _ = await store.create(NewTask(new_task_id(), "work"))
        (claim,) = await store.claim_due(ME, ["work"], 2, 60)
        await store.end_expired()
        tasks = [await store.get(task_id) for task_id in (broken.task_id, *over)]

    assert claim.task.task_id == live.task_id
    assert [task.status for task in tasks] == [
        TaskStatus.FAILED,
        *(TaskStatus.CANCELLED,) * 2,
    ]
    assert [task.attempt for task in tasks[1:]] == [0, 0]
