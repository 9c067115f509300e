"""Group commit in trouble: lost replies, a store that is away, rows that others hold, closing.

Every test ends with the judge: the tapes are whole, every answer is true, the ledger balances.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest

from tapescope.errors import EventFateUnknown, StoreBusy, StoreClosed, StoreUnavailable
from tapescope.model.leases import GivenUp
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Attempt, CancelReason, ErrorInfo, FinalEvent, NewTask
from tapescope.store.flush import CancelState, FateUnknown, Flush, FlushBlocked, StoreAway
from tapescope.store.follow import await_final, follow_tape
from tapescope.store.orders import DueOrder, DueRow, RescuedRow, RescueOrder
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing import settle_loop
from tapescope.testing.tasks import log, start
from tests.support.memory_stores import (
    FaultyBackend,
    FaultyStore,
    Gate,
    TwoLaneBackend,
    at_rest,
    bodies,
    holds,
)
from tests.support.virtual_time import advance, in_virtual_time

# --- resending ------------------------------------------------------------------------------------


@pytest.mark.parametrize("applied", [True, False])
@in_virtual_time
async def test_unknown_fate_is_resent_unchanged_and_first(applied: bool) -> None:
    """A flush whose reply was lost is sent again as it was, before anything else of its tasks."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        store.faults.flushes.clear()

        async def lose(_: Flush) -> None:
            if len(store.faults.flushes) <= 3:
                raise FateUnknown("connection reset")

        if applied:
            store.faults.after = lose
        else:
            store.faults.before = lose
        first = store.append_nowait(attempt, [log("first")])
        await settle_loop()
        second = store.append_nowait(attempt, [log("second")])
        answers = await asyncio.gather(first, second)

        assert [flush.number for flush in store.faults.flushes] == [
            *[store.faults.flushes[0].number] * 4,
            store.faults.flushes[0].number + 1,
        ]
        assert [answer.stored for answer in answers] == [range(2, 3), range(3, 4)]
        assert await bodies(store, attempt.task_id) == ["first", "second"]


@pytest.mark.parametrize("applied", [True, False])
@in_virtual_time
async def test_fate_never_learned_is_said_and_counted(applied: bool) -> None:
    """Past the patience the caller gets ``EventFateUnknown``, and the tape's end is read again."""
    async with at_rest(FaultyStore(patience=5)) as store:
        attempt = await start(store)

        async def lose(_: Flush) -> None:
            raise FateUnknown("connection reset")

        if applied:
            store.faults.after = lose
        else:
            store.faults.before = lose
        with pytest.raises(EventFateUnknown, match="within 5 s"):
            await store.append(attempt, [log("lost?")])
        failed = store.meter.ledger.failed_by_type()

        store.faults.before = store.faults.after = FaultyBackend().before
        store.faults.flushes.clear()
        answer = await store.append(attempt, [log("later")])

        assert len(store.faults.flushes) == 1, "the end was read before it was written to"
        assert failed["log", "tapescope.errors.EventFateUnknown"] == 1
        assert answer.stored == (range(3, 4) if applied else range(2, 3))


async def finish(store: TaskStore, attempt: Attempt) -> None:
    """Its run ends it."""
    await store.finish_if_running(attempt, FinalEvent.succeeded(7))


async def cancel(store: TaskStore, attempt: Attempt) -> None:
    """A cancel ends it, while it is pending."""
    await store.request_cancel(attempt.task_id)


@pytest.mark.parametrize("end", [finish, cancel])
@in_virtual_time
async def test_a_follower_hears_of_an_end_whose_reply_was_lost_for_good(
    end: Callable[[TaskStore, Attempt], Awaitable[None]],
) -> None:
    """Who asks again is answered as the first time, and who follows here is told then."""
    async with at_rest(FaultyStore(patience=5)) as store:
        attempt = await start(store)
        if end is cancel:
            await store.release(attempt)
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(await_final(store, attempt.task_id)),
            asyncio.ensure_future(follow_to_the_end(store, attempt.task_id)),
        ]
        await settle_loop()

        async def lose(_: Flush) -> None:
            raise FateUnknown("connection reset")

        store.faults.after = lose
        with pytest.raises(EventFateUnknown):
            await end(store, attempt)
        assert not any(one.done() for one in waiting)
        store.faults.after = FaultyBackend().after
        await end(store, attempt)
        await settle_loop()

        assert all(one.done() for one in waiting), "nobody else will tell them"
        await asyncio.gather(*waiting)


