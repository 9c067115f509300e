"""Stores of any size, filled by a few statements each, past the guards and faster than by tasks.

Most of a store's tasks are old and have ended; what is open is in the newer half. Of what is rare
there are as many in a small store as in a big one: ``RARE`` of each, over its whole length.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore

if TYPE_CHECKING:
    from tests.support.services import Postgres

__all__ = ["FAULTY", "STEP", "Filled", "fill_file", "fill_schema"]

STEP: Final = 600_000_000
"""Microseconds from task to task: a big store is older than a small one, not denser."""
FAULTY: Final = (2, 3, 4, 5)
"""Tasks with a fault each: an event after the final, a final of another outcome, none, no count."""
_RARE: Final = 20
_MINE: Final = 13
_LOST: Final = 17
_LONG: Final = 8
"""Which of the tasks that ``me`` runs has the long tape: no page of the audit here comes to it."""
_TABLES: Final = (
    *("tasks", "tagged", "events", "quarantine", "drop_counts"),
    *("ops", "schedules", "pauses", "repairs", "lanes", "limits", "limit_looks", "messages"),
    "limit_starts",
)


class Filled(NamedTuple):
    """A store with so many rows in every table."""

    url: str
    rows: int
    begin: int
    """Microseconds since the epoch, of the first task."""

    def task_id(self, key: int) -> str:
        """The id of the task of this key, from 1 to ``rows``."""
        head = f"{(self.begin + key * STEP) // 1_000:012x}"
        return f"{head[:8]}-{head[8:]}-7000-8000-{key:012x}"

    @property
    def mine(self) -> list[str]:
        """The tasks that ``me`` runs."""
        return [self.task_id(nth * (self.rows // _RARE) + _MINE) for nth in range(_RARE)]

    @property
    def long(self) -> str:
        """The one of these with the long tape, of a quarter as many events as there are tasks."""
        return self.mine[_LONG]

    @property
    def lost(self) -> str:
        """A task that runs, and whose lease is over."""
        return self.task_id(_LOST)


_KINDS: Final = """
CREATE TEMP TABLE kinds AS
SELECT z.*,
       CASE slot WHEN 7 THEN 'rare' WHEN 29 THEN 'soon' WHEN 37 THEN 'broken'
            ELSE CASE WHEN status = 'pending' AND r >= 93 THEN 'later'
                      WHEN status = 'pending' AND r = 92 THEN 'broken'
                      WHEN status = 'pending' AND r >= 90 THEN 'soon'
                      WHEN status = 'pending' AND r >= 80 THEN 'foreign'
                      ELSE 'op' || (i % 10) END END AS op,
       CASE slot WHEN 13 THEN 'me' WHEN 17 THEN 'lost' WHEN 19 THEN 'gone' WHEN 23 THEN 'asked'
            ELSE CASE WHEN status <> 'pending' THEN 'owner' || (i % 10)
                      WHEN r >= 85 AND r < 90 THEN 'busy' END END AS owner,
       CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN 1 ELSE 0 END AS ended,
       CASE WHEN slot NOT IN (7, 13, 17, 19, 23, 29, 37) AND status = 'pending' AND r >= 90
            THEN 1 ELSE 0 END AS in_a_year,
       CASE WHEN slot IN (29, 37) THEN nth % 5 - 2 WHEN r IN (90, 91) THEN i / 100 % 5 + 5
            WHEN r = 92 THEN 9 ELSE 0 END AS priority,
       CASE WHEN slot IN (29, 37) THEN CASE nth % 2 WHEN 0 THEN 'mail' ELSE 'default' END
            WHEN i % 10 = 5 THEN 'q' || i ELSE 'default' END AS queue
  FROM (SELECT y.*,
               CASE WHEN slot = 7 AND nth % 5 = 0 THEN 'pending'
                    WHEN slot = 7 AND nth % 5 = 1 THEN 'running'
                    WHEN slot = 7 AND nth % 5 = 2 THEN 'failed'
                    WHEN slot = 7 AND nth % 5 = 3 THEN 'cancelled'
                    WHEN slot IN (13, 17, 23) THEN 'running'
                    WHEN slot IN (19, 29, 37) THEN 'pending'
                    WHEN i > {rows} / 2 AND r >= 95 THEN 'running'
                    WHEN i > {rows} / 2 AND r >= 70 THEN 'pending'
                    WHEN r % 16 = 8 THEN 'failed'
                    WHEN r % 16 = 9 THEN 'cancelled'
                    ELSE 'succeeded' END AS status
          FROM (SELECT i, substr({head}, 1, 8) || '-' || substr({head}, 9) || '-7000-8000-'
                          || {tail} AS task_id,
                       {begin} + i * {step} AS created_at, i % ({rows} / {rare}) AS slot,
                       i % 100 AS r, i / ({rows} / {rare}) AS nth
                  FROM {series}) AS y) AS z
