"""Group commit: folding, splitting, withdrawing, lanes, and who goes first.

Every test ends with the judge: the tapes are whole, every answer is true, the ledger balances.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tapescope.errors import StoreRefused, TapeFull
from tapescope.model.tasks import Attempt, CancelRequest, FinalEvent, NewTask, Task
from tapescope.store._pending import TapeCursor
from tapescope.store.flush import CancelState, Flush, FlushRefused, StoreAway
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing import MemoryStore, settle_loop
from tapescope.testing.tasks import LEASE, OWNER, log, start
from tests.support.memory_stores import (
    FaultyBackend,
    FaultyStore,
    Gate,
    TwoLaneBackend,
    at_rest,
    bodies,
    holds,
)
from tests.support.virtual_time import in_virtual_time

# --- folding --------------------------------------------------------------------------------------


@in_virtual_time
async def test_concurrent_calls_fold_into_few_flushes() -> None:
    """Two hundred appends at once are one or two transactions."""
    async with at_rest(FaultyStore()) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(200)))
        before = len(store.faults.flushes)
        answers = await asyncio.gather(*(store.append(a, [log()]) for a in attempts))

        assert len(store.faults.flushes) - before <= 2
        assert {answer.stored for answer in answers} == {range(2, 3)}


@in_virtual_time
async def test_creates_claims_events_and_cancels_share_a_flush() -> None:
    """What arrives while a flush is under way goes into the next one, of whatever kind."""
    async with at_rest(FaultyStore()) as store:
        attempt, other = await start(store), await start(store)
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        store.faults.before = gate = Gate()
        first = asyncio.ensure_future(store.append(attempt, [log("first")]))
        await gate.reached.wait()
        rest = [
            asyncio.ensure_future(work)
            for work in (
                store.create(NewTask(new_task_id(), "work")),
                store.claim_if_pending(task, OWNER, LEASE),
                store.append(attempt, [log("second")]),
                store.finish_if_running(other, FinalEvent.succeeded()),
                store.request_cancel(attempt.task_id),
            )
        ]
        await settle_loop()
        seen = len(store.faults.flushes)
        gate.opened.set()
        await asyncio.gather(first, *rest)

        assert len(store.faults.flushes) == seen + 1
        last = store.faults.flushes[-1]
        assert (len(last.creates), len(last.claims), len(last.rows), len(last.cancels)) == (
            1,
            1,
            2,
            1,
        )


@in_virtual_time
async def test_one_writer_keeps_the_order_of_its_calls() -> None:
    """A hundred concurrent appends of one attempt are on the tape in the order of the calls."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        futures = [store.append_nowait(attempt, [log(n)]) for n in range(100)]
        await asyncio.gather(*futures)

        assert await bodies(store, attempt.task_id) == list(range(100))


# --- splitting ------------------------------------------------------------------------------------


@in_virtual_time
async def test_one_guilty_call_of_200_fails_alone() -> None:
    """A call that the database refuses is found by halving; its 199 neighbours are stored."""
    async with at_rest(FaultyStore()) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(200)))

        async def refuse(flush: Flush) -> None:
            if holds(flush, "guilty"):
                raise FlushRefused("no such thing")

        store.faults.before = refuse
        before = len(store.faults.flushes)
        answers = await asyncio.gather(
            *(
                store.append(attempt, [log("guilty" if n == 77 else "fine")])
                for n, attempt in enumerate(attempts)
            ),
            return_exceptions=True,
        )

        assert [n for n, answer in enumerate(answers) if isinstance(answer, Exception)] == [77]
        assert isinstance(answers[77], StoreRefused)
        assert len(store.faults.flushes) - before < 25


@in_virtual_time
async def test_refused_call_leaves_no_hole() -> None:
    """The events before and after a refused one of the same attempt have consecutive seqs."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)

        async def refuse(flush: Flush) -> None:
            if holds(flush, "guilty"):
                raise FlushRefused("no such thing")

        store.faults.before = refuse
        words = ["one", "guilty", "two"]
        futures = [store.append_nowait(attempt, [log(word)]) for word in words]
        answers = await asyncio.gather(*futures, return_exceptions=True)

        assert isinstance(answers[1], StoreRefused)
        assert await bodies(store, attempt.task_id) == ["one", "two"]


@in_virtual_time
async def test_tape_written_behind_our_back_is_read_again() -> None:
    """Where a seq is taken the tape's end is read again, once; the caller sees no error."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        assert isinstance(attempt.cursor, TapeCursor)
        attempt.cursor.tail += 3
        answer = await store.append(attempt, [log("there")])

        assert answer.stored == range(2, 3)


