"""Ends of attempts whose reply is lost on the network: each is counted once, by who wrote it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tapescope.errors import EventFateUnknown, StoreUnavailable
from tapescope.model.leases import Rescued
from tapescope.model.tasks import Attempt, CancelReason, ErrorInfo, FinalEvent, NewTask, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.postgres_sessions import schema_of, session
from tests.support.tcp_proxy import Loss, TcpProxy

OWNER: Final = "lost:1:0:zz"
"""Its name is in each request of these verbs, and in no other."""

Call = Callable[[TaskStore, Attempt], Awaitable[object]]


async def rescue(store: TaskStore, _: Attempt) -> object:
    """By its death."""
    return await store.leases.rescue_expired(dead_owners=[OWNER], ops=["again"])


ENDS: dict[str, tuple[Call, str, bool, str]] = {
    "finish": (
        lambda store, attempt: store.finish_if_running(attempt, FinalEvent.succeeded()),
        "once",
        False,
        "succeeded",
    ),
    "retry": (
        lambda store, attempt: store.retry_later(attempt, ErrorInfo("x"), 0),
        "once",
        True,
        "cancelled",
    ),
    "release": (
        lambda store, attempt: store.release(attempt, "closing"),
        "once",
        True,
        "cancelled",
    ),
    "rescue, failed": (rescue, "once", False, "failed"),
    "rescue, cancelled": (rescue, "once", True, "cancelled"),
    "rescue, retried": (rescue, "again", False, ""),
}
"""A verb, the op of its task, whether a cancel is on record, and the outcome it writes."""


@asynccontextmanager
async def counted(
    proxy: TcpProxy, postgres_url: str, patience: float = 10.0
) -> AsyncGenerator[tuple[PostgresStore, CapturedTelemetry]]:
    """A store behind the proxy, and what it counts."""
    captured = CapturedTelemetry()
    url = proxy.url(schema_of(postgres_url))
    async with PostgresStore(url, patience=patience, telemetry=captured.telemetry) as store:
        yield store, captured
    captured.close()


@pytest.mark.parametrize("past", [False, True], ids=["in time", "too late"])
@pytest.mark.parametrize(
    "loss",
    [
        Loss.REPLY,
        *(pytest.param(one, marks=pytest.mark.slow) for one in Loss if one is not Loss.REPLY),
    ],
)
@pytest.mark.parametrize("name", ENDS)
async def test_an_end_whose_reply_was_lost_is_counted_once(
    proxy: TcpProxy, postgres_url: str, name: str, loss: Loss, past: bool
) -> None:
    """By the resend, or where the store's patience is over by the next call of the same verb."""
    call, op, cancel, outcome = ENDS[name]
    async with counted(proxy, postgres_url, 1.0 if past else 10.0) as (store, captured):
        task, _ = await store.create(NewTask(new_task_id(), op, retries=1))
        claim = await store.claim_if_pending(task, OWNER, 60)
        assert claim is not None
        if cancel:
            await store.request_cancel(task.task_id, CancelReason.USER, "stop")
        proxy.hit(OWNER, loss=loss)
        calling = asyncio.ensure_future(call(store, claim.attempt))
        await until(lambda: proxy.hits == 1)
        if past:
            proxy.hit("", times=100_000, loss=Loss.CUT)
            with pytest.raises((EventFateUnknown, StoreUnavailable)):
                await calling
            proxy.hit("", times=0)
            await call(store, claim.attempt)
        else:
            await calling
        if loss is Loss.LATE:
            proxy.late.set()
            await asyncio.wait_for(proxy.delivered.wait(), 10)
        await call(store, claim.attempt)  # once more: it is no news
        tape = await store.read_tape(task.task_id)
        ledger = store.meter.ledger.read()
    events = [event.type for event in tape.events]
    finished = captured.points("tapescope.task.duration")
    rescued = [point for point in captured.points("tapescope.task.rescued") if point.value]

    assert events == ["task_started", "final" if outcome else "attempt_failed"]
    assert [(one.labels["tapescope.task.outcome"], one.value) for one in finished if one.value] == [
        (outcome, 1)
    ] * bool(outcome)
    assert sum(point.value for point in rescued) == name.startswith("rescue")
    assert sum(point.value for point in captured.points("tapescope.cancel.duration")) == cancel
    assert sum(point.value for point in captured.points("tapescope.tape.length")) == bool(outcome)
    assert ledger.unaccounted == 0
    of_unknown_fate = past and not name.startswith("rescue")
    assert ledger.failed == of_unknown_fate
    assert ledger.stored == 2 - (of_unknown_fate and loss in (Loss.REPLY, Loss.BEFORE_REPLY))


