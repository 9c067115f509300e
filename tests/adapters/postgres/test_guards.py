"""PostgreSQL itself holds I1 to I5: raw sessions try to break each, every way that is known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import pytest

from tapescope_adapters.postgres import PostgresStore
from tests.adapters.tapes import make_tapes
from tests.support.postgres_sessions import session

if TYPE_CHECKING:
    from tests.support.postgres_sessions import Session

FINAL = json.dumps({"outcome": "succeeded", "result": None})
APPEND = "INSERT INTO events (task, seq, attempt, offer, type, ts, body) VALUES "
NEW_TASK = "INSERT INTO tasks (task_id, op, status, attempt, created_at, run_at) VALUES "
TASK = "0199f3a0-0000-7000-8000-000000000000"
ATTACKS = {
    # I1: one final at most, and it is the last event
    "event after the final": ("closed", "I1", APPEND + "(:task, 4, 1, 9, 'log', 1, '{}')"),
    "second final": ("closed", "I1", APPEND + f"(:task, 4, 1, 9, 'final', 1, '{FINAL}')"),
    "two finals in one statement": (
        "open",
        "I1",
        APPEND
        + f"(:task, 3, 1, 9, 'final', 1, '{FINAL}'), (:task, 4, 1, 10, 'final', 1, '{FINAL}')",
    ),
    # I2: terminal if and only if there is a final, of the same outcome
    "status set terminal without a final": (
        "open",
        "I2",
        "UPDATE tasks SET status = 'succeeded' WHERE id = :task",
    ),
    "pending task set terminal": (
        "pending",
        "I2",
        "UPDATE tasks SET status = 'cancelled' WHERE id = :task",
    ),
    "task inserted as terminal": (
        "open",
        "I2",
        NEW_TASK + f"('{TASK}', 'x', 'failed', 0, 1, 1)",
    ),
    "task inserted as running": (
        "open",
        "I2",
        NEW_TASK + f"('{TASK}', 'x', 'running', 1, 1, 1)",
    ),
    "task inserted with an attempt": (
        "open",
        "I2",
        NEW_TASK + f"('{TASK}', 'x', 'pending', 1, 1, 1)",
    ),
    "task inserted as finished": (
        "open",
        "I2",
        NEW_TASK.replace("status, attempt", "finished_at") + f"('{TASK}', 'x', 1, 1, 1)",
    ),
    "final without an outcome": ("open", "I2", APPEND + "(:task, 3, 1, 9, 'final', 1, '{}')"),
    "final of an unknown outcome": (
        "open",
        "I2",
        APPEND + """(:task, 3, 1, 9, 'final', 1, '{"outcome": "perhaps"}')""",
    ),
    # I3: seq without a gap
    "gap": ("open", "I3", APPEND + "(:task, 4, 1, 9, 'log', 1, '{}')"),
    "tape that begins at 2": ("pending", "I3", APPEND + f"(:task, 2, 0, 9, 'final', 1, '{FINAL}')"),
    "seq zero": ("open", "I3", APPEND + "(:task, 0, 1, 9, 'log', 1, '{}')"),
    "seq below zero": ("open", "I3", APPEND + "(:task, -1, 1, 9, 'log', 1, '{}')"),
    "gap, ignoring conflicts": (
        "open",
        "I3",
        APPEND + "(:task, 4, 1, 9, 'log', 1, '{}') ON CONFLICT DO NOTHING",
    ),
    "offer that is on the tape": ("open", "I3", APPEND + "(:task, 3, 1, 2, 'log', 1, '{}')"),
    "tape of no task": ("open", "I5", APPEND + "(-5, 1, 1, 1, 'log', 1, '{}')"),
    # I4: a closed tape and its task never change, an event never does
    "update of an event": ("open", "I4", "UPDATE events SET body = '{}' WHERE task = :task"),
    "update of no event": ("open", "I4", "UPDATE events SET body = '{}' WHERE task = -5"),
    "insert or update of an event": (
        "open",
        "I4",
        APPEND
        + "(:task, 2, 1, 9, 'log', 1, '{}') ON CONFLICT (task, seq) DO UPDATE SET body = '{}'",
    ),
    "merge into the events": (
        "open",
        "I4",
        """MERGE INTO events e USING (VALUES (:task)) v(task) ON e.task = v.task
        WHEN MATCHED THEN UPDATE SET body = '{}'""",
    ),
    "delete of an event": ("open", "I4", "DELETE FROM events WHERE task = :task AND seq = 2"),
    "delete of a final": ("closed", "I4", "DELETE FROM events WHERE task = :task AND seq = 3"),
    "delete of every event": ("closed", "I4", "DELETE FROM events"),
    "truncate of the events": ("open", "I4", "TRUNCATE events"),
    "truncate of the tasks": (
        "open",
        "I4",  # without the guard of a table that goes with it, which would refuse it, too
        "ALTER TABLE messages DISABLE TRIGGER messages_no_truncate; TRUNCATE tasks CASCADE",
    ),
    "truncate of the quarantine": ("open", "I4", "TRUNCATE quarantine"),
    "truncate of the counts": ("open", "I4", "TRUNCATE drop_counts"),
    "truncate of the lanes": ("open", "I4", "TRUNCATE lanes"),
    "truncate of the numbers": ("open", "I4", "TRUNCATE backlog"),
    "truncate of the slots": ("open", "I4", "TRUNCATE limits"),
    "truncate of the looks": ("open", "I4", "TRUNCATE limit_looks"),
    "truncate of the starts": ("open", "I4", "TRUNCATE limit_starts"),
    "truncate of the moves": ("open", "I4", "TRUNCATE backlog_moves"),
    "terminal task set running": (
        "closed",
        "I4",
        "UPDATE tasks SET status = 'running' WHERE id = :task",
    ),
    "terminal task given another outcome": (
        "closed",
        "I[24]",
        "UPDATE tasks SET status = 'failed' WHERE id = :task",
    ),
    "terminal task changed": (
        "closed",
        "I4",
        "UPDATE tasks SET error_code = 'x' WHERE id = :task",
    ),
    "another task id": ("open", "I4", f"UPDATE tasks SET task_id = '{TASK}' WHERE id = :task"),
    "other params": ("open", "I4", "UPDATE tasks SET params = '[]' WHERE id = :task"),
    "another op": ("open", "I4", "UPDATE tasks SET op = 'y' WHERE id = :task"),
    "another key": ("open", "I4", "UPDATE tasks SET idempotency_key = 'y' WHERE id = :task"),
    "another unique key": ("open", "I4", "UPDATE tasks SET unique_key = 'y' WHERE id = :task"),
    "another concurrency key": (
        "open",
        "I4",
        "UPDATE tasks SET concurrency_key = 'y' WHERE id = :task",
    ),
    "another time of creation": ("open", "I4", "UPDATE tasks SET created_at = 0 WHERE id = :task"),
    # I5: only the task's own attempt writes, and it counts up with a claim only
    "event of an older attempt": ("open", "I[35]", APPEND + "(:task, 3, 0, 9, 'log', 1, '{}')"),
    "event of an attempt to come": ("open", "I5", APPEND + "(:task, 3, 2, 9, 'log', 1, '{}')"),
    "event of a task that is not running": (
        "pending",
        "I5",
        APPEND + "(:task, 1, 0, 1, 'log', 1, '{}')",
    ),
    "attempt set back": ("open", "I5", "UPDATE tasks SET attempt = 0 WHERE id = :task"),
    "attempt counted up without a claim": (
        "open",
        "I5",
        "UPDATE tasks SET attempt = attempt + 1 WHERE id = :task",
    ),
    "attempt counted up by two": (
        "pending",
        "I5",
        "UPDATE tasks SET status = 'running', attempt = attempt + 2 WHERE id = :task",
    ),
    "claim that counts no attempt": (
        "pending",
        "I5",
        "UPDATE tasks SET status = 'running' WHERE id = :task",
    ),
}


DROP = (
    "INSERT INTO quarantine (id, task_id, attempt, offer, owner, type, reason, ts, body) "
    "OVERRIDING SYSTEM VALUE VALUES "
)
TWICE = {
    "a task's id": "INSERT INTO tasks (task_id, op, created_at, run_at) "
    "SELECT task_id, 'y', 1, 1 FROM tasks WHERE id = :task",
    "a task's key": "INSERT INTO tasks (id, task_id, op, created_at, run_at) "
    f"OVERRIDING SYSTEM VALUE VALUES (:task, '{TASK}', 'y', 1, 1)",
    "an op and key": "INSERT INTO tasks (task_id, op, idempotency_key, created_at, run_at) "
    f"SELECT '{TASK}', op, idempotency_key, 1, 1 FROM tasks WHERE id = :task",
    "an open task's op and unique key": "INSERT INTO tasks (task_id, op, unique_key, created_at, "
    f"run_at) SELECT '{TASK}', op, unique_key, 1, 1 FROM tasks WHERE id = :task",
    "a late event": DROP + "(1, 'x', 1, 1, 'me', 'log', 'unknown_task', 1, '{}'), "
    "(2, 'x', 1, 1, 'me', 'log', 'unknown_task', 1, '{}')",
    "a late event's key": DROP + "(1, 'x', 1, 1, 'me', 'log', 'unknown_task', 1, '{}'), "
    "(1, 'x', 1, 2, 'me', 'log', 'unknown_task', 1, '{}')",
    "a repair's key": "INSERT INTO repairs OVERRIDING SYSTEM VALUE "
    "VALUES (1, 1, 'me', 'x', 'x', '1', '1'), (1, 1, 'me', 'x', 'x', '1', '1')",
    "a version": "INSERT INTO schema_version VALUES (1)",
    "what a version goes with": "INSERT INTO schema_compatibility VALUES (1, 1)",
    "the row of the leader": "INSERT INTO maintenance (id) VALUES (1)",
    "another row of a leader": "INSERT INTO maintenance (id) VALUES (2)",
    "the reading that is kept": "INSERT INTO backlog_snapshot (id) VALUES (1)",
    "another reading": "INSERT INTO backlog_snapshot (id) VALUES (2)",
}
"""What is there once."""


@dataclass
class Tapes:
    """A store's URL, with a task of each kind in it."""

    url: str
    open: int
    closed: int
    pending: int


