"""A file that is refused stays as it is; what is foreign in a schema is never run, and is told."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from shutil import copyfile
from typing import Any, cast

import pytest

from tapescope import AuditRule, StoreConfigError, TapescopeError, find_store
from tapescope.maintenance.audit import audit_store
from tapescope.maintenance.repair import repair_store
from tapescope_adapters.sqlite import _schema
from tapescope_adapters.sqlite._connection import set_up_reader
from tests.support.breaches import make_ended, run_statement

OPEN_MODES = ("read", "existing", "create", "migrate")


def read_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """What stands in each file, and when it was written last."""
    return {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns)
        for file in folder.iterdir()
        if not file.name.endswith("-shm")  # the index of a log that is there: any look makes one
    }


def make_foreign(folder: Path, version: int, journal: str) -> Path:
    """A database of another program, as it leaves it when it is killed."""
    made = folder / "made"
    made.mkdir()
    with closing(sqlite3.connect(made / "f.db", isolation_level=None)) as conn:
        conn.execute(f"PRAGMA journal_mode = {journal}")
        conn.execute("CREATE TABLE moz_places (id, url)")
        conn.execute(f"PRAGMA user_version = {version}")
        conn.execute("INSERT INTO moz_places VALUES (1, 'https://example.org')")
        for name in ("f.db", "f.db-wal"):
            if (made / name).exists():
                copyfile(made / name, folder / name)
    for file in made.iterdir():
        file.unlink()
    made.rmdir()
    return folder / "f.db"


@pytest.mark.parametrize("open_mode", OPEN_MODES)
@pytest.mark.parametrize("journal", ["delete", "wal"])
async def test_refused_file_stays_as_it_is(tmp_path: Path, journal: str, open_mode: str) -> None:
    """Byte for byte, with its log and its journal mode, whatever the opening may do."""
    file = make_foreign(tmp_path, 7, journal)
    before = read_files(tmp_path)
    with pytest.raises(TapescopeError):
        await find_store(f"sqlite:///{file}?open_mode={open_mode}").open()

    assert read_files(tmp_path) == before


@pytest.mark.parametrize("open_mode", OPEN_MODES)
async def test_newer_schema_stays_as_it_is(tmp_path: Path, open_mode: str) -> None:
    """A store of a newer version, in another journal mode, is refused and not touched."""
    file = tmp_path / "t.db"
    async with find_store(f"sqlite:///{file}"):
        pass
    with closing(sqlite3.connect(file, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = delete")
        conn.execute("PRAGMA user_version = 99")
    before = read_files(tmp_path)
    with pytest.raises(StoreConfigError, match="99"):
        await find_store(f"sqlite:///{file}?open_mode={open_mode}").open()

    assert read_files(tmp_path) == before


async def test_view_in_the_place_of_a_table_is_refused(sqlite_url: str) -> None:
    """A view without an end under the name of a table would keep whoever looks for ever."""
    async with find_store(sqlite_url):
        pass
    endless = (
        "CREATE VIEW tasks AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) "
        "SELECT x AS id, x AS task_id FROM n"
    )
    await run_statement(sqlite_url, "DROP TABLE tasks")
    await run_statement(sqlite_url, endless)
    for open_mode in OPEN_MODES:
        with pytest.raises(StoreConfigError, match="'tasks' is a view"):
            await find_store(f"{sqlite_url}?open_mode={open_mode}").open()


async def test_a_file_without_views_is_opened_with_no_second_schema(sqlite_url: str) -> None:
    """To make one in memory, for the names of its tables, took half of each command's start."""
    async with find_store(sqlite_url):
        pass
    made_schema = cast("Any", _schema)._describe_made
    made_schema.cache_clear()
    async with find_store(f"{sqlite_url}?open_mode=existing"):
        made = made_schema.cache_info().misses

    assert made == 0


FOREIGN = {
    "a trigger": ("CREATE TRIGGER evil AFTER INSERT ON tasks BEGIN SELECT 1; END",),
    "a trigger of the same name": (
        "DROP TRIGGER events_never_change",
        "CREATE TRIGGER events_never_change BEFORE UPDATE ON events BEGIN SELECT 1; END",
    ),
    "a trigger that is gone": ("DROP TRIGGER events_never_change",),
    "a column": ("ALTER TABLE ops ADD COLUMN note TEXT",),
    "an index that is gone": ("DROP INDEX drop_counts_unknown",),
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=list(FOREIGN))
async def test_schema_that_the_migrations_do_not_make_is_found(
    sqlite_url: str, change: tuple[str, ...]
) -> None:
    """By the audit, with its name; a repair leaves it. Tables of others are no matter."""
    async with find_store(sqlite_url) as store:
        await make_ended(store)
        await run_statement(sqlite_url, "CREATE TABLE of_the_application (id)")
        await run_statement(sqlite_url, "CREATE VIEW shown AS SELECT * FROM tasks")
        assert (await audit_store(store)).violations == ()
        for statement in change:
            await run_statement(sqlite_url, statement)
        found = (await audit_store(store)).violations
        report = await repair_store(store, by="the tests")

    assert [one.rule for one in found] == [AuditRule.SCHEMA_CHANGED]
    assert report.left == list(found)
    assert report.repairs == []


def test_schema_is_not_trusted_by_who_reads(sqlite_url: str) -> None:
    """A reader's connection runs nothing that a hostile file's schema may have in it."""
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        set_up_reader(conn)
        trusted = conn.execute("PRAGMA trusted_schema").fetchone()

    assert trusted == (0,)
