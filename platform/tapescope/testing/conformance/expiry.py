"""A task of which no attempt began in the time that it had: it never begins, and has its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from tapescope.errors import BadSetting
from tapescope.model.ops import KnownOp
from tapescope.model.schedules import Schedule
from tapescope.model.tape import FINAL, Event, Outcome
from tapescope.model.tasks import (
    CancelReason,
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
    Task,
    TaskStatus,
)
from tapescope.store.flush import CancelState
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import StoreSuite
from tapescope.testing.tasks import HOUR, LEASE, OPS, OTHER, OWNER, SHORT, outlast_lease

MINUTE = 60.0
"""Seconds: a task that has been due for an hour, and had a minute, has expired."""


async def _release(store: TaskStore, claim: Claim) -> None:
    await store.release(claim.attempt)


async def _retry(store: TaskStore, claim: Claim) -> None:
    await store.retry_later(claim.attempt, ErrorInfo("x"), store.clock.now() - HOUR)


async def _lose(store: TaskStore, claim: Claim) -> None:
    await outlast_lease(store, claim)
    await store.leases.rescue_expired(ops=OPS)


_GIVEN_UP: dict[str, Callable[[TaskStore, Claim], Awaitable[None]]] = {
    "release": _release,
    "retry": _retry,
    "loss": _lose,
}


class ExpiryConformance(StoreSuite):
    """A task of which no attempt began in the time that it had: it never begins, and has its
    end."""

    @pytest.mark.parametrize("queues", [None, ["default"]])
    async def test_a_claim_begins_nothing_that_has_expired(
        self, store: TaskStore, queues: Sequence[str] | None
    ) -> None:
        """What has time is claimed in its place; the other ends as cancelled, and never ran."""
        over = await _make(store, expired=True)
        live = await _make(store, expires_in=MINUTE)
        plain = await _make(store, run_at=store.clock.now() - HOUR // 2)
        claims = await store.claim_due(OWNER, OPS, 2, LEASE, queues=queues)
        ended, tape = await store.get(over), await store.read_tape(over)

        assert {one.task.task_id for one in claims} == {live, plain}
        _check_end(ended, tape.events)
        assert await store.next_due(OPS, queues=queues) is None

    async def test_many_that_have_expired_keep_none_from_a_claim(self, store: TaskStore) -> None:
        """However few places a claim has, it comes to what stands behind them."""
        over = [await _make(store, expired=True) for _ in range(12)]
        live = await _make(store)
        (claim,) = await store.claim_due(OWNER, OPS, 1, LEASE)
        tasks = [await store.get(task_id) for task_id in over]

        assert claim.task.task_id == live
        assert {task.status for task in tasks} == {TaskStatus.CANCELLED}

    async def test_a_claim_by_its_id_begins_none(self, store: TaskStore) -> None:
        """As of a callable, or by an engine: the task is ended instead."""
        over, _ = await store.create(_new(store, expired=True))
        live, _ = await store.create(_new(store, expires_in=MINUTE))
        claims = [await store.claim_if_pending(task, OWNER, LEASE) for task in (over, live)]
        tape = await store.read_tape(over.task_id)

        assert [claim is not None for claim in claims] == [False, True]
        _check_end(await store.get(over.task_id), tape.events)

    async def test_looks_end_what_no_claim_reaches(self, store: TaskStore) -> None:
        """Whatever it waits for: a worker, a queue's worker, its one owner, the end of a pause, a
        slot, an engine. No other is touched, and the numbers of what waits are right."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        await store.ops.pause("other")
        over = [
            await _make(store, expired=True, **given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as NewTask has them
            for given in (
                {"op": "nobodys"},
                {"queue": "nobodys"},
                {"only_by": OWNER},
                {"op": "other"},
                {"concurrency_key": "k"},
                *([{"engine": "elsewhere"}] if store.engines.are_kept else []),
            )
        ]
        others = [
            await _make(store, expires_in=MINUTE),
            await _make(store, run_at=store.clock.now() - HOUR),
            await _make(store, expires_in=MINUTE, concurrency_key="k"),
            await _make(store, expires_in=SHORT, run_at=store.clock.now() + HOUR),
        ]
        counts = [await store.end_expired() for _ in range(2)]
        backlog = await store.backlog.read(max_age=0)

        assert counts == [len(over), 0]
        for task_id in over:
            tape = await store.read_tape(task_id)
            _check_end(await store.get(task_id), tape.events)
        for task_id in others:
            assert (await store.get(task_id)).status is TaskStatus.PENDING
        assert sum(one.waiting for one in backlog.ops) == len(others)
        assert (await store.maintenance.audit()).violations == ()

    async def test_looks_go_round(self, store: TaskStore) -> None:
        """So many at a time, the ones that expired first, each from where the last one ended."""
        over = [await _make(store, expired=True, run_at=store.clock.now() - HOUR) for _ in range(7)]
        counts = [await store.end_expired(3)]
        first = [(await store.get(task_id)).status.terminal for task_id in over]
        counts += [await store.end_expired(3) for _ in range(3)]

        assert counts == [3, 3, 1, 0]
        assert first == [True] * 3 + [False] * 4

    @pytest.mark.parametrize("given_up", _GIVEN_UP)
    async def test_what_has_begun_goes_on(self, store: TaskStore, given_up: str) -> None:
        """The next attempt, too, whyever there is one: the time was for the first."""
        new = NewTask(new_task_id(), "work", retries=1, expires_in=SHORT)
        lease = SHORT if given_up == "loss" else LEASE
        task, _, claim = await store.create_claimed(new, OWNER, lease)
        assert claim is not None
        runs = await store.end_expired()
        await _GIVEN_UP[given_up](store, claim)
        waits = await store.end_expired(), await store.get(task.task_id)
        (again,) = await store.claim_due(OTHER, OPS, 1, LEASE)
        await store.finish_if_running(again.attempt, FinalEvent.succeeded(1))

        assert (runs, waits[0]) == (0, 0)
        assert (waits[1].expires_in, waits[1].expires_at) == (SHORT, None)
        assert again.attempt.number == 2
        assert (await store.get(task.task_id)).status is TaskStatus.SUCCEEDED

    async def test_only_what_has_expired_ends_for_it(self, store: TaskStore) -> None:
        """The request of another one changes nothing; who asked for a cancel before stays."""
        waits, plain, runs = [
            (await store.create(NewTask(new_task_id(), op, expires_in=span)))[0]
            for op, span in (("waits", MINUTE), ("plain", None), ("runs", MINUTE))
        ]
        await store.claim_if_pending(runs, OWNER, LEASE)
        ended = await _make(store, expired=True)
        await store.request_cancel(ended, CancelReason.USER, "enough", "ann")
        answers = [
            await store.request_cancel(task_id, CancelReason.EXPIRED)
            for task_id in (waits.task_id, plain.task_id, runs.task_id, ended)
        ]
        stands = await store.get(ended)

        assert [answer.state for answer in answers] == [
            *(CancelState.NOT_EXPIRED,) * 3,
            CancelState.TERMINAL,
        ]
        assert [answer.request for answer in answers[:3]] == [None] * 3
        assert (await store.get(waits.task_id)) == waits
        assert (await store.get(runs.task_id)).cancel is None
        assert stands.cancel is not None
        assert (stands.cancel.reason, stands.cancel.by) == (CancelReason.USER, "ann")

    async def test_one_that_expired_leaves_its_slot(self, store: TaskStore) -> None:
        """Before it was given one, and after that, while it waits for a worker of its queue."""
        await store.ops.register([KnownOp("work", max_concurrent=1)])
        plain = await _make(store)
        parked = await _make(store, expired=True, concurrency_key="a")
        first = await _make(store, concurrency_key="a")
        other = await _make(store, expired=True, concurrency_key="b", queue="far")
        second = await _make(store, concurrency_key="b")
        claims = await store.claim_due(OWNER, OPS, 9, LEASE, queues=["default"])
        held = await store.get(other)

        assert {one.task.task_id for one in claims} == {plain, first}
        assert held.status is TaskStatus.PENDING
        assert await store.end_expired() == 1
        (last,) = await store.claim_due(OWNER, OPS, 9, LEASE, queues=["default"])
        assert last.task.task_id == second
        tape = await store.read_tape(parked)
        _check_end(await store.get(parked), tape.events)

    async def test_who_races_for_one_that_expired_begins_none(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """Two processes that claim, by the op and by the id, and look, all at once: one end."""
        over = [(await store.create(_new(store, expired=True)))[0] for _ in range(4)]
        doing: list[Awaitable[object]] = []
        for one in (store, second_store):
            doing += [one.claim_due(OWNER, OPS, 2, LEASE), one.end_expired()]
            doing += [one.claim_if_pending(task, OTHER, LEASE) for task in over]
        answers = await asyncio.gather(*doing)

        assert [answer for answer in answers if isinstance(answer, list | Claim)] == [[], []]
        for task in over:
            tape = await store.read_tape(task.task_id)
            _check_end(await store.get(task.task_id), tape.events)

    async def test_a_child_of_one_that_expired_has_not(self, store: TaskStore) -> None:
        """One that is to be cancelled with it is so, as what is of no use any more."""
        parent = await _make(store, expired=True)
        new = NewTask(new_task_id(), "child", parent_id=parent, cancel_with_parent=True)
        child, _ = await store.create(new)
        counts = await store.end_expired(), await store.cancel_followers()
        ended = await store.get(child.task_id)

        assert counts == (1, 1)
        assert (ended.status, ended.attempt) == (TaskStatus.CANCELLED, 0)
        assert ended.cancel is not None
        assert ended.cancel.reason is CancelReason.SUPERSEDED

    async def test_a_task_keeps_its_expiry(self, store: TaskStore) -> None:
        """As it was created, read, listed and found by its key; and so do ops and schedules."""
        now = store.clock.now()
        new = NewTask(new_task_id(), "work", idempotency_key="k", expires_in=1.5, run_at=now + HOUR)
        made, _ = await store.create(new)
        found, _ = await store.create(NewTask(new_task_id(), "work", idempotency_key="k"))
        (listed,) = (await store.list()).tasks
        await store.ops.register([KnownOp("work", expires_in=2.5), KnownOp("other")])
        known = await store.ops.read()
        await store.schedules.add_if_absent(Schedule("s", "work", every=60.0, expires_in=3.5))
        schedule = await store.schedules.get("s")

        assert {one.expires_in for one in (made, found, listed)} == {1.5}
        assert made == found == await store.get(made.task_id)
        assert made.expires_us == now + HOUR + 1_500_000
        assert [known[op].expires_in for op in OPS] == [2.5, None]
        assert schedule.expires_in == 3.5

    @pytest.mark.parametrize("span", [0, -1, float("nan"), float("inf"), 4e9, "1", True])
    async def test_a_time_to_begin_is_over_zero(self, store: TaskStore, span: object) -> None:
        """Another one is refused, and nothing is created."""
        new = NewTask(new_task_id(), "work", expires_in=span)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose
        with pytest.raises(BadSetting, match="expires_in"):
            await store.create(new)

        assert (await store.list()).tasks == ()


def _new(
    store: TaskStore,
    op: str = "work",
    *,
    expired: bool = False,
    run_at: int | None = None,
    expires_in: float | None = None,
    **given: str,
) -> NewTask:
    """A task; one that is ``expired`` had a minute an hour ago."""
    if expired:
        run_at, expires_in = run_at or store.clock.now() - HOUR, MINUTE
    return NewTask(new_task_id(), op, run_at=run_at, expires_in=expires_in, **given)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # as NewTask has them


async def _make(
    store: TaskStore,
    op: str = "work",
    *,
    expired: bool = False,
    run_at: int | None = None,
    expires_in: float | None = None,
    **given: str,
) -> str:
    """The id of ``_new``, created."""
    new = _new(store, op, expired=expired, run_at=run_at, expires_in=expires_in, **given)
    task, _ = await store.create(new)
    return task.task_id


def _check_end(task: Task, tape: Sequence[Event]) -> None:
    """It ended as cancelled, for it had expired: one ``final``, of no attempt, that says so."""
    assert (task.status, task.attempt) == (TaskStatus.CANCELLED, 0)
    assert task.cancel is not None
    assert (task.cancel.reason, task.cancel.by) == (CancelReason.EXPIRED, None)
    assert task.cancel.message == "no attempt began within the 60 s after it was due"
    assert [(event.type, event.attempt) for event in tape] == [(FINAL, 0)]
    final = FinalEvent.from_event(tape[0])
    assert final is not None
    assert (final.outcome, final.error) == (Outcome.CANCELLED, None)
    assert final.cancel is not None
    assert final.cancel.reason is CancelReason.EXPIRED
