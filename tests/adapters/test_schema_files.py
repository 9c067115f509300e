"""What the ``.sql`` files say of a schema is what stands in a store that has just been made."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from importlib.resources import files

import pytest

from docs.schema import FILES, describe_postgres, describe_sqlite
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite import SqliteStore
from tests.support.postgres_sessions import session

pytestmark = pytest.mark.unmade

FUNCTIONS = {
    entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
    for entry in (files("tapescope_adapters.postgres") / "sql" / "functions").iterdir()
}


async def test_schema_to_read_is_what_the_migrations_make_on_sqlite(sqlite_url: str) -> None:
    """Made again from a fresh file, it is what is committed; else ``make docs`` was forgotten."""
    async with SqliteStore(sqlite_url):
        pass
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as conn:
        described = describe_sqlite(conn)

    assert described == FILES["sqlite"].read_text(encoding="utf-8")


async def test_schema_to_read_is_what_the_migrations_make_on_postgres(postgres_url: str) -> None:
    """Made again in a fresh schema, it is what is committed; else ``make docs`` was forgotten."""
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        described = await describe_postgres(raw)

    assert described == FILES["postgres"].read_text(encoding="utf-8")


async def test_a_migration_applies_every_function(postgres_url: str) -> None:
    """Each file is the one function of its name, whole; no other function is in the schema."""
    async with PostgresStore(postgres_url), session(postgres_url) as raw:
        rows = await raw.fetch(
            "SELECT proname, prosrc FROM pg_proc"
            " WHERE pronamespace = current_schema()::regnamespace ORDER BY proname"
        )
    made = re.compile(r"^CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE) (\w+)", re.MULTILINE)

    assert [name for name, _ in rows] == sorted(FUNCTIONS)
    assert [name for name, body in rows if body not in FUNCTIONS[name]] == []
    assert {name: made.findall(text) for name, text in FUNCTIONS.items()} == {
        name: [name] for name in FUNCTIONS
    }