@in_virtual_time
@pytest.mark.parametrize("keeps_claim", [True, False])
async def test_an_attempt_has_one_place_on_its_tape(keeps_claim: bool) -> None:
    """However it is named, by its claim or by hand, its events get their numbers in one line."""
    faults = FaultyBackend()
    async with MemoryStore(backend=faults) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claim = await store.claim_if_pending(task, OWNER, LEASE)
        assert claim is not None
        names = [Attempt(task.task_id, 1, OWNER) for _ in range(2)]
        if keeps_claim:
            names.append(claim.attempt)
        del claim
        faults.flushes.clear()
        answers = await asyncio.gather(*(store.append(name, [log("x")]) for name in names))

    assert [answer.stored[0] for answer in answers] == list(range(2, 2 + len(names)))
    assert len(faults.flushes) == 1, "none was refused"


async def test_a_read_waits_for_a_store_that_is_away() -> None:
    """It is asked again until it answers, within its patience."""

    class Away(FaultyBackend):
        times = 2

        async def get(self, task_id: str) -> Task | None:
            if self.times:
                self.times -= 1
                raise StoreAway("the cable was pulled")
            return await super().get(task_id)

    async with at_rest(FaultyStore(faults=Away())) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))

        assert await store.get(task.task_id) == task


async def test_defect_of_an_adapter_reaches_the_callers() -> None:
    """What no adapter should raise is its call's refusal; its neighbours and the lane live on."""
    async with at_rest(FaultyStore()) as store:
        attempts = [await start(store) for _ in range(8)]

        async def break_(flush: Flush) -> None:
            if holds(flush, "unlucky"):
                raise RuntimeError("a defect")

        store.faults.before = break_
        words = ["lucky", "unlucky", *["lucky"] * 6]
        answers = await asyncio.gather(
            *(
                store.append(attempt, [log(word)])
                for attempt, word in zip(attempts, words, strict=True)
            ),
            return_exceptions=True,
        )
        unlucky = answers.pop(1)

        assert isinstance(unlucky, StoreRefused)
        assert "a defect" in str(unlucky)
        assert isinstance(unlucky.__cause__, RuntimeError)
        assert [getattr(answer, "stored", answer) for answer in answers] == [range(2, 3)] * 7


@in_virtual_time
async def test_listener_that_raises_does_not_stop_the_lane() -> None:
    """A cancel listener's own error is its manager's trouble: every caller is answered."""

    def listen(task_id: str, request: CancelRequest) -> None:
        raise RuntimeError("a listener's defect")

    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        heard: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: heard.append(str(context.get("exception")))
        )
        store.listen_for_cancels(OWNER, listen)
        answer = await store.request_cancel(attempt.task_id)
        stored = await store.append(attempt, [log()])
        store.stop_listening(OWNER)

        assert answer.state is CancelState.RECORDED
        assert stored.stored == range(2, 3)
        assert heard
        assert set(heard) == {"a listener's defect"}


# --- withdrawing ----------------------------------------------------------------------------------


@in_virtual_time
async def test_cancelled_caller_withdraws_without_a_hole() -> None:
    """A caller that is cancelled while queued takes its events back; the next ones close up."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        calls = [asyncio.ensure_future(store.append(attempt, [log(0)]))]
        await gate.reached.wait()
        calls += [asyncio.ensure_future(store.append(attempt, [log(n)])) for n in (1, 2, 3)]
        await settle_loop()
        calls[2].cancel()
        await settle_loop()
        gate.opened.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)

        assert isinstance(answers[2], asyncio.CancelledError)
        assert await bodies(store, attempt.task_id) == [0, 1, 3]
        assert store.meter.ledger.failed_by_type()["log", "asyncio.exceptions.CancelledError"] == 1


@in_virtual_time
async def test_cancelled_caller_of_a_flush_under_way_changes_nothing() -> None:
    """Too late to withdraw: what is being written is stored, though its caller is gone."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        call = asyncio.ensure_future(store.append(attempt, [log("sent")]))
        await gate.reached.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        gate.opened.set()
        await store.append(attempt, [log("next")])

        assert await bodies(store, attempt.task_id) == ["sent", "next"]