async def lose_reply(store: FaultyStore, attempt: Attempt) -> None:
    """A cancel in a flush."""

    async def lose(_: Flush) -> None:
        raise FateUnknown("connection reset")

    store.faults.after = lose
    with pytest.raises(EventFateUnknown):
        await store.request_cancel(attempt.task_id)
    store.faults.after = FaultyBackend().after


async def lose_claim(store: FaultyStore, attempt: Attempt) -> None:
    """A claim of what is due."""
    claim = store.faults.claim_due

    async def claim_due(order: DueOrder) -> Sequence[DueRow]:
        await claim(order)
        raise FateUnknown("connection reset")

    with patch.object(store.faults, "claim_due", claim_due), pytest.raises(EventFateUnknown):
        await store.claim_due("me", ["work"], 1, 60)


async def lose_rescue(store: FaultyStore, attempt: Attempt) -> None:
    """What is written at once, and not in a flush: here a rescue."""
    (claim,) = await store.claim_due("gone", ["work"], 1, 60)
    rescue = store.faults.rescue

    async def carry_out(order: RescueOrder) -> Sequence[RescuedRow]:
        await rescue(order)
        raise StoreAway("it does not answer")

    lost = patch.object(store.faults, "rescue", carry_out)
    with lost, pytest.raises(StoreUnavailable):
        await store.leases.rescue_expired(ops=[], dead_owners=[claim.attempt.owner])


@pytest.mark.parametrize("lose", [lose_reply, lose_claim, lose_rescue])
@in_virtual_time
async def test_who_follows_looks_when_the_store_answers_again(
    lose: Callable[[FaultyStore, Attempt], Awaitable[None]],
) -> None:
    """Nobody asks again for what was written: the next answer, whoever has it, has them look."""
    async with FaultyStore(patience=5) as store:  # the judge does not know of a lost rescue
        attempt = await start(store, "work")
        await store.release(attempt)
        seen: list[str] = []

        async def follow() -> None:
            async for event in follow_tape(store, attempt.task_id):
                seen.append(event.type)  # noqa: PERF401  # one by one: it does not come to its end

        following = asyncio.ensure_future(follow())
        await settle_loop()
        await lose(store, attempt)
        await settle_loop()
        before = len(seen)
        await store.count()
        await settle_loop()
        tape = [event.type for event in (await store.read_tape(attempt.task_id)).events]
        following.cancel()

        assert before < len(tape)
        assert seen == tape


async def follow_to_the_end(store: TaskStore, task_id: str) -> None:
    """Follow a tape until it has its ``final``."""
    async for _ in follow_tape(store, task_id):
        pass