@pytest.mark.parametrize("loss", [Loss.REPLY, Loss.CUT])
async def test_a_create_of_unknown_fate_is_counted_where_it_proves_to_be_made(
    proxy: TcpProxy, postgres_url: str, loss: Loss
) -> None:
    """The store ends such a task: it was submitted, and it has ended, once each, or neither."""
    async with counted(proxy, postgres_url, 1.0) as (store, captured):
        proxy.hit("lost-op", loss=loss)
        creating = asyncio.ensure_future(store.create(NewTask(new_task_id(), "lost-op")))
        await until(lambda: proxy.hits == 1)
        proxy.hit("", times=100_000, loss=Loss.CUT)
        with pytest.raises((EventFateUnknown, StoreUnavailable)):
            await creating
        proxy.hit("", times=0)
        await store.orphans_ended()
        rows = sum((await store.count()).values())
        submitted = captured.points("tapescope.task.submitted")
        finished = captured.points("tapescope.task.duration")

    assert rows == (loss is Loss.REPLY)
    assert sum(one.value for one in submitted) == sum(one.value for one in finished) == rows


async def test_a_rescue_that_comes_after_its_resend_takes_nothing(
    proxy: TcpProxy, postgres_url: str
) -> None:
    """What the network held back finds its number spent: what it would take is nobody's news."""
    async with counted(proxy, postgres_url) as (store, captured):
        task, _ = await store.create(NewTask(new_task_id(), "once"))
        proxy.hit(OWNER, loss=Loss.LATE)
        nothing = await store.leases.rescue_expired(dead_owners=[OWNER])
        claim = await store.claim_if_pending(task, OWNER, 60)
        proxy.late.set()
        await asyncio.wait_for(proxy.delivered.wait(), 10)
        running = (await store.get(task.task_id)).status
        rescued: list[Rescued] = []

        async def take() -> bool:  # the late one may hold the row for a moment
            rescued.extend(await store.leases.rescue_expired(dead_owners=[OWNER]))
            return bool(rescued)

        await until(take)
        counts = [point.value for point in captured.points("tapescope.task.rescued")]

    assert claim is not None
    assert nothing == []
    assert running is TaskStatus.RUNNING
    assert [one.task.task_id for one in rescued] == [task.task_id]
    assert sum(counts) == 1


async def test_idle_rescues_leave_no_lane(postgres_url: str) -> None:
    """Who finds nothing to rescue writes nothing; what a rescue leaves goes with its store."""
    async with session(postgres_url) as raw:
        async with PostgresStore(postgres_url) as store:
            lanes: list[int] = []
            for dead in ([], [OWNER]):
                task, _ = await store.create(NewTask(new_task_id(), "once"))
                await store.claim_if_pending(task, OWNER, 60)
                await store.leases.rescue_expired(dead_owners=dead)
                found = await raw.fetchval(
                    "SELECT count(*) FROM lanes WHERE lane LIKE '%/rescues/%'"
                )
                lanes.append(int(str(found)))
        left = await raw.fetchval("SELECT count(*) FROM lanes")

    assert lanes == [0, 1]
    assert left == 0
