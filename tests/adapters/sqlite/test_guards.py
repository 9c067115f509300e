"""SQLite itself holds I1 to I5: raw sessions try to break each, every way that is known."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tapescope_adapters.sqlite import SqliteStore
from tests.adapters.tapes import make_tapes

FINAL = json.dumps({"outcome": "succeeded", "result": None})
ATTACKS = {
    # I1: one final at most, and it is the last event
    "event after the final": (
        "closed",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 4, 1, 9, 'log', 1, '{}')""",
    ),
    "second final": (
        "closed",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 4, 1, 9, 'final', 1, :final)""",
    ),
    "second final in the first one's place": (
        "closed",
        """INSERT OR REPLACE INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 1, 9, 'final', 1, :final)""",
    ),
    # I2: terminal if and only if there is a final, of the same outcome
    "status set terminal without a final": (
        "open",
        "UPDATE tasks SET status = 'succeeded' WHERE id = :task",
    ),
    "task inserted as terminal": (
        "open",
        """INSERT INTO tasks (task_id, op, status, created_at, run_at)
        VALUES ('0199f3a0-0000-7000-8000-000000000000', 'x', 'failed', 1, 1)""",
    ),
    "task inserted with an attempt": (
        "open",
        """INSERT INTO tasks (task_id, op, attempt, created_at, run_at)
        VALUES ('0199f3a0-0000-7000-8000-000000000000', 'x', 1, 1, 1)""",
    ),
    "final without an outcome": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 1, 9, 'final', 1, '{}')""",
    ),
    "final of an unknown outcome, ignoring conflicts": (
        "open",
        """INSERT OR IGNORE INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 1, 9, 'final', 1, '{"outcome": "perhaps"}')""",
    ),
    # I3: seq without a gap
    "gap": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 4, 1, 9, 'log', 1, '{}')""",
    ),
    "seq that exists": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 2, 1, 9, 'log', 1, '{}')""",
    ),
    "seq zero": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 0, 1, 9, 'log', 1, '{}')""",
    ),
    "tape that begins at 2": (
        "pending",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 2, 0, 9, 'final', 1, :final)""",
    ),
    "tape of no task": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (999, 1, 1, 1, 'log', 1, '{}')""",
    ),
    # I4: a closed tape and its task never change, an event never does
    "update of an event": ("open", "UPDATE events SET body = '{}' WHERE task = :task"),
    "update or replace of an event": (
        "open",
        "UPDATE OR REPLACE events SET seq = 1 WHERE task = :task AND seq = 2",
    ),
    "delete of an event": ("open", "DELETE FROM events WHERE task = :task AND seq = 2"),
    "delete of every event": ("closed", "DELETE FROM events"),
    "insert or replace of an event": (
        "open",
        """INSERT OR REPLACE INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 2, 1, 9, 'log', 1, '{}')""",
    ),
    "insert or replace by the event's own key": (
        "open",
        """INSERT OR REPLACE INTO events (n, task, seq, attempt, offer, type, ts, body)
        VALUES ((SELECT min(n) FROM events), :task, 3, 1, 9, 'log', 1, '{}')""",
    ),
    "insert or replace of the task": (
        "closed",
        """INSERT OR REPLACE INTO tasks (id, task_id, op, created_at, run_at)
        SELECT id, task_id, op, created_at, run_at FROM tasks WHERE id = :task""",
    ),
    "insert or replace by the task's key": (
        "closed",
        """INSERT OR REPLACE INTO tasks (id, task_id, op, created_at, run_at)
        VALUES (:task, '0199f3a0-0000-7000-8000-000000000000', 'x', 1, 1)""",
    ),
    "insert or replace by the task's id": (
        "closed",
        """INSERT OR REPLACE INTO tasks (task_id, op, created_at, run_at)
        SELECT task_id, op, created_at, run_at FROM tasks WHERE id = :task""",
    ),
    "insert or replace by the idempotency key": (
        "closed",
        """INSERT OR REPLACE INTO tasks (task_id, op, idempotency_key, created_at, run_at)
        SELECT '0199f3a0-0000-7000-8000-000000000000', op, idempotency_key, 1, 1
        FROM tasks WHERE id = :task""",
    ),
    "insert or replace by the unique key": (
        "open",
        """INSERT OR REPLACE INTO tasks (task_id, op, unique_key, created_at, run_at)
        SELECT '0199f3a0-0000-7000-8000-000000000000', op, unique_key, 1, 1
        FROM tasks WHERE id = :task""",
    ),
    "another unique key": ("open", "UPDATE tasks SET unique_key = 'y' WHERE id = :task"),
    "another concurrency key": ("open", "UPDATE tasks SET concurrency_key = 'y' WHERE id = :task"),
    "terminal task set running": ("closed", "UPDATE tasks SET status = 'running' WHERE id = :task"),
    "terminal task changed": ("closed", "UPDATE tasks SET error_code = 'x' WHERE id = :task"),
    "another id": (
        "open",
        """UPDATE OR REPLACE tasks SET task_id = '0199f3a0-0000-7000-8000-000000000000'
        WHERE id = :task""",
    ),
    # I5: only the task's own attempt writes, and it counts up with a claim only
    "event of an older attempt": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 0, 9, 'log', 1, '{}')""",
    ),
    "event of an attempt to come": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 2, 9, 'log', 1, '{}')""",
    ),
    "offer that is on the tape": (
        "open",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 3, 1, 2, 'log', 1, '{}')""",
    ),
    "event of a task that is not running": (
        "pending",
        """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 1, 0, 1, 'log', 1, '{}')""",
    ),
    "attempt set back": ("open", "UPDATE tasks SET attempt = 0 WHERE id = :task"),
    "attempt counted up without a claim": (
        "open",
        "UPDATE tasks SET attempt = attempt + 1 WHERE id = :task",
    ),
    "claim that counts no attempt": (
        "pending",
        "UPDATE tasks SET status = 'running' WHERE id = :task",
    ),
}


