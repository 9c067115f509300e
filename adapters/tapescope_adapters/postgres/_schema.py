"""Numbered migrations, all in one transaction, one process at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import asyncpg

from tapescope.errors import SchemaForbidden, StoreConfigError
from tapescope.store import OpenMode, SchemaVersions, StoreAway, must_migrate
from tapescope_adapters._sql import find_compatible, load_migrations

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["SOUND", "SchemaGuard", "list_made", "migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.postgres") / "sql"
_HAS_TABLES: Final = (
    # not to_regclass: it goes by a cache, which may not know yet what another session committed
    "SELECT count(*) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
    " ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = 'schema_compatibility'"
)
SOUND: Final = """
SELECT current_setting('server_encoding') AS encoding,
       current_setting('transaction_read_only') = 'on' AS read_only,
       ARRAY(SELECT p.proname::text FROM pg_catalog.pg_proc p
              WHERE p.pronamespace = n.oid AND p.proname = ANY ($2)) AS functions,
       ARRAY(SELECT DISTINCT c.setting FROM pg_catalog.pg_proc p
              CROSS JOIN unnest(p.proconfig) AS c(setting)
              WHERE p.pronamespace = n.oid AND p.proname = ANY ($2)
                AND c.setting LIKE 'search_path=%') AS paths,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
              WHERE c.relnamespace = n.oid AND c.relkind = 'r' AND c.relname = ANY ($2)) AS tables,
       ARRAY(SELECT c.relname::text FROM pg_catalog.pg_class c
              WHERE c.relnamespace = n.oid AND c.relname = ANY ('{tasks,events,lanes}')
                AND NOT has_table_privilege(c.oid, 'INSERT')) AS barred
  FROM (SELECT $1::name AS name) wanted
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.name
"""
"""What ``SchemaGuard`` judges: of the schema $1, and of those of the names $2 that it has."""
_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
"""What takes any text: in another one a result that it has no letter for could not be stored."""
_MADE: Final = re.compile(
    r"^CREATE (?:OR REPLACE )?(?P<kind>TABLE|FUNCTION) (?P<name>\w+)", re.MULTILINE
)
_LOCK: Final = 0x7461706573  # "tapes": one advisory lock for every schema of the database


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


class SchemaGuard:
    """Says whether the schema of a store is what its functions and its writes need.

    ``look`` is asked when the store is opened, and at each heartbeat. What it finds missing later
    is measured by what was there at first.
    """

    def __init__(self, schema: str, name: str) -> None:
        self._schema, self._name = schema, name
        self._seen: frozenset[str] = frozenset()

    def look(self, row: Mapping[str, Any]) -> None:
        """Judge the answer to ``SOUND``. Raises ``StoreConfigError``."""
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
        """Judge whether writes are taken. Raises ``StoreAway``, ``StoreConfigError``."""
        if row["read_only"]:
            raise StoreAway("the server takes no writes: it is a standby, or set to read-only")
        if row["barred"]:
            raise StoreConfigError(
                f"The user of the store {self._name} may not write to {', '.join(row['barred'])} "
                f"in schema {self._schema!r}. Grant INSERT, or use another role."
            )


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
