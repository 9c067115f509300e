"""A database in which somebody has things of the names that a store's own have."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tapescope import TaskManager
from tapescope.errors import StoreConfigError
from tapescope.store.opening import OpenMode
from tests.support.older_schema import take_migration_off
from tests.support.postgres_sessions import schema_of, session

pytestmark = pytest.mark.unmade

_BOTH = {
    "table": "CREATE TABLE {name} (is_mine text)",
    "view": "CREATE VIEW {name} AS SELECT 1 AS is_mine",
    "index": "CREATE TABLE mine (is_mine text); CREATE INDEX {name} ON mine (is_mine)",
}
_OF_POSTGRES = {
    "sequence": "CREATE SEQUENCE {name}",
    "type": "CREATE TYPE {name} AS ENUM ('mine')",
    "function": "CREATE FUNCTION {name}() RETURNS text LANGUAGE sql AS 'SELECT 1::text'",
}
_STAGES = [
    pytest.param("fresh", "tasks", "now_us", id="fresh"),
    pytest.param("older", "workers", "count_moves", id="older", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("thing", _BOTH)
@pytest.mark.parametrize(("stage", "table", "function"), _STAGES)
async def test_taken_name_is_told(
    store_url: str, thing: str, stage: str, table: str, function: str
) -> None:
    """Opening says which name is taken and what to do, be the store new or an older one."""
    await _prepare(store_url, stage)
    await _execute(store_url, _BOTH[thing].format(name=table))

    await _is_refused(store_url, table)


@pytest.mark.parametrize("thing", _OF_POSTGRES)
@pytest.mark.parametrize(("stage", "table", "function"), _STAGES)
async def test_taken_name_of_a_schema_is_told(
    postgres_url: str, thing: str, stage: str, table: str, function: str
) -> None:
    """The same of what SQLite does not have; no try is made for ever."""
    name = function if thing == "function" else table
    await _prepare(postgres_url, stage)
    await _execute(postgres_url, _OF_POSTGRES[thing].format(name=name))

    await _is_refused(postgres_url, name)


async def _prepare(url: str, stage: str) -> None:
    """A database without a store, or with an older one."""
    if stage == "older":
        async with TaskManager(url):
            pass
        await take_migration_off(url)
    elif url.startswith("postgresql"):
        await _execute(url, f'CREATE SCHEMA "{schema_of(url)}"')


async def _execute(url: str, statement: str) -> None:
    if url.startswith("postgresql"):
        async with session(url) as raw:
            await raw.execute(statement)
    else:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
            conn.executescript(statement)


async def _is_refused(url: str, name: str) -> None:
    manager = TaskManager(url)
    manager.store.open_mode = OpenMode.MIGRATE
    with pytest.raises(StoreConfigError, match=rf"{name}\b.* Name another (file|schema)"):
        await manager.open()
