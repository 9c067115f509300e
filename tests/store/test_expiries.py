"""Tasks that have expired and cannot be ended just now: what becomes of others, and of claims."""

from __future__ import annotations

import pytest

from tapescope.errors import StoreUnavailable
from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store import Flush, FlushAnswer, FlushRefused, StoreAway
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend
from tapescope.testing.tasks import LEASE, OPS, OWNER


class Stubborn(MemoryBackend):
    """A store that refuses the cancels of some tasks, or is away for all of them."""

    refused = ""
    away = False

    async def write(self, flush: Flush) -> FlushAnswer:
        """As any, but for those cancels."""
        if flush.cancels and self.away:
            raise StoreAway("it is away")
        if any(row.task_id == self.refused for row in flush.cancels):
            raise FlushRefused("not this one")
        return await super().write(flush)


async def make_expired(store: TaskStore) -> str:
    """A task that has been due since long ago, and had a second."""
    task, _ = await store.create(NewTask(new_task_id(), "work", run_at=1, expires_in=1))
    return task.task_id


async def test_one_that_cannot_be_ended_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is passed over, warned of once, and ended in a later round, once it can be."""
    backend = Stubborn()
    async with TaskStore(backend) as store:
        ids = [await make_expired(store) for _ in range(5)]
        backend.refused = ids[0]
        counts = [await store.end_expired(2) for _ in range(5)]
        stuck = (await store.get(ids[0])).status
        backend.refused = ""
        counts.append(await store.end_expired(2))
        ended = {(await store.get(task_id)).status for task_id in ids}

    assert counts == [1, 2, 1, 0, 0, 1]
    assert stuck is TaskStatus.PENDING
    assert ended == {TaskStatus.CANCELLED}
    assert caplog.text.count("1 tasks could not be ended, though they have expired") == 1


async def test_claims_are_kept_where_the_store_is_away() -> None:
    """What was claimed is its caller's, who meets the error where there was nothing to claim; what
    has expired waits for its end, and is not begun."""
    backend = Stubborn()
    async with TaskStore(backend, patience=0.05) as store:
        over = await make_expired(store)
        live, _ = await store.create(NewTask(new_task_id(), "work"))
        backend.away = True
        (claim,) = await store.claim_due(OWNER, OPS, 2, LEASE)
        with pytest.raises(StoreUnavailable):
            await store.claim_due(OWNER, OPS, 2, LEASE)
        waits = await store.get(over)
        backend.away = False
        then = await store.claim_due(OWNER, OPS, 2, LEASE)

        assert claim.task.task_id == live.task_id
        assert (waits.status, waits.attempt) == (TaskStatus.PENDING, 0)
        assert then == []
        assert (await store.get(over)).status is TaskStatus.CANCELLED


async def test_a_claim_ends_when_nothing_can_be_ended() -> None:
    """It does not go round and round what it cannot have: the caller asks again later."""
    backend = Stubborn()
    async with TaskStore(backend) as store:
        backend.refused = await make_expired(store)
        asked = 0

        async def claim_due(order: object) -> object:
            nonlocal asked
            asked += 1
            return await MemoryBackend.claim_due(backend, order)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as it was given

        backend.claim_due = claim_due  # type: ignore[method-assign,assignment]  # pyright: ignore[reportAttributeAccessIssue]  # counted
        claims = await store.claim_due(OWNER, OPS, 2, LEASE)

    assert (claims, asked) == ([], 1)