"""
"""What each task is. Of what waits much is of ops that nobody here has, and half of that is for its
owner alone to run. One of a rare kind stands at its slot in each twentieth of the tasks: of an op
of its own (7), run by ``me`` (13), with a lease that is over (17), for one owner alone to run (19),
to be cancelled (23), due (29), and with a final while it is pending, every second one (37). What is
due of these two ops has five priorities, and before it by their priority stand as many tasks that
are due in a year as the store is big; every second one is in a queue of its own. Of ``op5`` each
task is in another queue.

Besides as many tasks are parked on one concurrency key, and as many more on a key each; these are
to be cancelled with a parent each, which runs, waits, or has ended otherwise. All these keys are
full, and those of one task each are to be looked at. And as many more have expired before an
attempt began, but for every tenth."""

_ROWS: Final = """
INSERT INTO tasks (task_id, op, status, attempt, owner, params, retries, idempotency_key,
                   created_at, run_at, claimed_at, finished_at, lease_expires_at, cancel_reason,
                   cancel_requested_at, error_code, priority, tags, parent_id, unique_key, engine,
                   queue)
SELECT {task_id}, op, status, CASE status WHEN 'pending' THEN 0 ELSE 1 END, owner,
       '{{"some": "params"}}', 3, CASE WHEN i % 2 = 0 THEN 'key' || i END, created_at,
       CASE in_a_year WHEN 1 THEN {now} + {year} + i ELSE created_at END,
       CASE WHEN status <> 'pending' THEN created_at END,
       CASE ended WHEN 1 THEN created_at + 1 END,
       CASE WHEN slot IN (17, 19) THEN created_at
            WHEN status = 'running' OR owner = 'busy' THEN {now} + {year} END,
       CASE slot WHEN 23 THEN 'user' END, CASE slot WHEN 23 THEN created_at END,
       CASE status WHEN 'failed' THEN 'exception' END, priority,
       CASE slot WHEN 7 THEN '["few","many"]' ELSE '["many"]' END,
       {few_or_many}, 'unique' || i,
       CASE WHEN status = 'pending' AND r BETWEEN 75 AND 79 AND slot NOT IN (29, 37)
            THEN 'elsewhere' ELSE '' END,
       queue
  FROM kinds ORDER BY i;

INSERT INTO tasks (task_id, op, params, created_at, run_at, priority, concurrency_key, parked_at)
SELECT {parked_id}, 'one.key', '{{}}', created_at, 253402300799999999, i % 5 - 2, 'all',
       CASE i % 2 WHEN 0 THEN created_at ELSE {now} + {year} END
  FROM kinds ORDER BY i;

INSERT INTO tasks (task_id, op, params, created_at, run_at, concurrency_key, parked_at, parent_id,
                   cancel_with_parent)
SELECT {keyed_id}, 'many.keys', '{{}}', created_at, 253402300799999999, 'key' || i, created_at,
       CASE WHEN i > 10 AND status <> 'cancelled' THEN {task_id} END, {on}
  FROM kinds ORDER BY i;

INSERT INTO tasks (task_id, op, params, created_at, run_at, expires_in)
SELECT {expiring_id}, 'expired.many', '{{}}', created_at, created_at,
       CASE WHEN i % 10 = 9 THEN 100 * {year} ELSE i END
  FROM kinds ORDER BY i;

INSERT INTO limits (op, concurrency_key, held)
SELECT 'many.keys', 'key' || i, 1 FROM kinds UNION ALL SELECT 'one.key', 'all', 2;

INSERT INTO limit_looks (op, due_at, concurrency_key)
SELECT 'many.keys', created_at, 'key' || i FROM kinds
 UNION ALL