@in_virtual_time
async def test_creates_claims_and_cancels_withdraw_too() -> None:
    """A queued create, claim or cancel whose caller is gone is not carried out."""
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        new_id = new_task_id()
        store.faults.before = gate = Gate()
        first = asyncio.ensure_future(store.append(attempt, [log()]))
        await gate.reached.wait()
        calls: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(store.create(NewTask(new_id, "never"))),
            asyncio.ensure_future(store.claim_if_pending(task, OWNER, LEASE)),
            asyncio.ensure_future(store.request_cancel(attempt.task_id)),
        ]
        await settle_loop()
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gate.opened.set()
        await first

        assert sum((await store.count(op="never")).values()) == 0
        assert (await store.get(task.task_id)).attempt == 0
        assert (await store.get(attempt.task_id)).cancel is None


# --- lanes ----------------------------------------------------------------------------------------


@in_virtual_time
async def test_second_lane_opens_only_for_many() -> None:
    """Below 64 waiting events there is one flush at a time, above there may be two."""
    async with at_rest(FaultyStore(faults=TwoLaneBackend())) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(40)))
        most_of_few = store.faults.most_under_way

        store.faults.before = gate = Gate()
        calls = [asyncio.ensure_future(store.append(a, [log()])) for a in attempts[:1]]
        await gate.reached.wait()
        calls += [asyncio.ensure_future(store.append(a, [log(), log()])) for a in attempts[1:]]
        await settle_loop()
        under_way = store.faults.under_way
        gate.opened.set()
        await asyncio.gather(*calls)

        assert most_of_few == 1
        assert under_way == 2


@in_virtual_time
async def test_a_task_is_in_one_flush_at_a_time() -> None:
    """With two lanes at work, no two flushes under way hold events of the same task."""
    async with at_rest(
        FaultyStore(faults=TwoLaneBackend(), limits=StoreLimits(batch=100))
    ) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(50)))
        flying: Counter[int] = Counter()
        most = 0

        async def enter(flush: Flush) -> None:
            nonlocal most
            keys = {row.key for row in flush.rows}
            flying.update(keys)
            most = max(most, *flying.values(), 0)
            await asyncio.sleep(0.01)
            flying.subtract(keys)

        store.faults.before = enter
        calls = [store.append_nowait(a, [log(n)]) for n in range(20) for a in attempts]
        await asyncio.gather(*calls)

        assert store.faults.most_under_way == 2
        assert most == 1
        for attempt in attempts:
            assert await bodies(store, attempt.task_id) == list(range(20))


# --- back-pressure and priority -------------------------------------------------------------------


@in_virtual_time
async def test_full_queue_makes_append_wait_and_drops_nothing() -> None:
    """Ten times as many appends as the queue holds are all stored, in their order."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=8, batch=4))) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(20)))
        store.faults.before = gate = Gate()
        calls = [asyncio.ensure_future(store.append(a, [log()])) for a in attempts for _ in "1234"]
        await settle_loop(50)
        waiting = store.waiting
        gate.opened.set()
        answers = await asyncio.gather(*calls)

        assert waiting == 8
        assert all(answer.dropped is None for answer in answers)


@in_virtual_time
async def test_finishes_cancels_and_claims_do_not_wait_for_room() -> None:
    """With the queue full, they are in the very next flush, before the appends that came first."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=6, batch=3))) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(12)))
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        store.faults.before = gate = Gate()
        calls = [asyncio.ensure_future(store.append(a, [log()])) for a in attempts[2:]]
        await gate.reached.wait()
        urgent = [
            asyncio.ensure_future(store.finish_if_running(attempts[0], FinalEvent.succeeded())),
            asyncio.ensure_future(store.request_cancel(attempts[1].task_id)),
            asyncio.ensure_future(store.claim_if_pending(task, OWNER, LEASE)),
        ]
        await settle_loop()
        seen = len(store.faults.flushes)
        gate.opened.set()
        await asyncio.gather(*calls, *urgent)

        then = store.faults.flushes[seen]
        assert [row.type for row in then.rows] == ["final"]
        assert (len(then.claims), len(then.cancels)) == (1, 1)