GIVING_UP: dict[str, Callable[[TaskStore, Attempt], Awaitable[GivenUp]]] = {
    "retry": lambda store, attempt: store.retry_later(attempt, ErrorInfo("ValueError", "no"), 0),
    "release": lambda store, attempt: store.release(attempt, "closing"),
}


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize("cancelled", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("taken", [False, True], ids=["", "taken by another"])
@pytest.mark.parametrize("how", GIVING_UP)
@in_virtual_time
async def test_giving_up_again_after_an_unknown_fate_is_no_late_event(
    how: str, taken: bool, cancelled: bool, applied: bool
) -> None:
    """Asked for again, it is answered as the first time where that was carried out: no drop."""
    async with at_rest(FaultyStore(patience=5)) as store:
        attempt = await start(store)
        if cancelled:
            await store.request_cancel(attempt.task_id)

        async def lose(_: Flush) -> None:
            raise FateUnknown("connection reset")

        async def give_up(_: Flush) -> None:
            raise EventFateUnknown(0.0)  # as a file that was replaced meanwhile

        if applied:
            store.faults.after = give_up if taken else lose
        else:
            store.faults.before = lose
        with pytest.raises(EventFateUnknown):
            await GIVING_UP[how](store, attempt)
        store.faults.before = store.faults.after = FaultyBackend().before
        if taken and applied and not cancelled:
            row = await store.get(attempt.task_id)
            assert await store.claim_if_pending(row, "another", 60) is not None
        answer = await GIVING_UP[how](store, attempt)
        page = await store.read_tape(attempt.task_id)

        assert answer.dropped is None
        assert answer.pending is not cancelled
        assert (answer.final is not None) is cancelled
        assert answer.last_seq == 2
        assert page.events[1].type in ("attempt_failed", "attempt_released", "final")
        assert page.dropped == 0


@in_virtual_time
async def test_giving_up_again_is_a_late_event_where_a_rescue_came_first() -> None:
    """What another wrote in its place, under the same attempt, is not taken for its own."""
    async with at_rest(FaultyStore(patience=5)) as store:
        attempt = await start(store)

        async def lose(_: Flush) -> None:
            raise FateUnknown("connection reset")

        store.faults.before = lose
        with pytest.raises(EventFateUnknown):
            await store.retry_later(attempt, ErrorInfo("ValueError", "no"), 0)
        store.faults.before = FaultyBackend().before
        await store.leases.rescue_expired(dead_owners=[attempt.owner])
        answer = await store.retry_later(attempt, ErrorInfo("ValueError", "no"), 0)

        assert answer.dropped is not None


@pytest.mark.parametrize(
    "second", [FlushBlocked("the first try holds the row"), ZeroDivisionError("a defect")]
)
@in_virtual_time
async def test_trouble_of_a_resend_does_not_settle_the_fate(second: Exception) -> None:
    """While the first try may still be at work, the flush is sent again, never rebuilt."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        store.faults.flushes.clear()
        troubles = [FateUnknown("connection reset"), second]

        async def trouble(_: Flush) -> None:
            if troubles:
                raise troubles.pop(0)

        store.faults.after = trouble
        answer = await store.append(attempt, [log("once")])

        assert answer.stored == range(2, 3)
        assert len({flush.number for flush in store.faults.flushes}) == 1
        assert await bodies(store, attempt.task_id) == ["once"]


@in_virtual_time
async def test_store_that_is_away_is_waited_for() -> None:
    """Calls wait for a store that comes back within their patience."""
    async with at_rest(FaultyStore(patience=10)) as store:
        attempt = await start(store)
        back = store.clock.monotonic() + 8

        async def away(_: Flush) -> None:
            if store.clock.monotonic() < back:
                raise StoreAway("connection refused")

        store.faults.before = away

        assert (await store.append(attempt, [log()])).stored == range(2, 3)


@in_virtual_time
async def test_store_that_stays_away_is_unavailable() -> None:
    """Past the patience the error says that nothing was written, and it is true."""
    async with at_rest(FaultyStore(patience=10)) as store:
        attempt = await start(store)

        async def away(_: Flush) -> None:
            raise StoreAway("connection refused")

        store.faults.before = away
        with pytest.raises(StoreUnavailable, match="connection refused"):
            await store.append(attempt, [log()])
        store.faults.before = FaultyBackend().before

        assert await bodies(store, attempt.task_id) == []


# --- patience -------------------------------------------------------------------------------------


@in_virtual_time
async def test_patience_of_an_old_call_does_not_fail_its_neighbours() -> None:
    """A call that has waited long shares a flush with a fresh one, which keeps its own patience."""
    async with at_rest(FaultyStore(patience=10)) as store:
        old, fresh = await start(store), await start(store)
        store.faults.before = gate = Gate()
        first = store.append_nowait(old, [log("first")])
        await gate.reached.wait()
        second = store.append_nowait(old, [log("second")])
        advance(9)
        third = store.append_nowait(fresh, [log("third")])
        back = store.clock.monotonic() + 5

        async def away(_: Flush) -> None:
            if store.clock.monotonic() < back:
                raise StoreAway("connection refused")

        store.faults.before = away
        gate.opened.set()
        answers = await asyncio.gather(first, second, third, return_exceptions=True)

        assert [type(answer).__name__ for answer in answers] == [
            "Appended",
            "StoreUnavailable",
            "Appended",
        ]


@in_virtual_time
async def test_lost_reply_is_asked_for_again_however_old_the_call() -> None:
    """The wait for a lost reply begins when it was lost, not when the call was queued."""
    async with at_rest(FaultyStore(patience=10)) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        call = store.append_nowait(attempt, [log("old")])
        await gate.reached.wait()
        advance(60)
        troubles = [FateUnknown("connection reset")]

        async def lose(_: Flush) -> None:
            if troubles:
                raise troubles.pop()

        store.faults.after = lose
        gate.opened.set()

        assert (await call).stored == range(2, 3)


# --- parking --------------------------------------------------------------------------------------


@in_virtual_time
async def test_blocked_task_holds_up_only_itself() -> None:
    """While another session holds a row, other tasks are stored; the task's own order is kept."""
    async with at_rest(FaultyStore()) as store:
        blocked, other = await start(store), await start(store)
        until = store.clock.monotonic() + 1

        async def block(flush: Flush) -> None:
            if holds(flush, "blocked") and store.clock.monotonic() < until:
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        calls = [store.append_nowait(blocked, [log(f"blocked {n}")]) for n in range(3)]
        free = [store.append_nowait(other, [log(n)]) for n in range(3)]
        await asyncio.gather(*free)
        early = store.clock.monotonic() < until and not any(call.done() for call in calls)
        calls.append(store.append_nowait(blocked, [log("after")]))
        await asyncio.gather(*calls)

        assert early
        assert await bodies(store, blocked.task_id) == [
            "blocked 0",
            "blocked 1",
            "blocked 2",
            "after",
        ]


@in_virtual_time
async def test_whoever_waits_for_a_lock_delays_nobody_else() -> None:
    """The blocked call meets others in the one flush that finds it; then it is tried by itself."""
    async with at_rest(FaultyStore(faults=TwoLaneBackend())) as store:
        until = store.clock.monotonic() + 6
        met: list[list[str | None]] = []

        async def block(flush: Flush) -> None:
            keys = [row.idempotency_key for row in flush.creates]
            if "held" in keys:
                met.append(keys)
                await asyncio.sleep(0.5)  # the wait for the lock
                if store.clock.monotonic() < until:
                    raise FlushBlocked("lock timeout")

        def submit(key: str | None = None) -> asyncio.Future[Any]:
            return asyncio.ensure_future(
                store.create(NewTask(new_task_id(), "work", idempotency_key=key))
            )

        store.faults.before = block
        held = [submit("held"), *(submit() for _ in range(31))]
        await asyncio.gather(*held[1:])
        for _ in range(200):
            await submit()
        early = not held[0].done() and store.clock.monotonic() < until
        await held[0]

        assert early
        assert [len(keys) for keys in met[:6]] == [32, 16, 8, 4, 2, 1]
        assert {len(keys) for keys in met[6:]} == {1}


@in_virtual_time
async def test_many_that_wait_for_locks_wait_by_themselves() -> None:
    """However many calls wait for a lock, in events, claims and cancels: the others go on."""
    async with at_rest(FaultyStore(faults=TwoLaneBackend())) as store:
        blocked = [await start(store) for _ in range(20)]
        free = await start(store)
        until = store.clock.monotonic() + 5

        async def block(flush: Flush) -> None:
            if holds(flush, "blocked") and store.clock.monotonic() < until:
                await asyncio.sleep(0.5)
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        calls = [store.append_nowait(attempt, [log("blocked")]) for attempt in blocked]
        await settle_loop()
        for n in range(100):
            await store.append(free, [log(n)])
        early = store.clock.monotonic() < until and not any(call.done() for call in calls)
        await asyncio.gather(*calls)

        assert early
        assert await bodies(store, free.task_id) == list(range(100))


@in_virtual_time
async def test_parked_task_stays_parked_while_its_flush_is_split_further() -> None:
    """A split that takes long does not let a parked task into the other lane's flush meanwhile."""
    async with at_rest(FaultyStore(faults=TwoLaneBackend())) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(80)))
        until = store.clock.monotonic() + 6
        flying: Counter[int] = Counter()
        most = 0

        async def block(flush: Flush) -> None:
            nonlocal most
            keys = {row.key for row in flush.rows}
            flying.update(keys)
            most = max(most, *flying.values(), 0)
            await asyncio.sleep(0.3)  # a lock timeout: longer than a call is parked
            flying.subtract(keys)
            if holds(flush, "blocked") and store.clock.monotonic() < until:
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        calls = [
            store.append_nowait(attempt, [log(f"{'blocked' if n < 4 else 'free'} {m}")])
            for n, attempt in enumerate(attempts)
            for m in range(3)
        ]
        await settle_loop()
        calls += [store.append_nowait(attempt, [log("then")]) for attempt in attempts]
        await asyncio.gather(*calls)

        assert most == 1
        assert store.waiting == 0