SELECT 'one.key', {now} + {year} + i, 'all' FROM kinds;

INSERT INTO limit_starts (op, concurrency_key, begun_at, task)
SELECT 'many.keys', 'key' || i, {now}, i FROM kinds
 UNION ALL
SELECT 'one.key', 'all', {now}, i FROM kinds WHERE i <= 2;

INSERT INTO tagged (tag, task_id) SELECT 'many', {task_id} FROM kinds;

INSERT INTO tagged (tag, task_id) SELECT 'few', {task_id} FROM kinds WHERE slot = 7;

INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT i, 1, 1, 1, 'task_started', created_at, '{{}}' FROM kinds WHERE status <> 'pending'
 ORDER BY i;

INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT i, 2, 1, 2, 'final', created_at + 1,
       '{{"outcome":"' || CASE i WHEN 3 THEN 'failed' ELSE status END || '"}}'
  FROM kinds WHERE ended = 1 AND i <> 4 ORDER BY i;

INSERT INTO events (task, seq, attempt, offer, type, ts, body)
VALUES (2, 3, 1, 3, 'log', {begin}, '{{}}');

INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT i, 1, 0, 1, 'final', created_at, '{{"outcome":"failed"}}' FROM kinds
 WHERE slot = 37 AND nth % 2 = 0;

INSERT INTO events (task, seq, attempt, offer, type, ts, body)
SELECT {long}, i + 1, 1, i + 1, 'log', {begin} + i, '{{"level":"info"}}' FROM kinds
 WHERE i <= {rows} / 4 ORDER BY i;

INSERT INTO attempts_traced (task, attempt, trace_id, span_id)
SELECT i, 1, replace(task_id, '-', ''), '00000000000000a1' FROM kinds WHERE status <> 'pending'
 ORDER BY i;

INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, body)
SELECT task_id, 1, 100, 'late', 'log',
       CASE ended WHEN 1 THEN 'after_terminal' ELSE 'stale_attempt' END, created_at + 2, '{{}}'
  FROM kinds ORDER BY i;

INSERT INTO drop_counts (task_id, attempt, reason, type, outcome, n, last_offer)
SELECT task_id, attempt, reason, type, 'open', CASE id WHEN 5 THEN 0 ELSE 1 END, offer
  FROM quarantine;

INSERT INTO quarantine (task_id, attempt, offer, owner, type, reason, ts, body)
SELECT 'unknown' || i, 1, 1, 'late', 'log', 'unknown_task', created_at, '{{}}' FROM kinds
 WHERE i <= {rare};

INSERT INTO drop_counts (task_id, attempt, reason, type, outcome, n, last_offer)
SELECT 'unknown' || i, 1, 'unknown_task', 'log', 'unknown', 1, 1 FROM kinds WHERE i <= {rare};

INSERT INTO ops (op, retries, told_at) SELECT 'old' || i, 0, {begin} FROM kinds;

INSERT INTO ops (op, retries, told_at, max_concurrent, rate_times, rate_per_us)
VALUES ('many.keys', 0, {begin}, 1, 1, {year}), ('one.key', 0, {begin}, 2, 2, {year});

INSERT INTO schedules (name, op, params, every_s, time_zone, catch_up, overlap, origin, paused,
                       next_at, created_at, revision)
SELECT 'schedule' || i, op, '{{}}', 60, 'UTC', 'one', 'allow', 'store', {off},
       created_at + {year}, {begin}, 1 FROM kinds;

INSERT INTO messages (task, n, key, body, sent_at)
SELECT i, 1, 'first', '1', created_at FROM kinds ORDER BY i;

INSERT INTO messages (task, n, key, body, sent_at, taken_seq)
SELECT {long}, i + 1, 'key' || i, '1', {begin} + i, i + 1 FROM kinds
 WHERE i <= {rows} / 4 ORDER BY i;

INSERT INTO pauses (op, paused_at, reason) SELECT 'paused' || i, {begin}, '' FROM kinds;

