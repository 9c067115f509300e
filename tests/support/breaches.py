"""Ways to break a store by hand, past its guards: what an audit is there to find."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tapescope import AuditRule, NewEvent, NewTask, TaskStore
from tapescope.model.tasks import Attempt, FinalEvent
from tapescope.store.validation import new_task_id
from tests.support.postgres_sessions import session

# rule → the statement that breaks it, on the task of key {key}; what the audit then says
BREACHES = {
    AuditRule.MISSING_FINAL: (
        "DELETE FROM events WHERE task = {key} AND type = 'final'",
        "the row says succeeded, but none of the 3 events of its tape is a final",
    ),
    AuditRule.FINAL_NOT_LAST: (
        (
            "INSERT INTO events (task, seq, attempt, offer, type, ts, body) "
            "VALUES ({key}, 5, 1, 9, 'log', 1, '{{}}')"
        ),
        "event 4 is a final, but the tape goes on to event 5",
    ),
    AuditRule.MULTIPLE_FINAL: (
        (
            "INSERT INTO events (task, seq, attempt, offer, type, ts, body) "
            """VALUES ({key}, 5, 1, 9, 'final', 1, '{{"outcome": "succeeded"}}')"""
        ),
        "2 events are a final, the first is event 4, the last event 5",
    ),
    AuditRule.SEQUENCE_GAP: (
        "DELETE FROM events WHERE task = {key} AND seq = 2",
        "the tape has 3 events, numbered from 1 to 4",
    ),
    AuditRule.OUTCOME_MISMATCH: (
        "UPDATE tasks SET status = 'failed' WHERE id = {key}",
        "the row says failed, the final (event 4) says succeeded",
    ),
    AuditRule.DROPPED_COUNT_MISMATCH: (
        "UPDATE drop_counts SET n = 1 WHERE task_id = '{task_id}'",
        "of reason after_terminal the quarantine holds 2 events, counted are 1",
    ),
}


async def run_round(url: str, *statements: str) -> None:
    """Run statements past the guards: triggers dropped for a moment, or replication's role."""
    if url.startswith("postgresql"):
        async with session(url) as conn:
            checks = await conn.fetch(
                "SELECT conrelid::regclass AS of, conname, pg_get_constraintdef(oid) AS text"
                " FROM pg_constraint WHERE connamespace = current_schema()::regnamespace"
                " AND contype = 'c' AND NOT convalidated"  # those that damage may have come before
            )
            for check in checks:
                await conn.execute(f"ALTER TABLE {check['of']} DROP CONSTRAINT {check['conname']}")
            await conn.execute("SET session_replication_role = replica")
            await conn.execute(";".join(statements))
            for check in checks:
                await conn.execute(
                    f"ALTER TABLE {check['of']} ADD CONSTRAINT {check['conname']} {check['text']}"
                )
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        guards = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        conn.execute("BEGIN IMMEDIATE")
        for name, _ in guards:
            conn.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            conn.execute(statement)
        for _, text in guards:
            conn.execute(text)
        conn.execute("COMMIT")


async def run_statement(url: str, statement: str) -> None:
    """Run a statement as any session may: the guards are on."""
    if url.startswith("postgresql"):
        async with session(url) as conn:
            await conn.execute(statement)
        return
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as conn:
        conn.execute(statement)


async def make_ended(
    store: TaskStore, final: FinalEvent | None = None, logs: int = 2
) -> tuple[Attempt, int]:
    """A task of two events and its logs that ended, and two that came too late; with its key."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, "me", 60)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("log", n) for n in range(logs)])
    await store.finish_if_running(claim.attempt, final or FinalEvent.succeeded())
    await store.append(claim.attempt, [NewEvent("log", n) for n in range(2)])
    return claim.attempt, task.key