@in_virtual_time
async def test_blocked_for_good_is_unavailable() -> None:
    """A row that is never let go fails its callers when their patience ends."""
    async with at_rest(FaultyStore(patience=2)) as store:
        attempt = await start(store)

        async def block(flush: Flush) -> None:
            if flush.rows:
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        calls = [store.append_nowait(attempt, [log(n)]) for n in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)

        assert {type(answer) for answer in answers} == {StoreBusy}
        assert f"holds the row of task {attempt.task_id} (lock timeout)" in str(answers[0])


@in_virtual_time
async def test_blocked_cancel_is_tried_again() -> None:
    """Cancels and claims are parked like events, and withdrawn like them."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        until = store.clock.monotonic() + 1

        async def block(flush: Flush) -> None:
            if flush.cancels and store.clock.monotonic() < until:
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        gone = asyncio.ensure_future(store.request_cancel(attempt.task_id, CancelReason.SHUTDOWN))
        await asyncio.sleep(0.05)
        gone.cancel()
        answer = await store.request_cancel(attempt.task_id)

        assert gone.cancelled()
        assert answer.state is CancelState.RECORDED
        assert answer.request is not None
        assert answer.request.reason is CancelReason.USER


# --- closing --------------------------------------------------------------------------------------


@in_virtual_time
async def test_aclose_answers_everything_that_was_taken() -> None:
    """Queued, waiting for room, parked: each caller is answered before ``aclose`` returns."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=4, batch=2))) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(4)))
        until = store.clock.monotonic() + 1

        async def block(flush: Flush) -> None:
            if holds(flush, "blocked") and store.clock.monotonic() < until:
                raise FlushBlocked("lock timeout")

        store.faults.before = block
        calls = [asyncio.ensure_future(store.append(attempts[0], [log("blocked")]))]
        await asyncio.sleep(0.05)
        calls += [asyncio.ensure_future(store.append(a, [log()])) for a in attempts for _ in "123"]
        await asyncio.sleep(0)
        await store.aclose()
        done = [call.done() for call in calls]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await store.open()

        assert done[0]
        assert {type(answer).__name__ for answer in answers} <= {"Appended", "StoreClosed"}
        assert type(answers[0]).__name__ == "Appended"


