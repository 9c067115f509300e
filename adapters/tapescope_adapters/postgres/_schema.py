"""Numbered migrations, all in one transaction, one process at a time."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

import asyncpg

from tapescope.errors import SchemaForbidden, SchemaTooNew, SchemaTooOld
from tapescope.store import SchemaVersions
from tapescope_adapters._sql import find_compatible, load_migrations

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.postgres") / "sql"
_LOCK: Final = 0x7461706573  # "tapes": one advisory lock for every schema of the database


def read_migrations() -> dict[int, str]:
    """The scripts, by number."""
    return load_migrations(_SQL)


async def migrate(conn: Connection, schema: str, *, auto: bool) -> None:
    """Bring the schema up to date.

    A newer one is left as it is, where its migrations say that this code may go on.

    Raises ``SchemaTooNew``, ``SchemaForbidden`` when the role may not make tables, and with
    ``auto`` off ``SchemaTooOld``.
    """
    steps = read_migrations()
    known = max(steps)
    found = await _version(conn, schema)
    if found > known and not await _is_compatible(conn, schema, found, known):
        raise SchemaTooNew(found, known)
    if found >= known:
        return
    if not auto:
        raise SchemaTooOld(found, known)
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL lock_timeout = '60s'")  # another store may be migrating
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            # The functions of the schema keep this path; the session's own is not touched.
            await conn.execute(f'SET LOCAL search_path = "{schema}", pg_temp')
            if await conn.fetchval("SELECT to_regnamespace($1) IS NULL", schema):
                await conn.execute(f'CREATE SCHEMA "{schema}"')  # checked: a-z, 0-9, _
            for number in range(await _version(conn, schema) + 1, known + 1):
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
    """The version of the schema, which is neither made nor changed."""
    found, known = await _version(conn, schema), max(read_migrations())
    compatible = found <= known or await _is_compatible(conn, schema, found, known)
    return SchemaVersions(found, known, compatible)


async def _is_compatible(conn: Connection, schema: str, found: int, known: int) -> bool:
    name = f"{schema}.schema_compatibility"
    if await conn.fetchval("SELECT to_regclass($1) IS NULL", name):
        return False
    row = await conn.fetchrow(
        f'SELECT max(version), max(compatible_from) FROM "{schema}".schema_compatibility'
    )
    assert row is not None, "an aggregate is one row"
    last, oldest = row
    return bool(last == found and oldest <= known)


async def _version(conn: Connection, schema: str) -> int:
    """The highest migration that was applied, 0 for none."""
    if await conn.fetchval("SELECT to_regclass($1) IS NULL", f"{schema}.schema_version"):
        return 0
    version: int = await conn.fetchval(
        f'SELECT coalesce(max(version), 0) FROM "{schema}".schema_version'
    )
    return version
