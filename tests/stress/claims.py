"""The kind without managers: owners that claim what is due, while it is cancelled and rescued."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent, NewTask
from tapescope.store.flush import CancelState
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tests.stress.delays import Delays, pause

__all__ = ["CLAIMS", "play_claims"]

CLAIMS: Final = "claims"
"""Cancels against claims, retries, releases and rescues, straight on the store."""

_OWNERS: Final = 4
_OPS: Final = ("one", "two")
_LEASE: Final = 0.05
"""Seconds; some claims are held for longer, and rescued."""


async def play_claims(store: TaskStore, tasks: int, delays: Delays, patience: float) -> None:
    """So many tasks, each cancelled at a moment of its own or not at all, until all have ended."""
    ids = [new_task_id() for _ in range(tasks)]
    stories = [_create_and_cancel(store, id_, delays) for id_ in ids]
    open_ = asyncio.ensure_future(asyncio.gather(*stories))
    done = asyncio.Event()
    owners = [
        asyncio.ensure_future(_work(store, f"owner-{n}:{ids[0]}", 1 + 2 * n, delays, done))
        for n in range(_OWNERS)
    ]
    rescuer = asyncio.ensure_future(_rescue(store, done))
    try:
        await open_
        async with asyncio.timeout(patience):
            for id_ in ids:
                while not (await store.get(id_)).status.terminal:
                    await pause(0.005)
    except TimeoutError:
        pass  # the judge finds the tasks that did not end
    finally:
        done.set()
        await asyncio.gather(*owners, rescuer)


async def _create_and_cancel(store: TaskStore, task_id: str, delays: Delays) -> None:
    await pause(delays.draw("create", 0, 10))
    op = delays.random.choice(_OPS)
    retries = delays.random.choice((0, 1, 5))
    cancel_after = delays.draw("cancel after create", 0, 12)
    twice = delays.random.random() < 0.3
    cancelled = delays.random.random() < 0.8
    await store.create(NewTask(task_id, op, retries=retries))
    if cancelled:
        await pause(cancel_after)
        answer = await store.request_cancel(task_id, message="stress")
        if twice and answer.state is not CancelState.TERMINAL:
            await store.request_cancel(task_id, message="stress again")


async def _work(
    store: TaskStore, owner: str, limit: int, delays: Delays, done: asyncio.Event
) -> None:
    """Claim and run, some of it at a time; now and then the worker is interrupted at its claim."""
    running: set[asyncio.Task[None]] = set()
    while not done.is_set():
        interrupted = delays.random.random() < 0.1
        claiming = asyncio.ensure_future(store.claim_due(owner, _OPS, limit, _LEASE))
        if interrupted:
            await pause(delays.draw("interrupted after", 0, 2))
            claiming.cancel()
        claims: list[Claim] = []
        with suppress(asyncio.CancelledError):  # ours: what it claimed is given back
            claims = await claiming
        for claim in claims:
            run = asyncio.ensure_future(_run(store, claim, delays))
            running.add(run)
            run.add_done_callback(running.discard)
        await pause(delays.draw("between claims", 0, 4))
    await asyncio.gather(*running)


async def _run(store: TaskStore, claim: Claim, delays: Delays) -> None:
    """Report, and end in one of the ways that an attempt can; late after its lease, sometimes."""
    end = delays.random.choices(("finish", "retry", "release", "outlive"), weights=[6, 2, 1, 1])[0]
    await store.append(claim.attempt, [NewEvent("log", end)])
    await pause(delays.draw("work", 60, 90) if end == "outlive" else delays.draw("work", 0, 8))
    await _end(store, claim, end)


def _end(store: TaskStore, claim: Claim, end: str) -> Awaitable[object]:
    if end == "release":
        return store.release(claim.attempt)
    if end == "retry" and claim.task.retries_spent < claim.task.retries:
        return store.retry_later(claim.attempt, ErrorInfo("planned"), store.clock.now() + 2_000)
    return _finish(store, claim)


async def _finish(store: TaskStore, claim: Claim) -> None:
    request = (await store.get(claim.task.task_id)).cancel
    final = FinalEvent.succeeded() if request is None else FinalEvent.cancelled(request)
    await store.finish_if_running(claim.attempt, final)


async def _rescue(store: TaskStore, done: asyncio.Event) -> None:
    while not done.is_set():
        await store.leases.rescue_expired(ops=_OPS)
        await pause(0.01)