@pytest.fixture
async def tapes(postgres_url: str) -> AsyncGenerator[Tapes]:
    """One open tape, one closed tape, and a task that waits, in a store that is in use."""
    async with PostgresStore(postgres_url) as store:
        yield Tapes(postgres_url, *await make_tapes(store))


@pytest.fixture
async def raw(tapes: Tapes) -> AsyncGenerator[Session]:
    """A superuser's session with none of tapescope's code between it and the tables."""
    async with session(tapes.url) as conn:
        yield conn


async def _everything(conn: Session) -> list[list[asyncpg.Record]]:
    return [
        await conn.fetch(f"SELECT * FROM {table} ORDER BY 1, 2")
        for table in ("tasks", "events", "quarantine", "drop_counts", "lanes")
    ]


@pytest.mark.parametrize("way", ATTACKS)
async def test_raw_session_cannot_break_an_invariant(way: str, tapes: Tapes, raw: Session) -> None:
    """The statement is refused by the invariant's name, and nothing has changed."""
    kind, invariant, statement = ATTACKS[way]
    before = await _everything(raw)

    with pytest.raises(asyncpg.PostgresError, match=f"tapescope {invariant}: ") as refused:
        await raw.execute(statement.replace(":task", str(getattr(tapes, kind))))

    assert refused.value.sqlstate == "TS001"
    assert await _everything(raw) == before


