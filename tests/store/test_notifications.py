"""Commit notifications come after the commit (invariant I9)."""

from __future__ import annotations

import asyncio

from tapescope.model.tape import Event
from tapescope.store.notifications import RESYNC, Change, Changes
from tapescope.testing import settle_loop
from tapescope.testing.tasks import log, start
from tests.support.memory_stores import FaultyStore, Gate, at_rest


async def test_nobody_is_told_before_the_commit() -> None:
    """A subscriber hears nothing while the flush is under way (invariant I9)."""
    gate = Gate()
    async with at_rest(FaultyStore()) as store:
        attempt = await start(store)
        with store.changes(attempt.task_id) as subscription:
            await anext(subscription)  # the first "look again"
            store.faults.before = gate
            append = asyncio.ensure_future(store.append(attempt, [log()]))
            hearing = asyncio.ensure_future(anext(subscription))
            await gate.reached.wait()
            await settle_loop(20)
            early = hearing.done()
            gate.opened.set()
            await append
            change = await hearing

    assert not early
    assert [event.seq for event in change.events] == [2]


async def test_an_end_whose_events_were_given_is_not_told_again() -> None:
    """A look at what others have committed finds this process's commits, too: who was given the
    events has no need to read the tape for them. An end that cannot be read is always told."""
    changes = Changes(lambda _: None)
    events = (Event(1, "log", 0, 1, {}), Event(2, "log", 0, 1, {}))
    with changes.subscribe("t") as of_one, changes.subscribe(None) as of_all:
        for last_seq, told in ((2, events), (2, ()), (1, ()), (3, ()), (3, ()), (0, ())):
            changes.publish(Change("t", last_seq, told))
        changes.publish(Change("u", 2))
        changes.publish(RESYNC)
    heard = [change async for change in of_one]

    assert [(change.last_seq, len(change.events)) for change in heard] == [
        *((2, 2), (3, 0), (3, 0), (0, 0)),
        (0, 0),  # look again
    ]
    assert [change.task_id async for change in of_all] == [*["t"] * 6, "u", None]