@in_virtual_time
async def test_a_lane_that_is_cancelled_before_it_begins_answers_its_calls() -> None:
    """Whoever waits for it would wait for ever: a framework may cancel every task of the loop."""
    store = await FaultyStore().open()
    attempt = await start(store)
    await settle_loop()
    calling = asyncio.ensure_future(store.append(attempt, [log()]))
    before = asyncio.all_tasks()
    await asyncio.sleep(0)
    (lane,) = asyncio.all_tasks() - before
    lane.cancel()

    with pytest.raises(StoreClosed):
        await asyncio.wait_for(calling, 60)
    assert lane.get_name() == "tapescope-lane"
    assert store.meter.ledger.unaccounted == store.meter.ledger.in_flight == 0


@in_virtual_time
async def test_closed_store_takes_no_call() -> None:
    """After ``aclose`` every verb says so, and the ledger still balances."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        await store.aclose()
        with pytest.raises(StoreClosed):
            await store.append(attempt, [log()])
        with pytest.raises(StoreClosed):
            await store.finish_if_running(attempt, FinalEvent.succeeded())
        with pytest.raises(StoreClosed):
            await store.request_cancel(attempt.task_id)
        with pytest.raises(StoreClosed):
            await store.get(attempt.task_id)
        await store.open()

        assert store.meter.ledger.unaccounted == 0


CALLS: dict[str, Callable[[FaultyStore, str], Awaitable[object]]] = {
    "get": lambda store, task_id: store.get(task_id),
    "register_ops": lambda store, _: store.ops.register([KnownOp("x")]),
    "extend_leases": lambda store, _: store.leases.extend("me", 30.0),
    "rescue": lambda store, _: store.leases.rescue_expired(dead_owners=["dead"]),
    "claim_due": lambda store, _: store.claim_due("me", ["x"], 1, 30.0),
}
"""By the primitive of the backend that it asks."""


@pytest.mark.parametrize("primitive", CALLS)
@in_virtual_time
async def test_a_call_that_waits_is_told_that_the_store_was_closed_meanwhile(
    primitive: str,
) -> None:
    """It asks no backend that is closed: a driver would answer with an error of its own."""
    store = await FaultyStore().open()
    attempt = await start(store)
    asked = 0

    async def away(*_: object) -> None:
        nonlocal asked
        asked += 1
        raise StoreAway("down")

    setattr(store.backend, primitive, away)  # for this store alone
    calling = asyncio.ensure_future(CALLS[primitive](store, attempt.task_id))
    await settle_loop()
    await store.aclose()
    before = asked

    with pytest.raises(StoreClosed):
        await calling
    assert asked == before > 0


@in_virtual_time
async def test_a_claim_whose_reply_was_lost_is_unknown_where_the_store_was_closed_meanwhile() -> (
    None
):
    """It may have been made: nobody is told that it was not."""
    store = await FaultyStore().open()

    async def lose(_: object) -> None:
        raise FateUnknown("lost")

    store.backend.claim_due = lose  # type: ignore[method-assign,assignment]  # for this store alone
    claiming = asyncio.ensure_future(store.claim_due("me", ["x"], 1, 30.0))
    await settle_loop()
    await store.aclose()

    with pytest.raises(EventFateUnknown):
        await claiming
