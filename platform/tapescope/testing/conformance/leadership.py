"""Leadership: one owner of many does the store's maintenance at a time."""

from __future__ import annotations

import asyncio

from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.polling import until


class LeadershipConformance(StoreSuite):
    """Leadership: one owner of many does the store's maintenance at a time."""

    async def test_one_owner_leads(self, store: TaskStore) -> None:
        """The leader renews its term; no other owner leads until it resigns."""
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

    async def test_one_of_many_at_once_leads(self, store: TaskStore) -> None:
        """Of twenty owners that ask at the same time one leads."""
        terms = await asyncio.gather(
            *(store.leadership.acquire(f"owner {n}", 60) for n in range(20))
        )

        assert sum(term is not None for term in terms) == 1

    async def test_leadership_of_a_silent_owner_ends(self, store: TaskStore) -> None:
        """A term lasts for its lease, and no longer."""
        await store.leadership.acquire("a", 0.000_001)

        assert await until(lambda: store.leadership.acquire("b", 60)) is not None
        assert await store.leadership.acquire("a", 60) is None

    async def test_jobs_are_on_record(self, store: TaskStore) -> None:
        """The next leader knows what the last one did; no other owner records a job."""
        began = await store.leadership.acquire("a", 60)
        await store.leadership.record_job("b", "pruned")
        await store.leadership.record_job("b", "audited")
        before = await store.leadership.acquire("a", 60)
        await store.leadership.record_job("a", "audited")
        await store.leadership.resign("a")
        term = await store.leadership.acquire("b", 60)

        assert began is not None
        assert before is not None
        assert (before.audited_at, before.pruned_at) == (0, 0)
        assert term is not None
        assert began.now <= term.audited_at <= term.now
        assert term.pruned_at == 0

    async def test_open_tasks_are_found(self, store: TaskStore) -> None:
        """Open tasks over a key, as many as asked for, and those among the keys asked about."""
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
