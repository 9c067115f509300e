"""Numbered migrations, all in one transaction, one process at a time."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import asyncpg

from tapescope.errors import SchemaForbidden
from tapescope.store import OpenMode, SchemaVersions, must_migrate
from tapescope_adapters._sql import find_compatible, load_migrations

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.postgres") / "sql"
_HAS_TABLES: Final = (
    # not to_regclass: it goes by a cache, which may not know yet what another session committed
    "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
    " ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'schema_compatibility'"
)
_LOCK: Final = 0x7461706573  # "tapes": one advisory lock for every schema of the database


@cache
def read_migrations() -> Mapping[int, str]:
    """The scripts, by number; those of the version that this process began with."""
    return load_migrations(_SQL)


async def migrate(conn: Connection, schema: str, mode: OpenMode, name: str) -> None:
    """Make the schema, or bring it up to date.

    To be called where ``must_migrate`` says so; it is asked again under the lock, for another
    process may have migrated. Raises what ``must_migrate`` raises, and ``SchemaForbidden`` where
    the role may not make tables.
    """
    steps = read_migrations()
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '60s'")  # another store may be migrating
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            # The functions of the schema keep this path; the session's own is not touched.
            await conn.execute(f'SET LOCAL search_path = "{schema}", pg_temp')
            versions = await read_versions(conn, schema)
            if not must_migrate(mode, versions, name):
                return
            if await conn.fetchval("SELECT to_regnamespace($1) IS NULL", schema):
                await conn.execute(f'CREATE SCHEMA "{schema}"')  # checked: a-z, 0-9, _
            for number in range(versions.found + 1, versions.known + 1):
                await conn.execute(steps[number])
                await conn.execute("INSERT INTO schema_version (version) VALUES ($1)", number)
                await conn.execute(
                    "INSERT INTO schema_compatibility VALUES ($1, $2)",
                    number,
                    find_compatible(number, steps[number]),
                )
    except asyncpg.InsufficientPrivilegeError as error:
        raise SchemaForbidden(schema, str(error)) from error


async def read_versions(conn: Connection, schema: str) -> SchemaVersions:
    """The version of the schema, which is neither made nor changed.

    0 where there is no such schema, or none of our tables in it.
    """
    known = max(read_migrations())
    if not await conn.fetchval(_HAS_TABLES, schema):
        return SchemaVersions(0, known)
    found = await conn.fetchval(f'SELECT coalesce(max(version), 0) FROM "{schema}".schema_version')
    compatible = found <= known or await _is_compatible(conn, schema, found, known)
    return SchemaVersions(found, known, compatible)


async def _is_compatible(conn: Connection, schema: str, found: int, known: int) -> bool:
    row = await conn.fetchrow(
        f'SELECT max(version), max(compatible_from) FROM "{schema}".schema_compatibility'
    )
    assert row is not None, "an aggregate is one row"
    last, oldest = row
    return bool(last == found and oldest <= known)
