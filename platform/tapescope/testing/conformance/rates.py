"""Rates: of an op's tasks with one concurrency key no more attempts begin in any window of time
than its rate has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.polling import until
from tapescope.testing.tasks import HOUR, LEASE, OPS, OTHER, OWNER, create_keyed

ERROR = ErrorInfo("ValueError", "no luck")
WINDOW = 200_000
"""Microseconds of a window that a test outlasts."""


class RatesConformance(StoreSuite):
    """Rates: of an op's tasks with one concurrency key no more attempts begin in any window of time
    than its rate has."""

    async def test_no_more_begin_than_the_window_has(self, store: TaskStore) -> None:
        """Of each key, and an end makes no room; what may not begin is pending and parked, and
        other tasks go by it."""
        await store.ops.register([_rated(2), KnownOp("other")])
        tasks = [
            await create_keyed(store, key) for key in ("a", "a", "a", "b", None, "a", "b", "b")
        ]
        others = [await create_keyed(store, "a", op="other") for _ in range(3)]
        claims = await _claim(store, 100)
        for one in claims:
            await _succeed(store, one)
        again = await _claim(store, 100)
        rows = [await store.get(task.task_id) for task in tasks]

        assert [task.parked for task in tasks] == [True] * 4 + [False] + [True] * 3
        assert {one.task.task_id for one in claims} == {
            task.task_id for task in (*(tasks[n] for n in (0, 1, 3, 4, 6)), *others)
        }
        assert again == []
        assert [row.parked for row in rows] == [n in (2, 5, 7) for n in range(8)]
        assert [row.run_us for row in rows] == [task.run_us for task in tasks]

    async def test_the_next_one_begins_when_the_window_lets_it(self, store: TaskStore) -> None:
        """``next_due`` says when that is, and the window slides: it has no edge at which twice as
        many begin."""
        await store.ops.register([_rated(2, WINDOW)])
        for _ in range(8):
            await create_keyed(store, "k")
        claims: list[Claim] = []
        told: list[int | None] = []
        while len(claims) < 8:
            some = await _claim(store, 1)
            claims += some
            if some:
                told.append(await store.next_due(["work"]))
            else:
                due = await store.next_due(["work"])
                assert due is not None
                await until(lambda due=due: store.clock.now() > due)  # type: ignore[misc]  # mypy knows no type of a default
        begun = [_begun(one) for one in claims]

        assert all(later - at >= WINDOW for at, later in zip(begun, begun[2:], strict=False))
        assert [told[n] for n in (1, 3, 5)] == [begun[n] + WINDOW for n in (0, 2, 4)]

    async def test_a_retry_counts_again(self, store: TaskStore) -> None:
        """And so do a release and a rescue: each attempt that begins."""
        await store.ops.register([_rated(3)])
        await create_keyed(store, "k", retries=2)
        (claim,) = await _claim(store, 5)
        await store.retry_later(claim.attempt, ERROR, store.clock.now())
        (claim,) = await _claim(store, 5)
        await store.release(claim.attempt)
        (claim,) = await _claim(store, 5)
        await store.retry_later(claim.attempt, ERROR, store.clock.now())
        none = await _claim(store, 5)
        await create_keyed(store, "other")
        beside = await _claim(store, 5)

        assert none == []
        assert len(beside) == 1
        assert await store.next_due(["work"]) is not None

    async def test_what_may_begin_counts_until_it_has(self, store: TaskStore) -> None:
        """A task that is due, and that no claim has taken yet, has its place in the window however
        long it waits, and for one window from its claim on."""
        await store.ops.register([_rated(1, WINDOW)])
        now = store.clock.now()
        first = await create_keyed(store, "k", queue="bulk", run_at=now - HOUR)
        second = await create_keyed(store, "k", queue="mail")
        given = await _claim(store, 5, queues=["mail"])
        at = store.clock.now()
        await until(lambda: store.clock.now() > at + 2 * WINDOW)
        await create_keyed(store, "k", queue="mail")  # so that a claim looks at the key
        late = await _claim(store, 5, queues=["mail"])
        (claim,) = await _claim(store, 5, queues=["bulk"])
        full = await _claim(store, 5)
        (after,) = await _claim_next(store)

        assert (given, late, full) == ([], [], [])
        assert (claim.task.task_id, after.task.task_id) == (first.task_id, second.task_id)
        assert _begun(after) - _begun(claim) >= WINDOW

    async def test_a_cancel_before_the_claim_gives_the_place_back(self, store: TaskStore) -> None:
        """At once: no attempt has begun. Of one that runs its place stays taken."""
        await store.ops.register([_rated(1)])
        now = store.clock.now()
        first = await create_keyed(store, "k", queue="bulk", run_at=now - HOUR)
        second, third = [await create_keyed(store, "k", queue="mail") for _ in range(2)]
        given = await _claim(store, 5, queues=["mail"])
        await store.request_cancel(first.task_id)
        (claim,) = await _claim(store, 5)
        await store.request_cancel(claim.task.task_id)
        await store.retry_later(claim.attempt, ERROR, store.clock.now())
        ended = await store.get(second.task_id)
        none = await _claim(store, 5)
        await store.request_cancel(third.task_id)

        assert given == []
        assert (claim.task.task_id, ended.status) == (second.task_id, TaskStatus.CANCELLED)
        assert none == []

    async def test_slots_and_a_rate(self, store: TaskStore) -> None:
        """With both, each says no: no more run at once, and no more begin in a window."""
        await store.ops.register([_rated(3, max_concurrent=2)])
        for _ in range(5):
            await create_keyed(store, "k")
        first = await _claim(store, 9)
        for one in first:
            await _succeed(store, one)
        second = await _claim(store, 9)
        for one in second:
            await _succeed(store, one)
        third = await _claim(store, 9)
        await store.ops.register([_rated(9, max_concurrent=1)])
        fourth = await _claim(store, 9)

        assert list(map(len, (first, second, third, fourth))) == [2, 1, 0, 1]

    async def test_an_op_may_change_its_rate(self, store: TaskStore) -> None:
        """With more some begin at once, with less nothing before it fits; without a rate all do,
        and what began by then counts in no later one. Nobody need hold the key meanwhile."""
        counts: list[int] = []
        held: list[Claim] = []
        for _ in range(9):
            await create_keyed(store, "k")
        for known, limit, end in (
            (_rated(1), 9, False),
            (_rated(3), 9, False),
            (_rated(2), 9, True),
            (_rated(2), 9, False),  # after it there is no look that an end has left
            (_rated(2, 1), 9, True),
            (_rated(2), 9, False),
            (KnownOp("work"), 1, True),
            (_rated(2), 9, True),
        ):
            await store.ops.register([known])
            claims = await _claim(store, limit)
            counts.append(len(claims))
            held += claims
            while end and held:
                await _succeed(store, held.pop())
        told = await store.ops.read()

        assert counts == [1, 2, 0, 0, 2, 0, 1, 2]
        assert (told["work"].rate_times, told["work"].rate_per_us) == (2, HOUR)

    async def test_the_order_among_what_waits(self, store: TaskStore) -> None:
        """The higher priority, then the longest due, then the older one; none before its time."""
        await store.ops.register([_rated(1, 1)])
        now = store.clock.now()
        given = [(0, 0), (0, -2), (5, -1), (-9, -9), (9, 3), (5, -2), (0, -2)]
        tasks = [
            await create_keyed(store, "k", priority=priority, run_at=now + hours * HOUR)
            for priority, hours in given
        ]
        order = [one.task.task_id for _ in range(6) for one in await _claim_next(store)]

        assert order == [tasks[n].task_id for n in (5, 2, 1, 6, 0, 3)]
        assert await _claim(store, 3) == []

    async def test_a_claim_gives_no_more_places_than_it_has(self, store: TaskStore) -> None:
        """And what it leaves of a key with room goes to the next one."""
        await store.ops.register([_rated(10)])
        for key in "abab":
            for _ in range(3):
                await create_keyed(store, key)

        assert [len(await _claim(store, size)) for size in (1, 2, 3, 5, 8)] == [1, 2, 3, 5, 1]

    async def test_what_waits_for_the_window_is_not_due(self, store: TaskStore) -> None:
        """In the numbers of what waits it is scheduled, or retrying."""
        await store.ops.register([_rated(1)])
        for _ in range(4):
            await create_keyed(store, "k", retries=1)
        (claim,) = await _claim(store, 9)
        await store.retry_later(claim.attempt, ERROR, store.clock.now())
        (one,) = (await store.backlog.read(max_age=0)).ops
        counts = await store.backlog.recount()

        assert (one.due, one.scheduled, one.retrying, one.running) == (0, 3, 1, 0)
        assert not any(count.differs for count in counts)

    async def test_a_pause_holds_what_waits_for_the_window(self, store: TaskStore) -> None:
        """No place is given meanwhile."""
        await store.ops.register([_rated(1)])
        await create_keyed(store, "k")
        await store.ops.pause("work")
        paused = await _claim(store, 5), await store.next_due(OPS)
        await store.ops.resume("work")

        assert paused == ([], None)
        assert len(await _claim(store, 5)) == 1

    @pytest.mark.parametrize("times", [1, 3])
    async def test_two_processes_begin_no_more_than_the_window_has(
        self, store: TaskStore, second_store: TaskStore, times: int
    ) -> None:
        """They claim, end and retry as fast as they can: all tasks end, and by the times of their
        claims no window has more."""
        window = WINDOW // 10
        await store.ops.register([_rated(times, window)])
        both = (store, second_store)
        await asyncio.gather(
            *(create_keyed(both[n % 2], f"k{n % 2}", retries=1) for n in range(8 * times))
        )
        begun: dict[str | None, list[int]] = {"k0": [], "k1": []}

        async def work(own: TaskStore, owner: str) -> None:
            while (await own.count())[TaskStatus.PENDING]:
                for claim in await own.claim_due(owner, OPS, 2, LEASE):
                    begun[claim.task.concurrency_key].append(_begun(claim))
                    if claim.attempt.number == 1 and len(begun["k0"]) % 2:
                        await own.retry_later(claim.attempt, ERROR, own.clock.now())
                    else:
                        await _succeed(own, claim)

        await asyncio.gather(*(work(own, owner) for own in both for owner in (OWNER, OTHER)))
        ordered = [sorted(some) for some in begun.values()]

        assert (await store.count())[TaskStatus.SUCCEEDED] == 8 * times
        assert all(
            later - at >= window
            for some in ordered
            for at, later in zip(some, some[times:], strict=False)
        )


def _rated(times: int, per_us: int = HOUR, max_concurrent: int | None = None) -> KnownOp:
    return KnownOp(
        "work", max_concurrent=max_concurrent, rate_times=times, rate_per_us=per_us, retries=1
    )


def _begun(claim: Claim) -> int:
    """When the store says that the attempt began."""
    begun = claim.task.claimed_us
    assert begun is not None
    return begun


async def _succeed(store: TaskStore, claim: Claim) -> None:
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded(None))


async def _claim(
    store: TaskStore, limit: int, queues: Sequence[str] | None = None
) -> Sequence[Claim]:
    return await store.claim_due(OWNER, OPS, limit, LEASE, queues=queues)


async def _claim_next(store: TaskStore) -> Sequence[Claim]:
    """What the next claim takes that takes anything."""
    claims: list[Claim] = []

    async def take() -> bool:
        claims.extend(await _claim(store, 1))
        return bool(claims)

    await until(take)
    return claims
