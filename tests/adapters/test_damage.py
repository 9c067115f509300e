"""Whatever a hand, a disk or half a backup did to a store: the audit names it, and nothing breaks.

Each damage of the table is done past the guards, beside a sound task. What can be mended is mended;
the rest is left as it is, and goes on being named.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tapescope import AuditRule, NewEvent, NewTask, TaskStore, find_store
from tapescope.errors import TapescopeError
from tapescope.maintenance import audit_store, repair_store
from tapescope.store.validation import new_task_id
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.postgres._schema import find_schema_faults
from tapescope_adapters.sqlite import SqliteStore
from tests.support.breaches import make_ended, run_round, run_statement
from tests.support.postgres_sessions import schema_of, session


@dataclass(frozen=True)
class Damage:
    """Statements, of a task of four events that ended and has two late ones; what is to be said."""

    statements: tuple[str, ...]
    rules: frozenset[AuditRule]
    left: frozenset[AuditRule] = frozenset()
    """What is still said after a repair."""


def left_alone(rule: AuditRule, *statements: str) -> Damage:
    """A damage that no repair mends."""
    return Damage(statements, frozenset({rule}), frozenset({rule}))


def mended(rule: AuditRule, *statements: str) -> Damage:
    """A damage after whose repair all is well."""
    return Damage(statements, frozenset({rule}))


_MISCOUNTED: Final = frozenset({AuditRule.OUTCOME_MISMATCH, AuditRule.BACKLOG_MISMATCH})
"""What the row says was not counted: the triggers were off."""

DAMAGE: Final = {
    "no final on the tape": mended(
        AuditRule.MISSING_FINAL, "DELETE FROM events WHERE task = {key} AND type = 'final'"
    ),
    "no tape: half a backup": mended(
        AuditRule.MISSING_FINAL, "DELETE FROM events WHERE task = {key}"
    ),
    "no task: the other half": left_alone(
        AuditRule.ORPHAN_EVENTS,
        "CREATE TABLE kept AS SELECT * FROM events WHERE task = {key}",
        "DELETE FROM tasks WHERE id = {key}",
        "DELETE FROM events WHERE task = {key}",
        "INSERT INTO events SELECT * FROM kept",
        "DROP TABLE kept",
    ),
    "a tape of a key below 0": left_alone(
        AuditRule.ORPHAN_EVENTS,
        "INSERT INTO events (task, seq, attempt, offer, type, ts, body)"
        " VALUES (-7, 1, 1, 1, 'log', 1, '{{}}')",
    ),
    "events that are gone": left_alone(
        AuditRule.SEQUENCE_GAP, "DELETE FROM events WHERE task = {key} AND seq = 2"
    ),
    "the row says another outcome": Damage(
        ("UPDATE tasks SET status = 'failed' WHERE id = {key}",), _MISCOUNTED
    ),
    "the row runs, the tape is closed": Damage(
        (
            "UPDATE tasks SET status = 'pending', finished_at = NULL WHERE id = {key}",
            "DELETE FROM drop_counts WHERE task_id = '{task_id}'",
            "DELETE FROM quarantine WHERE task_id = '{task_id}'",
        ),
        _MISCOUNTED,
    ),
    "a tape that goes on": mended(
        AuditRule.FINAL_NOT_LAST,
        "INSERT INTO events (task, seq, attempt, offer, type, ts, body)"
        " VALUES ({key}, 5, 1, 9, 'log', 1, '{{}}')",
    ),
    "two ends": mended(
        AuditRule.MULTIPLE_FINAL,
        "INSERT INTO events (task, seq, attempt, offer, type, ts, body)"
        """ VALUES ({key}, 5, 1, 9, 'final', 1, '{{"outcome": "succeeded"}}')""",
    ),
    "no count of what is kept: half a backup": mended(
        AuditRule.DROPPED_COUNT_MISMATCH, "DELETE FROM drop_counts WHERE task_id = '{task_id}'"
    ),
    "a body that is no JSON": left_alone(
        AuditRule.BAD_ROW, "UPDATE events SET body = '{{' WHERE task = {key} AND seq = 2"
    ),
    "params that are no object": left_alone(
        AuditRule.BAD_ROW, "UPDATE tasks SET params = '[1]' WHERE id = {key}"
    ),
    "a time that is none": left_alone(
        AuditRule.BAD_ROW, f"UPDATE events SET ts = {2**62} WHERE task = {{key}} AND seq = 2"
    ),
    "an outcome that is none": Damage(
        ("""UPDATE events SET body = '{{"outcome": 1}}' WHERE task = {key} AND type = 'final'""",),
        frozenset({AuditRule.OUTCOME_MISMATCH}),
        frozenset({AuditRule.OUTCOME_MISMATCH}),
    ),
}


@pytest.fixture
async def damaged(store_url: str) -> AsyncGenerator[TaskStore]:
    """A store with a sound task that ended, and one that is pending."""
    async with find_store(store_url) as store:
        await make_ended(store)
        await store.create(NewTask(new_task_id(), "x"))
        yield store


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
async def test_damage_is_named(damaged: TaskStore, store_url: str, damage: Damage) -> None:
    """By its rule and no other; after a repair it is gone, or it is left, and named again."""
    attempt, key = await make_ended(damaged)
    texts = [one.format(key=key, task_id=attempt.task_id) for one in damage.statements]
    await run_round(store_url, *texts)
    found = await audit_store(damaged, thorough=True)
    report = await repair_store(damaged, by="the tests")
    after = await audit_store(damaged, thorough=True)

    assert {one.rule for one in found.violations} == damage.rules
    assert list(found.violations) == report.violations
    assert {one.rule for one in report.left} == damage.left
    assert {one.rule for one in after.violations} == damage.left


async def test_every_guard_of_sqlite_that_is_gone_is_named(sqlite_url: str) -> None:
    """Each trigger, each index."""
    async with find_store(sqlite_url) as store:
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
            guards = conn.execute(
                "SELECT type, name, sql FROM sqlite_schema"
                " WHERE type IN ('trigger', 'index') AND sql IS NOT NULL"
            ).fetchall()
        for kind, name, text in guards:
            await run_statement(sqlite_url, f"DROP {kind} {name}")
            (found,) = (await audit_store(store)).violations
            await run_statement(sqlite_url, text)

            assert found.rule is AuditRule.SCHEMA_CHANGED
            assert found.detail == f"the {kind} {name} is gone"
        sound = (await audit_store(store)).violations

    assert len(guards) > 20
    assert sound == ()


async def test_guard_whose_name_is_no_text_is_named(sqlite_url: str) -> None:
    """As a flipped bit makes it: the audit says that the guard is gone."""
    async with find_store(sqlite_url):
        pass
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute(
            "UPDATE sqlite_schema SET name = CAST(name AS BLOB) WHERE name = 'tasks_have_a_key'"
        )
        conn.commit()

    assert "the trigger tasks_have_a_key is gone" in await audit_file(
        Path(sqlite_url.removeprefix("sqlite:///"))
    )


async def test_every_guard_of_postgres_that_is_gone_is_named(postgres_url: str) -> None:
    """Each trigger, dropped and switched off; each constraint, index and function."""
    unnamed: list[str] = []
    sql = load_queries(schema_of(postgres_url))
    async with find_store(postgres_url) as store, session(postgres_url) as conn:
        guards = await conn.fetch(
            "SELECT 'trigger' AS kind, t.tgname AS name, t.tgrelid::regclass::text AS of,"
            " format('DROP TRIGGER %I ON %s', t.tgname, t.tgrelid::regclass) AS drop"
            " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal"
            " UNION ALL SELECT 'trigger', t.tgname, t.tgrelid::regclass::text,"
            " format('ALTER TABLE %s DISABLE TRIGGER %I', t.tgrelid::regclass, t.tgname)"
            " FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE c.relnamespace = current_schema()::regnamespace AND NOT t.tgisinternal"
            " UNION ALL SELECT 'constraint', k.conname, k.conrelid::regclass::text,"
            " format('ALTER TABLE %s DROP CONSTRAINT %I CASCADE', k.conrelid::regclass, k.conname)"
            " FROM pg_constraint k WHERE k.connamespace = current_schema()::regnamespace"
            " AND k.contype IN ('c', 'p', 'u')"
            " UNION ALL SELECT 'index', c.relname, i.indrelid::regclass::text,"
            " format('DROP INDEX %I', c.relname)"
            " FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
            " WHERE c.relnamespace = current_schema()::regnamespace AND NOT EXISTS"
            " (SELECT 1 FROM pg_constraint k WHERE k.conindid = c.oid)"
        )
        for guard in guards:
            change = conn.transaction()  # taken back: as of the next one all is there again
            await change.start()
            await conn.execute(guard["drop"])
            faults = await find_schema_faults(conn, schema_of(postgres_url), sql, 10)
            await change.rollback()
            name = f"the {guard['kind']} {guard['name']} on {guard['of']} is "
            if not any(name in fault for fault in faults):
                unnamed.append(guard["drop"])
        await conn.execute(
            "CREATE OR REPLACE FUNCTION guard_truncated() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'"
        )
        (changed,) = (await audit_store(store)).violations
        await conn.execute(
            "CREATE TRIGGER foreign_one BEFORE INSERT ON tasks EXECUTE FUNCTION guard_truncated()"
        )
        (foreign,) = (await audit_store(store)).violations

    assert unnamed == []
    assert len(guards) > 40
    assert changed.detail == "the function guard_truncated is not as the migrations make it"
    assert "the trigger foreign_one on tasks is not of the migrations" in foreign.detail


FLIPS: Final = 60


async def test_no_broken_file_is_audited_as_sound(tmp_path: Path) -> None:
    """What SQLite itself calls broken is named, or the file is refused: never a clean audit."""
    made = tmp_path / "made.db"
    async with SqliteStore(f"sqlite:///{made}") as store:
        for _ in range(30):
            attempt, _ = await make_ended(store)
            await store.append(attempt, [NewEvent("log", "x" * 500)] * 3)
    sound = made.read_bytes()
    broken = 0
    for seed in range(FLIPS):
        flips = random.Random(seed)
        file = tmp_path / f"{seed}.db"
        data = bytearray(sound)
        for _ in range((1, 4, 40)[seed % 3]):
            data[flips.randrange(100, len(data))] ^= 1 << flips.randrange(8)
        file.write_bytes(data)
        is_broken = not is_sound(file)
        broken += is_broken
        said = await audit_file(file)

        assert said or not is_broken, f"seed {seed} is audited as sound"

    assert broken > FLIPS / 4


def is_sound(file: Path) -> bool:
    """Whether SQLite itself finds nothing."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as conn:
        conn.text_factory = bytes  # what is broken may be no text, and so may an error
        try:
            return conn.execute("PRAGMA integrity_check").fetchall() == [(b"ok",)]
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            return False


async def audit_file(file: Path) -> str:
    """What an audit says of a file, or the error that says why it cannot; empty: all is well."""
    try:
        async with SqliteStore(f"sqlite:///{file}?open_mode=read") as store:
            report = await audit_store(store, thorough=True)
    except TapescopeError as error:
        return str(error)
    return "; ".join(one.detail for one in report.violations)