async def test_raw_session_cannot_write_twice(tapes: Tapes, raw: Session) -> None:
    """What names a row is of one row, whoever writes."""
    for statement in TWICE.values():
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await raw.execute(statement.replace(":task", str(tapes.open)))


async def test_raw_session_cannot_make_up_a_status(tapes: Tapes, raw: Session) -> None:
    """A status that no reader knows is written by nobody."""
    with pytest.raises(asyncpg.PostgresError):
        await raw.execute("UPDATE tasks SET status = 'odd' WHERE id = $1", tapes.open)


async def test_existing_seq_is_refused_by_the_key(tapes: Tapes, raw: Session) -> None:
    """A second event of the same seq meets the primary key (I3)."""
    with pytest.raises(asyncpg.UniqueViolationError, match="events_task_seq_unique"):
        await raw.execute(f"{APPEND} ({tapes.open}, 2, 1, 9, 'log', 1, '{{}}')")

    assert await raw.fetchval("SELECT count(*) FROM events WHERE task = $1", tapes.open) == 2


async def test_copy_is_guarded_too(tapes: Tapes, raw: Session) -> None:
    """COPY fires no rules, but it fires the guards (I3)."""
    with pytest.raises(asyncpg.PostgresError, match="tapescope I3: "):
        await raw.copy_records_to_table(
            "events",
            records=[(tapes.open, 7, 1, 9, "log", 1, "{}")],
            columns=["task", "seq", "attempt", "offer", "type", "ts", "body"],
        )

    assert await raw.fetchval("SELECT max(seq) FROM events WHERE task = $1", tapes.open) == 2


async def test_raw_final_ends_its_task(tapes: Tapes, raw: Session) -> None:
    """A final that is in order sets the task's status itself, in the same statement (I2)."""
    body = json.dumps({"outcome": "failed", "error": {"code": "boom"}})
    await raw.execute(f"{APPEND} ({tapes.open}, 3, 1, 9, 'final', 77, '{body}')")

    row = await raw.fetchrow(
        "SELECT status, finished_at, error_code FROM tasks WHERE id = $1", tapes.open
    )
    assert row is not None
    assert tuple(row) == ("failed", 77, "boom")


async def test_deleting_a_task_deletes_its_tape(tapes: Tapes, raw: Session) -> None:
    """Retention takes a task and its tape whole (I4); others stay."""
    await raw.execute("DELETE FROM tasks WHERE id = $1", tapes.closed)

    assert await raw.fetchval("SELECT array_agg(DISTINCT task) FROM events") == [tapes.open]


async def test_two_sessions_cannot_both_put_the_final(tapes: Tapes, raw: Session) -> None:
    """Of two finals in two open transactions one is stored; the other meets the key (I1, I2)."""
    async with session(tapes.url) as other:
        async with raw.transaction():
            await raw.execute(f"{APPEND} ({tapes.open}, 3, 1, 9, 'final', 1, '{FINAL}')")
            late = asyncio.ensure_future(
                other.execute(f"{APPEND} ({tapes.open}, 3, 1, 10, 'final', 1, '{FINAL}')")
            )
        with pytest.raises(asyncpg.UniqueViolationError):
            await late

    assert await raw.fetchval("SELECT count(*) FROM events WHERE task = $1", tapes.open) == 3
