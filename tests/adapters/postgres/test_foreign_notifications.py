"""What whoever may connect can notify: it is counted or looked at together, and harms nobody."""

from __future__ import annotations

import asyncio
from contextlib import closing
from uuid import uuid4

import pytest

from tapescope.model.tape import NewEvent
from tapescope_adapters.postgres import PostgresStore
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.postgres_sessions import schema_of, session, start_task

FLOOD = 3_000
FAR = 90_000_000


async def test_flood_of_forged_notifications_is_passed_on_together(postgres_url: str) -> None:
    """A role without rights makes a follower look a few hundred times, and hears what is real."""
    role, schema = f"r_{uuid4().hex[:8]}", schema_of(postgres_url)
    async with session(postgres_url) as raw:
        await raw.execute(f"CREATE ROLE {role} LOGIN")
    async with PostgresStore(postgres_url) as store, PostgresStore(postgres_url) as other:
        attempt = (await start_task(other)).attempt
        heard = 0
        with store.changes(attempt.task_id) as changes:
            await anext(changes)  # it listens
            async with session(postgres_url.replace("postgres@", f"{role}@")) as nobody:
                await nobody.execute("SET synchronous_commit = off")
                await nobody.execute(  # a transaction each, for they are told one by one
                    f"DO $$ BEGIN FOR i IN 1..{FLOOD} LOOP PERFORM"
                    f" pg_notify('{schema}', concat('x|{attempt.task_id}:', {FAR} + i, '|cw'));"
                    " COMMIT; END LOOP; END $$"
                )
            async for change in changes:
                heard += 1
                if change.last_seq == FAR + FLOOD:
                    break
            await other.append(attempt, [NewEvent("log", "real")])
            async for change in changes:
                if change.last_seq == 2:
                    break
        page = await store.read_tape(attempt.task_id)

    assert heard < 600
    assert page.last_seq == 2


@pytest.mark.parametrize("ends", [(0, 1), (1, 0)])
async def test_a_look_is_not_lost_among_what_is_passed_on_together(
    postgres_url: str, ends: tuple[int, int]
) -> None:
    """A message has no place on the tape: who knows the tape's end is told to look all the same."""
    schema = schema_of(postgres_url)
    async with PostgresStore(postgres_url) as store:
        attempt = (await start_task(store)).attempt
        with store.changes(attempt.task_id) as changes:
            await anext(changes)  # it listens
            await store.append(attempt, [NewEvent("log", "own")])
            while not (await anext(changes)).events:
                pass
            async with session(postgres_url) as other:  # all at once, at its commit
                others = f"SELECT pg_notify('{schema}', concat('x|t:', n, '|'))"
                told = [f"SELECT pg_notify('{schema}', 'x|{attempt.task_id}:{n}|')" for n in ends]
                async with other.transaction():
                    await other.execute(f"{others} FROM generate_series(1, 300) n")
                    for one in told:
                        await other.execute(one)
            change = await asyncio.wait_for(anext(changes), 10)

    assert (change.last_seq, change.events) == (0, ())


async def test_garbage_is_counted(postgres_url: str) -> None:
    """What is no notification of a store's is a metric, which is there before the first."""
    with closing(CapturedTelemetry()) as captured:
        async with (
            PostgresStore(postgres_url, telemetry=captured.telemetry) as store,
            PostgresStore(postgres_url) as other,
            session(postgres_url) as raw,
        ):
            before = captured.value("tapescope.store.notifications.foreign")
            attempt = (await start_task(other)).attempt
            with store.changes(attempt.task_id) as changes:
                await anext(changes)  # it listens
                for n in range(12):
                    await raw.execute("SELECT pg_notify($1, $2)", schema_of(postgres_url), f"{n}")
                await other.append(attempt, [NewEvent("log", "real")])
                await anext(changes)
            after = captured.value("tapescope.store.notifications.foreign")

    assert (before, after) == (0, 12)
