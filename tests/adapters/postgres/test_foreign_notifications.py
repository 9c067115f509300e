"""What whoever may connect can notify: it is counted or looked at together, and harms nobody."""

from __future__ import annotations

from contextlib import closing
from uuid import uuid4

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
