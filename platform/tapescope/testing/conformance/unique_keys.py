"""Unique keys: of an op no two tasks with one key are open at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tapescope.errors import BadSetting, IdempotencyConflict
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, NewTask, Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OPS, OTHER, OWNER, SHORT, outlast_lease

ERROR = ErrorInfo("ValueError", "no luck")


async def _succeed(store: TaskStore, claim: Claim) -> None:
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded(None))


async def _fail(store: TaskStore, claim: Claim) -> None:
    await store.finish_if_running(claim.attempt, FinalEvent.failed(ERROR))


async def _cancel_in_a_retry(store: TaskStore, claim: Claim) -> None:
    await store.request_cancel(claim.task.task_id)
    await store.retry_later(claim.attempt, ERROR, store.clock.now())


async def _lose(store: TaskStore, claim: Claim) -> None:
    await outlast_lease(store, claim)
    await store.leases.rescue_expired()


async def _release_and_cancel(store: TaskStore, claim: Claim) -> None:
    await store.release(claim.attempt)
    await store.request_cancel(claim.task.task_id)


_ENDS: dict[str, Callable[[TaskStore, Claim], Awaitable[None]]] = {
    "succeeded": _succeed,
    "failed": _fail,
    "cancelled while running": _cancel_in_a_retry,
    "cancelled while pending": _release_and_cancel,
    "lost": _lose,
}


class UniqueKeysConformance(StoreSuite):
    """Unique keys: of an op no two tasks with one key are open at once."""

    async def test_an_open_task_is_the_answer(self, store: TaskStore) -> None:
        """Pending, running and waiting for a retry, whatever the params are; of its op alone."""
        first, created = await _submit(store, {"a": 1})
        pending = await _submit(store, {"a": 2})
        (claim,) = await store.claim_due(OWNER, OPS, 1, LEASE)
        running = await _submit(store, {})
        await store.retry_later(claim.attempt, ERROR, store.clock.now() + HOUR)
        waiting = await _submit(store, {})
        other_op = await store.create(NewTask(new_task_id(), "other", unique_key="u"))
        other_key = await store.create(NewTask(new_task_id(), "work", unique_key="U"))
        no_key = await store.create(NewTask(new_task_id(), "work"))

        assert created
        assert first.unique_key == claim.task.unique_key == "u"
        assert [(task.task_id, new) for task, new in (pending, running, waiting)] == [
            (first.task_id, False)
        ] * 3
        assert [task.status for task, _ in (pending, running, waiting)] == [
            TaskStatus.PENDING,
            TaskStatus.RUNNING,
            TaskStatus.PENDING,
        ]
        assert pending[0].params == {"a": 1}
        assert [new for _, new in (other_op, other_key, no_key)] == [True] * 3

    @pytest.mark.parametrize("how", _ENDS)
    async def test_a_key_is_free_when_its_task_has_ended(self, store: TaskStore, how: str) -> None:
        """However it ended: the next submit makes a task, and has the key."""
        first, _ = await _submit(store)
        (claim,) = await store.claim_due(OWNER, OPS, 1, SHORT if how == "lost" else LEASE)
        await _ENDS[how](store, claim)
        second, created = await _submit(store)
        third, again = await _submit(store)
        ended = await store.get(first.task_id)

        assert (claim.task.task_id, ended.status.terminal) == (first.task_id, True)
        assert ended.unique_key == "u"
        assert (created, again) == (True, False)
        assert first.task_id != second.task_id == third.task_id

    async def test_many_at_once_make_one_task(self, store: TaskStore) -> None:
        """Of one flush and of several, with other tasks between them."""
        made = await asyncio.gather(
            *(
                store.create(NewTask(new_task_id(), "work", unique_key=None if n % 3 else "u"))
                for n in range(60)
            )
        )
        keyed = made[::3]

        assert len({task.task_id for task, _ in keyed}) == 1
        assert [created for _, created in keyed].count(True) == 1
        assert len({task.task_id for task, _ in made}) == 41

    async def test_two_processes_make_one_task(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """While tasks of the key are ended as fast as they come: never are two open at once."""
        both = (store, second_store)
        made: set[str] = set()
        for n in range(10):
            answers = await asyncio.gather(*(_submit(both[k % 2]) for k in range(6)))
            (task_id,) = {task.task_id for task, _ in answers}
            made.add(task_id)
            (claim,) = await both[n % 2].claim_due(OTHER, OPS, 10, LEASE)
            ending = asyncio.ensure_future(_end(both[n % 2], claim))
            raced = await asyncio.gather(*(_submit(both[k % 2]) for k in range(6)))
            ended = await ending
            made |= {task.task_id for task, _ in raced}
            for task in (await store.list(status=TaskStatus.PENDING)).tasks:
                await store.request_cancel(task.task_id)

            assert ended
            assert len({task.task_id for task, _ in raced} - {task_id}) <= 1

        assert len(made) == (await store.count())[TaskStatus.CANCELLED] + 10

    async def test_both_kinds_of_key(self, store: TaskStore) -> None:
        """The idempotency key goes first, and is for ever; the unique key says nothing of
        params."""
        first, _ = await store.create(
            NewTask(new_task_id(), "work", {"a": 1}, idempotency_key="i", unique_key="u")
        )
        by_unique, _ = await store.create(
            NewTask(new_task_id(), "work", {"a": 2}, idempotency_key="j", unique_key="u")
        )
        await store.request_cancel(first.task_id)
        second, created = await store.create(
            NewTask(new_task_id(), "work", {"a": 2}, idempotency_key="j", unique_key="u")
        )
        by_idempotency, _ = await store.create(
            NewTask(new_task_id(), "work", {"a": 1}, idempotency_key="i", unique_key="u")
        )
        with pytest.raises(IdempotencyConflict):
            await store.create(NewTask(new_task_id(), "work", idempotency_key="i", unique_key="u"))

        assert by_unique.task_id == first.task_id == by_idempotency.task_id
        assert created
        assert second.task_id != first.task_id

    @pytest.mark.parametrize("key", ["nul \0 in it", "lone surrogate \ud800", "x" * 1_025, 7, b"k"])
    async def test_a_bad_key_is_refused(self, store: TaskStore, key: object) -> None:
        """And nothing is created."""
        with pytest.raises(BadSetting, match="unique_key"):
            await store.create(NewTask(new_task_id(), "work", unique_key=key))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose

        assert (await store.list()).tasks == ()

    async def test_a_task_with_a_key_is_not_born_running(self, store: TaskStore) -> None:
        """It may be another submit's answer, so it takes two steps."""
        with pytest.raises(BadSetting, match="unique_key"):
            await store.create_claimed(NewTask(new_task_id(), "work", unique_key="u"), OWNER, LEASE)

        assert (await store.list()).tasks == ()

    async def test_a_pruned_task_leaves_its_key_alone(self, unrecorded_store: TaskStore) -> None:
        """To delete the ended task of a key does nothing to the open one."""
        store = unrecorded_store
        first, _ = await _submit(store)
        await store.request_cancel(first.task_id)
        second, _ = await _submit(store)
        pruned = await store.maintenance.prune(older_than=0)
        again, created = await _submit(store)

        assert pruned == 1
        assert (again.task_id, created) == (second.task_id, False)


async def _submit(store: TaskStore, params: dict[str, int] | None = None) -> tuple[Task, bool]:
    return await store.create(NewTask(new_task_id(), "work", params or {}, unique_key="u"))


async def _end(store: TaskStore, claim: Claim) -> bool:
    return (await store.finish_if_running(claim.attempt, FinalEvent.succeeded(None))).won
