"""Numbered migrations, all in one transaction, one process at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import asyncpg

from tapescope.errors import RightsMissing, SchemaForbidden, SchemaNotOwn, StoreConfigError
from tapescope.store import OpenMode, SchemaVersions, StoreAway, decode, must_migrate
from tapescope_adapters._sql import Queries, find_compatible, load_migrations

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection, Connector

__all__ = [
    "SchemaGuard",
    "find_schema_faults",
    "list_made",
    "migrate",
    "read_migrations",
    "read_versions",
]

_SQL: Final = files("tapescope_adapters.postgres") / "sql"
_ENCODINGS: Final = frozenset({"UTF8", "SQL_ASCII"})
"""What takes any text: in another one a result that it has no letter for could not be stored."""
_OLDEST: Final = 16
"""The first major version of PostgreSQL that has all that is used: ``IS JSON`` came with it."""
_MADE: Final = re.compile(
    r"^CREATE (?:OR REPLACE )?(?P<kind>TABLE|FUNCTION) (?P<name>\w+)", re.MULTILINE
)
_TABLE: Final = re.compile(r"^CREATE TABLE (?P<table>\w+) \(\n(?P<body>.*?)^\);", re.M | re.S)
_CONSTRAINT: Final = re.compile(r"^    CONSTRAINT (?P<name>\w+) ", re.MULTILINE)
_INDEX: Final = re.compile(
    r"^CREATE (?:UNIQUE )?INDEX (?P<name>\w+) ON (?P<table>\w+)", re.MULTILINE
)
_TRIGGER: Final = re.compile(
    r"^CREATE TRIGGER (?P<name>\w+) [^;]*? ON (?P<table>\w+)$"
    r"[^;]*?EXECUTE FUNCTION (?P<calls>\w+)\(",
    re.MULTILINE,
)
_COLUMNS: Final = {"constraint": "constraints", "index": "indexes"}
_TAKEN: Final = (
    asyncpg.DuplicateObjectError,
    asyncpg.DuplicateSchemaError,
    asyncpg.DuplicateTableError,
    asyncpg.InvalidFunctionDefinitionError,
    asyncpg.UniqueViolationError,
    asyncpg.WrongObjectTypeError,
)
"""What the server says where a name of the schema stands for something already."""


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
    conn: Connection, mode: OpenMode, name: str, sql: Queries, connector: Connector
) -> None:
    """Make the schema, or bring it up to date.

    To be called where ``must_migrate`` says so; it is asked again under the lock, for another
    process may have migrated. Raises what ``must_migrate`` raises, ``SchemaForbidden`` where the
    role may not make tables, ``SchemaNotOwn``, and ``StoreConfigError`` where a name is taken.
    """
    met = set[str]()
    while True:
        try:
            async with conn.transaction(isolation="read_committed"):
                await _migrate(conn, mode, name, sql, connector)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SchemaForbidden(connector.address.schema, str(error)) from error
        except _TAKEN as error:
            # By another process, perhaps, that has committed since: the next look finds its tables.
            taken = " ".join(str(error).split()).rstrip(".")
            if taken in met:
                raise StoreConfigError(
                    f"The store {name} cannot be set up in schema {connector.address.schema!r}, "
                    f"where something that is not tapescope's has a name of its own: {taken}. Name "
                    "another schema in the store's URL, with ?schema=, or rename what is there."
                ) from error
            met.add(taken)
        else:
            return


async def _migrate(
    conn: Connection, mode: OpenMode, name: str, sql: Queries, connector: Connector
) -> None:
    """One try. Two that make the same schema meet at its name, in the server's own catalog."""
    schema, adopt = connector.address.schema, connector.address.adopts_schema
    await conn.execute(
        "SET LOCAL lock_timeout = '60s'; "  # another store may be migrating
        f"SET LOCAL idle_in_transaction_session_timeout = {connector.longest_pause}"
    )
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


async def find_schema_faults(
    conn: Connection, schema: str, sql: Queries, patience: float
) -> list[str]:
    """What of the schema is not what the migrations make, in words.

    Triggers of others on our tables, and what of ours is gone, switched off or changed. Their
    tables, indexes and functions are no matter. Nothing is said of an older or a newer version.
    """
    if await conn.fetchval(sql["read_version"], timeout=patience) != max(read_migrations()):
        return []
    row = await conn.fetchrow(sql["read_schema"], schema, timeout=patience)
    if row is None:
        return []
    made = _read_made()
    faults: list[str] = []
    triggers: dict[tuple[str, str], tuple[str, bool]] = {
        (table, name): (function, on) for table, name, function, on in map(decode, row["triggers"])
    }
    for (table, name), function in made.triggers.items():
        calls, on = triggers.pop((table, name), ("", False))
        if not calls:
            faults.append(f"the trigger {name} on {table} is gone")
        elif not on:
            faults.append(f"the trigger {name} on {table} is switched off")
        elif calls != function:
            faults.append(f"the trigger {name} on {table} calls {calls}")
    faults += (
        f"the trigger {name} on {table} is not of the migrations"
        for table, name in triggers
        if list_made().get(table) == "TABLE"
    )
    for kind, wanted in (("constraint", made.constraints), ("index", made.indexes)):
        found = {tuple(decode(text)) for text in row[_COLUMNS[kind]]}
        faults += (f"the {kind} {name} on {table} is gone" for table, name in wanted - found)
    bodies: dict[str, list[str]] = {}
    for name, body in map(decode, row["functions"]):  # one of other arguments is an older version's
        bodies.setdefault(name, []).append(body)
    for name, text in made.functions.items():
        if name not in bodies:
            faults.append(f"the function {name} is gone")
        elif not any(body in text for body in bodies[name]):
            faults.append(f"the function {name} is not as the migrations make it")
    return ["; ".join(sorted(faults))] if faults else []


class _Made(NamedTuple):
    """What the migrations make; each name with its table."""

    triggers: Mapping[tuple[str, str], str]
    """With the function that it calls."""
    constraints: Set[tuple[str, str]]
    indexes: Set[tuple[str, str]]
    functions: Mapping[str, str]
    """With the whole text that makes it."""


@cache
def _read_made() -> _Made:
    """From ``schema.sql``, which a database that the migrations made has told."""
    text = (_SQL / "schema.sql").read_text(encoding="utf-8")
    tables = {found["table"]: found["body"] for found in _TABLE.finditer(text)}
    return _Made(
        {(found["table"], found["name"]): found["calls"] for found in _TRIGGER.finditer(text)},
        {
            (table, found["name"])
            for table, body in tables.items()
            for found in _CONSTRAINT.finditer(body)
        },
        {(found["table"], found["name"]) for found in _INDEX.finditer(text)},
        {
            entry.name.removesuffix(".sql"): entry.read_text(encoding="utf-8")
            for entry in (_SQL / "functions").iterdir()
        },
    )


class SchemaGuard:
    """Says whether the schema of a store is what its functions and its writes need.

    ``look`` is asked when the store is opened, and at each heartbeat. What it finds missing later
    is measured by what was there at first.
    """

    def __init__(self, schema: str, name: str) -> None:
        self._schema, self._name = schema, name
        self._seen: frozenset[str] = frozenset()

    def require_version(self, conn: Connection) -> None:
        """Judge the server, before it is asked what it may not understand.

        Raises ``StoreConfigError``.
        """
        if (found := conn.get_server_version().major) < _OLDEST:
            raise StoreConfigError(
                f"The store {self._name} is on PostgreSQL {found}, and needs PostgreSQL {_OLDEST} "
                "or newer. Have the server upgraded, or use another."
            )

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
