"""Numbered migrations, all in one transaction, one process at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import asyncpg

from tapescope.errors import RightsMissing, SchemaForbidden, SchemaNotOwn, StoreConfigError
from tapescope.store import OpenMode, SchemaVersions, StoreAway, must_migrate
from tapescope_adapters._sql import Queries, find_compatible, load_migrations

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["SchemaGuard", "list_made", "migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.postgres") / "sql"
_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
"""What takes any text: in another one a result that it has no letter for could not be stored."""
_MADE: Final = re.compile(
    r"^CREATE (?:OR REPLACE )?(?P<kind>TABLE|FUNCTION) (?P<name>\w+)", re.MULTILINE
)
_MADE_MEANWHILE: Final = (
    asyncpg.DuplicateSchemaError,
    asyncpg.DuplicateTableError,
    asyncpg.UniqueViolationError,
)


@cache
def list_made() -> Mapping[str, Literal["TABLE", "FUNCTION"]]:
    """The tables and functions of the schema, as its migrations name them."""
    return {
        found["name"]: cast("Literal['TABLE', 'FUNCTION']", found["kind"])
        for script in read_migrations().values()
        for found in _MADE.finditer(script)
    }


@cache
def read_migrations() -> Mapping[int, str]:
    """The scripts, by number; those of the version that this process began with."""
    return load_migrations(_SQL)


async def migrate(
    conn: Connection, schema: str, mode: OpenMode, name: str, sql: Queries, *, adopt: bool
) -> None:
    """Make the schema, or bring it up to date.

    To be called where ``must_migrate`` says so; it is asked again under the lock, for another
    process may have migrated. ``adopt`` takes a schema in which another role may make things.
    Raises what ``must_migrate`` raises, ``SchemaForbidden`` where the role may not make tables, and
    ``SchemaNotOwn``.
    """
    while True:
        try:
            async with conn.transaction(isolation="read_committed"):
                await _migrate(conn, schema, mode, name, sql, adopt=adopt)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SchemaForbidden(schema, str(error)) from error
        except _MADE_MEANWHILE:
            continue  # by a process that has committed since: the next look finds its tables
        return


async def _migrate(
    conn: Connection, schema: str, mode: OpenMode, name: str, sql: Queries, *, adopt: bool
) -> None:
    """One try. Two that make the same schema meet at its name, in the server's own catalog."""
    await conn.execute("SET LOCAL lock_timeout = '60s'")  # another store may be migrating
    # The functions of the schema keep this path; the session's own is not touched.
    await conn.execute(f'SET LOCAL search_path = "{schema}", pg_temp')
    versions = await read_versions(conn, schema, sql)
    if versions.found and must_migrate(mode, versions, name):
        await conn.execute(sql["lock_schema"])
        versions = await read_versions(conn, schema, sql)
    if not must_migrate(mode, versions, name):
        return
    if not versions.found:
        row = await conn.fetchrow(sql["read_owner"], schema)
        if row is None:
            await conn.execute(f'CREATE SCHEMA "{schema}"')  # checked: a-z, 0-9, _
        elif row["others"] and not adopt:
            raise SchemaNotOwn(schema, row["owner"])
    steps = read_migrations()
    for number in range(versions.found + 1, versions.known + 1):
        await conn.execute(steps[number])
        await conn.execute(sql["note_version"], number)
        await conn.execute(
            sql["note_compatibility"], number, find_compatible(number, steps[number])
        )


class SchemaGuard:
    """Says whether the schema of a store is what its functions and its writes need.

    ``look`` is asked when the store is opened, and at each heartbeat. What it finds missing later
    is measured by what was there at first.
    """

    def __init__(self, schema: str, name: str) -> None:
        self._schema, self._name = schema, name
        self._seen: frozenset[str] = frozenset()

    def look(self, row: Mapping[str, Any]) -> None:
        """Judge the answer to ``read_state``. Raises ``StoreConfigError``."""
        if row["encoding"] not in _ENCODINGS:
            raise StoreConfigError(
                f"The database of the store {self._name} has the encoding {row['encoding']}, in "
                "which not every text can be stored. Use one that was made with ENCODING 'UTF8'."
            )
        found = frozenset({*row["functions"], *row["tables"]})
        if missing := sorted(self._seen - found):
            raise StoreConfigError(
                f"Parts of the schema {self._schema!r} of the store {self._name} are gone since "
                f"it was opened: {', '.join(missing[:5])}. Was it renamed? Else restore a backup."
            )
        self._seen = found
        own = f"search_path={self._schema},"
        if strange := [path for path in row["paths"] if not path.replace('"', "").startswith(own)]:
            raise StoreConfigError(
                f"The functions of schema {self._schema!r} of the store {self._name} work on "
                f"another one ({strange[0]}): the schema was renamed. Rename it back, or have its "
                "functions follow it: see 'A renamed schema' in docs/howto/postgres.md."
            )

    def require_writable(self, row: Mapping[str, Any]) -> None:
        """Judge whether writes are taken. Raises ``StoreAway``, ``RightsMissing``."""
        if row["read_only"]:
            raise StoreAway("the server takes no writes: it is a standby, or set to read-only")
        if row["barred"]:
            raise RightsMissing(self._name, self._schema, row["barred"])


async def read_versions(conn: Connection, schema: str, sql: Queries) -> SchemaVersions:
    """The version of the schema, which is neither made nor changed.

    0 where there is no such schema, or none of our tables in it.
    """
    known = max(read_migrations())
    if not await conn.fetchval(sql["has_tables"], schema):
        return SchemaVersions(0, known)
    found = await conn.fetchval(sql["read_version"])
    compatible = found <= known or await _is_compatible(conn, sql, found, known)
    return SchemaVersions(found, known, compatible)


async def _is_compatible(conn: Connection, sql: Queries, found: int, known: int) -> bool:
    row = await conn.fetchrow(sql["read_compatibility"])
    assert row is not None, "an aggregate is one row"
    last, oldest = row
    return bool(last == found and oldest <= known)