TWICE = {
    "a task's id": """INSERT INTO tasks (task_id, op, created_at, run_at)
        SELECT task_id, 'y', 1, 1 FROM tasks WHERE id = :task""",
    "an op and key": """INSERT INTO tasks (task_id, op, idempotency_key, created_at, run_at)
        SELECT '0199f3a0-0000-7000-8000-000000000000', op, idempotency_key, 1, 1
        FROM tasks WHERE id = :task""",
    "an open task's op and unique key": """INSERT INTO tasks
        (task_id, op, unique_key, created_at, run_at)
        SELECT '0199f3a0-0000-7000-8000-000000000000', op, unique_key, 1, 1
        FROM tasks WHERE id = :task""",
    "a place on a tape": """INSERT INTO events (task, seq, attempt, offer, type, ts, body)
        VALUES (:task, 2, 1, 9, 'log', 1, '{}')""",
    "a late event": """INSERT INTO quarantine
        (task_id, attempt, offer, owner, type, reason, ts, body)
        VALUES ('x', 1, 1, 'me', 'log', 'unknown_task', 1, '{}'),
               ('x', 1, 1, 'me', 'log', 'unknown_task', 1, '{}')""",
    "a version": "INSERT INTO schema_compatibility VALUES (1, 1)",
    "the row of the leader": "INSERT INTO maintenance (id) VALUES (2)",
}
"""What is there once. Some of it two guards hold: a trigger, too."""


@dataclass
class Tapes:
    """A store's file, with a task of each kind in it."""

    path: Path
    open: int
    closed: int
    pending: int


@pytest.fixture
async def tapes(tmp_path: Path) -> AsyncIterator[Tapes]:
    """One open tape, one closed tape, and a task that waits, in a store that is in use."""
    path = tmp_path / "tasks.db"
    async with SqliteStore(f"sqlite:///{path}") as store:
        yield Tapes(path, *await make_tapes(store))


def _everything(conn: sqlite3.Connection) -> list[list[object]]:
    return [
        conn.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()
        for table in ("tasks", "events")
    ]


@pytest.fixture
def raw(tapes: Tapes) -> Iterator[sqlite3.Connection]:
    """A session of a stranger, with none of tapescope's code between it and the file."""
    with closing(sqlite3.connect(tapes.path, isolation_level=None)) as conn:
        yield conn


@pytest.mark.parametrize("way", ATTACKS)
def test_raw_session_cannot_break_an_invariant(
    way: str, tapes: Tapes, raw: sqlite3.Connection
) -> None:
    """The statement is refused by name, and nothing has changed."""
    kind, statement = ATTACKS[way]
    before = _everything(raw)

    with pytest.raises(sqlite3.IntegrityError, match="tapescope I"):
        raw.execute(statement, {"task": getattr(tapes, kind), "final": FINAL})

    assert _everything(raw) == before


@pytest.mark.parametrize("what", TWICE)
def test_raw_session_cannot_write_twice(what: str, tapes: Tapes, raw: sqlite3.Connection) -> None:
    """What names a row is of one row, whoever writes."""
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute(TWICE[what], {"task": tapes.open})


def test_raw_session_cannot_make_up_a_status(tapes: Tapes, raw: sqlite3.Connection) -> None:
    """A status that no reader knows is written by nobody."""
    with pytest.raises(sqlite3.IntegrityError):
        raw.execute("UPDATE tasks SET status = 'odd' WHERE id = ?", (tapes.open,))


def test_a_raw_final_ends_its_task(tapes: Tapes, raw: sqlite3.Connection) -> None:
    """A final that is in order sets the task's status itself, in the same statement (I2)."""
    raw.execute(
        "INSERT INTO events (task, seq, attempt, offer, type, ts, body)"
        " VALUES (?, 3, 1, 9, 'final', 77, ?)",
        (tapes.open, json.dumps({"outcome": "failed", "error": {"code": "boom"}})),
    )

    row = raw.execute(
        "SELECT status, finished_at, error_code FROM tasks WHERE id = ?", (tapes.open,)
    ).fetchone()
    assert row == ("failed", 77, "boom")


def test_deleting_a_task_deletes_its_tape(tapes: Tapes, raw: sqlite3.Connection) -> None:
    """Retention takes a task and its tape whole (I4); others stay."""
    raw.execute("DELETE FROM tasks WHERE id = ?", (tapes.closed,))

    assert raw.execute("SELECT DISTINCT task FROM events").fetchall() == [(tapes.open,)]


def test_guards_hold_with_foreign_keys_and_recursive_triggers_on(
    tapes: Tapes, raw: sqlite3.Connection
) -> None:
    """A session's own settings do not open a way round."""
    raw.execute("PRAGMA foreign_keys = ON")
    raw.execute("PRAGMA recursive_triggers = ON")
    before = _everything(raw)

    with pytest.raises(sqlite3.IntegrityError, match="tapescope I"):
        raw.execute(
            "INSERT OR REPLACE INTO events (task, seq, attempt, offer, type, ts, body)"
            " VALUES (?, 2, 1, 9, 'log', 1, '{}')",
            (tapes.open,),
        )

    assert _everything(raw) == before
