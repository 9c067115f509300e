"""Workers that want the same tasks, and cancels that come while they are claimed."""

from __future__ import annotations

import asyncio

from tapescope.model.tasks import Claim, FinalEvent, TaskStatus
from tapescope.store.flush import CancelState
from tapescope.store.port import TaskStore
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OPS, create

TASKS, OWNERS, RACES = 500, 8, 256


async def _claim_all(store: TaskStore, owner: str) -> list[Claim]:
    """Small batches, so that claims and cancels take turns."""
    taken: list[Claim] = []
    while await store.next_due(OPS) is not None:
        taken += await store.claim_due(owner, OPS, 5, LEASE)
    return taken


async def drain(store: TaskStore, owner: str, limit: int) -> list[Claim]:
    """Claim and finish until nothing is due; what is due but held by others is asked for again."""
    taken: list[Claim] = []
    while await store.next_due(OPS) is not None:
        claims = await store.claim_due(owner, OPS, limit, LEASE)
        taken += claims
        finishes = (store.finish_if_running(one.attempt, FinalEvent.succeeded()) for one in claims)
        assert all(finished.won for finished in await asyncio.gather(*finishes))
    return taken


class RacesConformance(StoreSuite):
    """Workers that want the same tasks, and cancels that come while they are claimed."""

    async def test_each_task_is_claimed_by_one_owner(
        self, store: TaskStore, stores: Stores
    ) -> None:
        """Eight owners on two instances drain 500 tasks: each is claimed once, and none is left."""
        second = await stores.open() if store.outlives_process else store
        task_ids = await asyncio.gather(*(create(store, OPS[n % 2]) for n in range(TASKS)))
        taken = await asyncio.gather(
            *(drain((store, second)[n % 2], f"owner-{n}", 1 + 3 * n) for n in range(OWNERS))
        )
        claimed = [claim.task.task_id for claims in taken for claim in claims]
        counts = await store.count()

        assert sorted(claimed) == sorted(task_ids)
        assert counts[TaskStatus.SUCCEEDED] == TASKS

    async def test_one_owners_calls_share_nothing(self, store: TaskStore) -> None:
        """An owner that asks several times at once is given each task once."""
        task_ids = await asyncio.gather(*(create(store) for _ in range(20)))
        batches = await asyncio.gather(*(store.claim_due("me", OPS, 5, LEASE) for _ in range(5)))
        claimed = [claim.task.task_id for batch in batches for claim in batch]

        assert sorted(claimed) == sorted(task_ids)

    async def test_cancel_against_claim_is_never_lost(self, store: TaskStore) -> None:
        """256 cancels at the moment of the claim: each task ends, or runs with it on record."""
        task_ids = await asyncio.gather(*(create(store) for _ in range(RACES)))
        claiming = [asyncio.ensure_future(_claim_all(store, f"owner-{n}")) for n in range(4)]
        answers = await asyncio.gather(*(store.request_cancel(task_id) for task_id in task_ids))
        claims = {c.task.task_id: c for batch in await asyncio.gather(*claiming) for c in batch}
        for claim in claims.values():
            task = await store.get(claim.task.task_id)
            assert task.cancel is not None
            finished = await store.finish_if_running(
                claim.attempt, FinalEvent.cancelled(task.cancel)
            )
            assert finished.won
        counts = await store.count()
        met = {state: sum(answer.state is state for answer in answers) for state in CancelState}

        assert counts[TaskStatus.CANCELLED] == RACES
        assert met[CancelState.CANCELLED] + met[CancelState.RECORDED] == RACES
        assert met[CancelState.RECORDED] == len(claims)