INSERT INTO repairs (repaired_at, repaired_by, rule, task_id, was, done)
SELECT created_at, 'somebody', 'missing_final', task_id, '{{}}', '{{}}' FROM kinds ORDER BY i;
"""

_LANES: Final = "INSERT INTO lanes (lane, number, touched) SELECT 'lane' || i, 1, {now} FROM kinds"


def _texts(filled: Filled, **dialect: str) -> list[str]:
    """The statements that fill a store, in the words of its dialect."""
    rows, begin = filled.rows, filled.begin
    known: dict[str, object] = {
        **filled._asdict(),
        "step": STEP,
        "rare": _RARE,
        "long": _LONG * (rows // _RARE) + _MINE,
        "now": begin + rows * STEP,
        "year": 365 * 86_400_000_000,
        "head": dialect["hexed"].format(f"(({begin} + i * {STEP}) / 1000)"),
        "tail": dialect["hexed"].format("i"),
        "series": dialect["series"].format(rows=rows),
        "task_id": dialect["task_id"],
        "few_or_many": dialect["parent"].format(
            f"CASE slot WHEN 7 THEN '{filled.task_id(1)}' ELSE '{filled.task_id(2)}' END"
        ),
        "parked_id": dialect["other_id"].format("-8000-", "-9000-"),
        "keyed_id": dialect["other_id"].format("-8000-", "-a000-"),
        "expiring_id": dialect["oldest_id"],  # so that lists of the newest are as without them
        "off": dialect["off"],
        "on": dialect["on"],
    }
    return [text.format(**known) for text in (_KINDS, *_ROWS.split(";\n"), _LANES) if text.strip()]


async def fill_file(path: str, rows: int, *, analysed: bool) -> Filled:
    """A SQLite file with so many rows in each table; ``analysed``: somebody has run ``ANALYZE``."""
    filled = Filled(f"sqlite:///{path}", rows, time.time_ns() // 1_000 - rows * STEP)
    async with SqliteStore(filled.url):
        pass
    *texts, _ = _texts(  # no lanes
        filled,
        hexed="printf('%012x', {})",
        series="(WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < {rows}) "
        "SELECT i FROM s) AS s",
        task_id="task_id",
        parent="{}",
        other_id="replace(task_id, '{}', '{}')",
        oldest_id="'00000000' || substr(task_id, 9)",
        off="0",
        on="1",
    )
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous = OFF")
        guards: list[tuple[str, str]] = conn.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall()
        conn.execute("BEGIN")
        for name, _ in guards:
            conn.execute(f"DROP TRIGGER {name}")
        for text in texts:
            conn.execute(text)
        for _, text in guards:
            conn.execute(text)
        conn.execute("COMMIT")
        if analysed:
            conn.execute("ANALYZE")
    return filled


_ALL_ENDED = """SELECT pg_restore_attribute_stats(
    'schemaname', current_schema()::text, 'relname', 'tasks', 'attname', 'status',
    'inherited', false, 'null_frac', 0::real, 'n_distinct', 1::real,
    'most_common_vals', '{succeeded}', 'most_common_freqs', '{1}'::real[])"""


async def fill_schema(server: Postgres, rows: int, *, quiet: bool) -> Filled:
    """A PostgreSQL schema with so many rows in each table, vacuumed and analysed; ``quiet``: at a
    time when nothing waited or ran, as at night."""
    filled = Filled(server.url(), rows, time.time_ns() // 1_000 - rows * STEP)
    async with PostgresStore(filled.url):
        pass
    conn = await asyncpg.connect(server.dsn)
    try:
        await conn.execute(f"SET search_path = {filled.url.rpartition('=')[2]}")
        await conn.execute("SET session_replication_role = replica; SET synchronous_commit = off")
        for text in _texts(
            filled,
            hexed="lpad(to_hex({}), 12, '0')",
            series="generate_series(1::bigint, {rows}) AS s(i)",
            task_id="task_id::uuid",
            parent="({})::uuid",
            other_id="replace(task_id, '{}', '{}')::uuid",
            oldest_id="('00000000' || substr(task_id, 9))::uuid",
            off="false",
            on="true",
        ):
            await conn.execute(text)
        await conn.execute(
            "CHECKPOINT"
        )  # else VACUUM may meet a commit that is not on the disk yet
        for table in _TABLES:
            await conn.execute(f"VACUUM (ANALYZE) {table}")
        if quiet:
            await conn.execute(_ALL_ENDED)
    finally:
        await conn.close()
    return filled
