"""A cancel on PostgreSQL says which role recorded it, whatever its caller says."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tapescope.model.tape import FINAL
from tapescope.model.tasks import (
    Assurance,
    CancelReason,
    CancelRequest,
    Claim,
    ErrorInfo,
    FinalEvent,
    NewTask,
)
from tapescope.store import DatabaseRole
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres import PostgresStore
from tests.support.postgres_sessions import schema_of, session, start_task

FORGED = {
    "another role on a new cancel": (
        "UPDATE tasks SET cancel_reason = 'user', cancel_message = '', cancel_by = 'ceo',"
        " cancel_requested_at = 1, cancel_role = 'ceo' WHERE task_id = '{new}'"
    ),
    "another role on one that is recorded": (
        "UPDATE tasks SET cancel_role = 'ceo' WHERE task_id = '{recorded}'"
    ),
    "no role on one that is recorded": (
        "UPDATE tasks SET cancel_role = NULL WHERE task_id = '{recorded}'"
    ),
    "other words, with the role of who said the first": (
        "SET SESSION AUTHORIZATION {other};"
        "UPDATE tasks SET cancel_by = 'ceo', cancel_message = 'x' WHERE task_id = '{recorded}'"
    ),
    "another span, with the role of who said the first": (
        "SET SESSION AUTHORIZATION {other};"
        "UPDATE tasks SET cancel_traceparent = 'x' WHERE task_id = '{recorded}'"
    ),
    "a role on a new task": (
        "INSERT INTO tasks (task_id, op, created_at, run_at, cancel_role)"
        " VALUES (gen_random_uuid(), 'x', 1, 1, 'ceo')"
    ),
}


async def retry(store: TaskStore, claim: Claim) -> None:
    """Its attempt fails, and would be followed by another."""
    await store.retry_later(claim.attempt, ErrorInfo("x", "y"), 0)


async def release(store: TaskStore, claim: Claim) -> None:
    """Its manager is closed."""
    await store.release(claim.attempt)


async def die(store: TaskStore, claim: Claim) -> None:
    """Its owner is gone."""
    await store.leases.rescue_expired(dead_owners=[claim.attempt.owner])


async def end(store: TaskStore, claim: Claim) -> None:
    """Its runner stops when it is asked to."""
    task = await store.get(claim.task.task_id)
    assert task.cancel is not None
    await store.finish_if_running(claim.attempt, FinalEvent.cancelled(task.cancel))


@pytest.mark.parametrize("after", [None, retry, release, die, end])
async def test_cancel_names_the_role_of_its_session(
    postgres_url: str, after: Callable[[TaskStore, Claim], Awaitable[None]] | None
) -> None:
    """On the row and on the tape, whoever writes the final; the name that was given is a claim."""
    async with PostgresStore(postgres_url) as store:
        if after is None:
            task, _ = await store.create(NewTask(new_task_id(), "x"))
            heard = await store.request_cancel(task.task_id, by="ceo@vm")
        else:
            claim = await start_task(store)
            task = claim.task
            heard = await store.request_cancel(task.task_id, by="ceo@vm")
            await after(store, claim)
        row = await store.get(task.task_id)
        page = await store.read_tape(task.task_id)
        final = page.events[-1]

    assert row.cancel is not None
    assert (row.cancel.by, row.cancel.role) == ("ceo@vm", "postgres")
    assert row.cancel.known is Assurance.ROLE
    assert heard.request == row.cancel
    assert final.type == FINAL
    assert FinalEvent.from_event(final).cancel == row.cancel
    assert final.body == FinalEvent.from_event(final).as_json()


async def test_follower_hears_the_role(postgres_url: str) -> None:
    """What this process is told of its own write is what the database wrote."""
    async with PostgresStore(postgres_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        with store.changes(task.task_id) as changes:
            await anext(changes)  # the first "look again"
            await store.request_cancel(task.task_id)
            told = await anext(changes)
        page = await store.read_tape(task.task_id)

    assert told.events == page.events


@pytest.mark.parametrize("forged", FORGED)
async def test_no_session_can_name_another_role(postgres_url: str, forged: str) -> None:
    """The guard refuses it of anybody who has not taken it off, the schema's owner included."""
    other = f"other_{schema_of(postgres_url)}"
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        new, recorded = await start_task(store), await start_task(store)
        await store.request_cancel(recorded.task.task_id, by="ann")
        before = await store.get(recorded.task.task_id)
        await raw.execute(f"CREATE ROLE {other}")
        await raw.execute(store.maintenance.describe_grants(DatabaseRole.WORKER, other))
        statement = FORGED[forged].format(
            new=new.task.task_id, recorded=recorded.task.task_id, other=other
        )
        with pytest.raises(asyncpg.PostgresError, match=r"tapescope a (cancel names|task has)"):
            await raw.execute(statement)
        await raw.execute("RESET SESSION AUTHORIZATION")
        await raw.execute(f"DROP OWNED BY {other}; DROP ROLE {other}")

        assert await store.get(recorded.task.task_id) == before


