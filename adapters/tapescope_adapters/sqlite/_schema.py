"""Numbered migrations, applied under the write lock."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import Final

from tapescope.errors import SchemaTooOld, StoreConfigError
from tapescope.store import OpenMode, SchemaVersions, must_migrate
from tapescope_adapters._sql import find_compatible, load_migrations
from tapescope_adapters.sqlite._connection import write_transaction

__all__ = ["check_owner", "find_schema_faults", "migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.sqlite") / "sql"


@cache
def read_migrations() -> Mapping[int, str]:
    """The scripts, by number; those of the version that this process began with."""
    return load_migrations(_SQL)


def read_versions(conn: sqlite3.Connection) -> SchemaVersions:
    """The version of the schema; 0 where the file has none of our tables. Changes nothing.

    Raises ``StoreConfigError`` where a view has the name of a table: to read it may never end.
    """
    known = max(read_migrations())
    _refuse_views(conn)
    if not _has_tables(conn):
        return SchemaVersions(0, known)
    found = _version(conn)
    return SchemaVersions(found, known, found <= known or _is_compatible(conn, found, known))


def find_schema_faults(conn: sqlite3.Connection) -> list[str]:
    """What of the schema is not what the migrations up to its version make, in words.

    Triggers of others on our tables, and what of ours is gone or changed. Their tables, views and
    indexes are no matter. Nothing is said of a newer version's schema.
    """
    steps, version = read_migrations(), _version(conn)
    if version not in steps:
        return []
    expected = _describe_made(tuple(steps[number] for number in range(1, version + 1)))
    found = _describe(conn)
    ours = {name for kind, name in expected if kind == "table"}
    faults: list[str] = []
    for (kind, name), (_, text) in expected.items():
        if (kind, name) not in found:
            faults.append(f"the {kind} {name} is gone")
        elif found[kind, name][1] != text:
            faults.append(f"the {kind} {name} is not as the migrations make it")
    for (kind, name), (table, _) in found.items():
        if kind == "trigger" and table in ours and (kind, name) not in expected:
            faults.append(f"the trigger {name} on {table} is not of the migrations")
    return ["; ".join(faults)] if faults else []


@cache
def _describe_made(scripts: tuple[str, ...]) -> Mapping[tuple[str, str], tuple[str, str]]:
    """What these migrations make, as ``_describe`` tells it."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for script in scripts:
            for statement in _statements(script):
                conn.execute(statement)
        return _describe(conn)


def _describe(conn: sqlite3.Connection) -> dict[tuple[str, str], tuple[str, str]]:
    """By type and name, the table and the text of each object that has one."""
    query = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    return {
        (kind, name): (table, text)
        for kind, name, table, text in conn.execute(query)
        if not str(name).startswith("sqlite_")  # a broken one is not text
    }


def _refuse_views(conn: sqlite3.Connection) -> None:
    views = conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view'").fetchall()
    if not views:
        return  # what the migrations make takes longer to find out than to open the file
    steps = read_migrations()
    tables = {
        name
        for kind, name in _describe_made(tuple(steps[number] for number in sorted(steps)))
        if kind == "table"
    }
    for (name,) in views:
        if str(name).lower() in tables:
            raise StoreConfigError(
                f"The SQLite file is not a store of tapescope: {name!r} is a view, and not a table."
                " Name another file, or restore a backup."
            )


def check_owner(conn: sqlite3.Connection) -> None:
    """Raises ``StoreConfigError`` for a file whose ``user_version`` another program keeps."""
    if (version := _version(conn)) and not _has_tables(conn):
        raise StoreConfigError(
            f"The SQLite file has the user_version {version} of another program, and tapescope "
            "keeps its own there. Name another file."
        )


def migrate(conn: sqlite3.Connection, mode: OpenMode, name: str) -> None:
    """Make the schema, or bring it up to date. The version is the file's own ``user_version``.

    To be called where ``must_migrate`` says so; it is asked again under the lock, for another
    process may have migrated. Raises what ``must_migrate`` raises, and ``SchemaTooOld`` also where
    ``mode`` wants no other process to have the file open and one has. After an error the connection
    is to be closed.
    """
    steps = read_migrations()
    versions = read_versions(conn)
    if alone := mode is OpenMode.MIGRATE_ALONE and versions.found > 0:
        _keep_others_out(conn, versions, name)
    with write_transaction(conn):
        versions = read_versions(conn)
        if must_migrate(mode, versions, name):
            for number in range(versions.found + 1, versions.known + 1):
                for statement in _statements(steps[number]):
                    conn.execute(statement)
                conn.execute(f"PRAGMA user_version = {number}")
                row = (number, find_compatible(number, steps[number]))
                conn.execute("INSERT INTO schema_compatibility VALUES (?, ?)", row)
    if alone:
        conn.execute("PRAGMA locking_mode = NORMAL").fetchone()
        conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()  # lets go of the lock


def _keep_others_out(conn: sqlite3.Connection, versions: SchemaVersions, name: str) -> None:
    """Have the next transaction take the lock that every open connection shares.

    Raises ``SchemaTooOld`` where another connection is open.
    """
    conn.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    (patience,) = conn.execute("PRAGMA busy_timeout").fetchone()
    conn.execute("PRAGMA busy_timeout = 0")
    try:
        with write_transaction(conn):
            pass
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        raise SchemaTooOld(versions.found, versions.known, name) from error
    conn.execute(f"PRAGMA busy_timeout = {patience}")


def _has_tables(conn: sqlite3.Connection) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_compatibility'"
    return bool(conn.execute(query).fetchone()[0])


def _is_compatible(conn: sqlite3.Connection, found: int, known: int) -> bool:
    query = "SELECT max(version), max(compatible_from) FROM schema_compatibility"
    last, oldest = conn.execute(query).fetchone()
    return bool(last == found and oldest <= known)


def _version(conn: sqlite3.Connection) -> int:
    return int(conn.execute("PRAGMA user_version").fetchone()[0])


def _statements(script: str) -> list[str]:
    """Split a script; ``executescript`` would commit the transaction that must hold it all."""
    found: list[str] = []
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return found
