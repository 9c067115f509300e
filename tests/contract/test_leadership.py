"""Leadership: one owner at a time does a store's maintenance, on every store."""

from __future__ import annotations

import asyncio

from tapescope import NewTask, TaskStore
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import new_task_id
from tests.support.polling import until


async def test_leadership_is_one_owner_s(store: TaskStore) -> None:
    """The leader renews its leadership; no other owner acquires it before the leader resigns."""
    first = await store.leadership.acquire("a", 60)
    again = await store.leadership.acquire("a", 60)
    other = await store.leadership.acquire("b", 60)
    await store.leadership.resign("b")
    still = await store.leadership.acquire("b", 60)
    await store.leadership.resign("a")
    then = await store.leadership.acquire("b", 60)

    assert first is not None
    assert again is not None
    assert (other, still) == (None, None)
    assert then is not None
    assert (first.audited_at, first.pruned_at) == (0, 0)


async def test_one_of_many_owners_at_once_leads(store: TaskStore) -> None:
    """Of twenty that ask at the same time one gets it."""
    terms = await asyncio.gather(*(store.leadership.acquire(f"owner {n}", 60) for n in range(20)))

    assert sum(term is not None for term in terms) == 1


async def test_leadership_of_a_silent_owner_ends(store: TaskStore) -> None:
    """It holds for its lease, and no longer."""
    await store.leadership.acquire("a", 0.000_001)

    assert await until(lambda: store.leadership.acquire("b", 60)) is not None
    assert await store.leadership.acquire("a", 60) is None


async def test_jobs_are_on_record(store: TaskStore) -> None:
    """The next leader learns what the last one did; an owner that does not lead records nothing."""
    began = await store.leadership.acquire("a", 60)
    await store.leadership.record_job("b", "pruned")
    await store.leadership.record_job("a", "audited")
    await store.leadership.resign("a")
    term = await store.leadership.acquire("b", 60)

    assert began is not None
    assert term is not None
    assert began.now <= term.audited_at <= term.now
    assert term.pruned_at == 0


async def test_open_tasks_are_found(store: TaskStore) -> None:
    """Those beyond a key, as many as asked for, and of some keys those that have not ended."""
    tasks = [(await store.create(NewTask(new_task_id(), "x")))[0] for _ in range(5)]
    for task in tasks[:3]:
        claim = await store.claim_if_pending(task, "me", 60)
        assert claim is not None
        if task is not tasks[2]:
            await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
    keys = [task.key for task in tasks]

    assert await store.maintenance.find_open() == (keys[4], frozenset(keys[2:]))
    assert await store.maintenance.find_open(limit=2) == (keys[4], frozenset(keys[2:4]))
    assert await store.maintenance.find_open(after=keys[4]) == (keys[4], frozenset())
    assert await store.maintenance.find_open(after=keys[4], among=keys) == (
        keys[4],
        frozenset(keys[2:]),
    )