async def test_what_older_code_recorded_is_claimed(postgres_url: str) -> None:
    """A row and a final from before the column had their names from their callers, and no more."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        claim = await start_task(store)
        await raw.execute(
            "UPDATE tasks SET cancel_reason = 'user', cancel_message = 'm', cancel_by = 'ann',"
            " cancel_requested_at = 5 WHERE task_id::text = $1",
            claim.task.task_id,
        )
        row = await store.get(claim.task.task_id)
        body = FinalEvent.cancelled(CancelRequest(CancelReason.USER, "m", "ann", 5)).as_json()
        del body["cancel"]["known"], body["cancel"]["role"]
        await raw.execute(
            "INSERT INTO events (task, seq, attempt, offer, type, ts, body)"
            " SELECT id, 2, 1, 2, 'final', 5, $2 FROM tasks WHERE task_id::text = $1",
            claim.task.task_id,
            json.dumps(body),
        )
        final = FinalEvent.from_event((await store.read_tape(claim.task.task_id)).events[-1])

    assert row.cancel is not None
    assert (row.cancel.by, row.cancel.role, row.cancel.known) == ("ann", None, "claimed")
    assert final.cancel == row.cancel


async def test_older_code_cancels_as_before(postgres_url: str) -> None:
    """It sends the final that it would have, and reads an answer of as many fields as it knows."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        waits, _ = await store.create(NewTask(new_task_id(), "x"))
        gives_up = await start_task(store)
        await store.request_cancel(gives_up.task.task_id, by="ann")
        key = gives_up.task.key
        ids = f"{{{waits.task_id}}}"
        cancels = [ids, "user", "{m}", "{ceo}", "{7}", '{"outcome":"cancelled"}']
        rows = [f"{{{key}}}", "{2}", "{1}", "{2}", "attempt_released", "{7}", '{"message":""}']
        rows += [f"{{{gives_up.attempt.owner}}}", gives_up.task.task_id, ""]
        said = await raw.fetchval(
            f"SELECT {schema_of(postgres_url)}.flush"
            "('old', 1, 'old', '', $1, 9, 9, NULL, NULL, $2, $3, $4)",
            [key],
            rows,
            ["{0}", "{NULL}", "{0}"],
            cancels,
        )
        ended = FinalEvent.from_event((await store.read_tape(waits.task_id)).events[-1])

    answer = json.loads(said)
    assert answer["overruled"] == [[0, "user", "", "ann", answer["overruled"][0][4]]]
    assert answer["cancels"] == [["cancelled", "x", None, 0, "user", "m", "ceo", 7, 1]]
    assert ended.cancel == CancelRequest(
        CancelReason.USER, "m", "ceo", 7, "postgres", Assurance.ROLE
    )


async def test_functions_that_a_migration_left_are_no_fault(postgres_url: str) -> None:
    """One of the same name with other arguments is there for calls of older code under way."""
    async with PostgresStore(postgres_url) as store, session(postgres_url) as raw:
        for arguments in ("uuid", "uuid, text, text, text, bigint, text"):
            await raw.execute(
                f"CREATE FUNCTION cancel_task({arguments}) RETURNS json"
                " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
            )
        audit = await store.maintenance.audit()

    assert audit.violations == ()