@in_virtual_time
async def test_finish_takes_the_attempts_earlier_events_along() -> None:
    """A ``final`` overtakes other tasks' events, never its own attempt's."""
    async with at_rest(FaultyStore(limits=StoreLimits(batch=4))) as store:
        attempts = await asyncio.gather(*(start(store) for _ in range(8)))
        store.faults.before = gate = Gate()
        calls = [store.append_nowait(a, [log()]) for a in attempts]
        await gate.reached.wait()
        calls += [store.append_nowait(attempts[-1], [log("last words")])]
        finish = asyncio.ensure_future(
            store.finish_if_running(attempts[-1], FinalEvent.succeeded())
        )
        await settle_loop()
        gate.opened.set()
        answers = await asyncio.gather(*calls)

        assert (await finish).won
        assert all(answer.dropped is None for answer in answers)


@in_virtual_time
async def test_cancelled_waiter_for_room_hands_its_turn_on() -> None:
    """A caller that is cancelled at the moment it is let in does not leave the next one waiting."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=1))) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        first = asyncio.ensure_future(store.append(attempt, [log(0)]))
        await gate.reached.wait()
        second = asyncio.ensure_future(store.append(attempt, [log(1)]))
        third = asyncio.ensure_future(store.append(attempt, [log(2)]))
        await settle_loop()

        async def cancel_the_second(_: Flush) -> None:
            asyncio.get_running_loop().call_soon(
                second.cancel
            )  # lands once it is let in, before it wakes

        store.faults.after = cancel_the_second
        gate.opened.set()
        answers = await asyncio.gather(first, second, third, return_exceptions=True)

        assert isinstance(answers[1], asyncio.CancelledError)
        assert await bodies(store, attempt.task_id) == [0, 2]


@in_virtual_time
async def test_withdrawn_call_makes_room() -> None:
    """Room that a withdrawn call gives back goes to the next waiter, even if no flush follows."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=1))) as store:
        attempt = await start(store)
        first = asyncio.ensure_future(store.append(attempt, [log(0)]))
        second = asyncio.ensure_future(store.append(attempt, [log(1)]))
        await asyncio.sleep(0)
        first.cancel()
        answers = await asyncio.gather(first, second, return_exceptions=True)

        assert isinstance(answers[0], asyncio.CancelledError)
        assert await bodies(store, attempt.task_id) == [1]


@in_virtual_time
async def test_caller_cancelled_while_it_waits_for_room_is_counted() -> None:
    """Its events were offered and are answered for as failed: the ledger balances (I7)."""
    async with at_rest(FaultyStore(limits=StoreLimits(queue=1))) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        first = asyncio.ensure_future(store.append(attempt, [log(0)]))
        await gate.reached.wait()
        second = asyncio.ensure_future(store.append(attempt, [log(1), log(2)]))
        await settle_loop()
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        gate.opened.set()
        await first

        assert store.meter.ledger.failed_by_type()["log", "asyncio.exceptions.CancelledError"] == 2


@in_virtual_time
async def test_tape_limit_counts_what_is_being_written() -> None:
    """Events in a flush under way have their place on the tape already, as queued ones do."""
    async with at_rest(FaultyStore(limits=StoreLimits(tape_events=5))) as store:
        attempt = await start(store)
        store.faults.before = gate = Gate()
        flying = store.append_nowait(attempt, [log(1), log(2)])
        await gate.reached.wait()
        queued = store.append_nowait(attempt, [log(3), log(4)])
        with pytest.raises(TapeFull):
            await store.append(attempt, [log("one too many")])
        gate.opened.set()
        await asyncio.gather(flying, queued)

        assert (await store.read_tape(attempt.task_id)).last_seq == 5
