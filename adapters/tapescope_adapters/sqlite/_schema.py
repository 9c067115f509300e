"""Numbered migrations, applied under the write lock."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Final

from tapescope.errors import SchemaTooNew, SchemaTooOld, StoreConfigError
from tapescope.store import SchemaVersions
from tapescope_adapters._sql import find_compatible, load_migrations

__all__ = ["migrate", "read_migrations", "read_versions"]

_SQL: Final = files("tapescope_adapters.sqlite") / "sql"


def read_migrations() -> dict[int, str]:
    """The scripts, by number."""
    return load_migrations(_SQL)


def migrate(conn: sqlite3.Connection, *, auto: bool) -> None:
    """Bring the schema up to date. The version is the file's own ``user_version``.

    A newer one is left as it is, where its migrations say that this code may go on.

    Raises ``SchemaTooNew``, and with ``auto`` off ``SchemaTooOld``.
    """
    if sqlite3.sqlite_version_info < (3, 38):
        raise StoreConfigError(
            f"SQLite {sqlite3.sqlite_version} is too old: 3.38 or newer is needed. "
            "Use a newer Python build, or the PostgreSQL store."
        )
    steps = read_migrations()
    known = max(steps)
    found = _version(conn)
    if found > known and not _is_compatible(conn, found, known):
        raise SchemaTooNew(found, known)
    if found >= known:
        return
    if not auto:
        raise SchemaTooOld(found, known)
    conn.execute("BEGIN IMMEDIATE")
    try:
        for number in range(_version(conn) + 1, known + 1):  # read again: another may have migrated
            for statement in _statements(steps[number]):
                conn.execute(statement)
            conn.execute(f"PRAGMA user_version = {number}")
            row = (number, find_compatible(number, steps[number]))
            conn.execute("INSERT INTO schema_compatibility VALUES (?, ?)", row)
        conn.execute("COMMIT")
    finally:
        if conn.in_transaction:
            conn.execute("ROLLBACK")


def read_versions(path: str) -> SchemaVersions:
    """The version of the file, which is neither made nor changed. Raises ``sqlite3.Error``."""
    known = max(read_migrations())
    if path == ":memory:" or not Path(path).exists():
        return SchemaVersions(0, known)
    url = f"{Path(path).absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(url, uri=True)) as conn:
        found = _version(conn)
        return SchemaVersions(found, known, found <= known or _is_compatible(conn, found, known))


def _is_compatible(conn: sqlite3.Connection, found: int, known: int) -> bool:
    query = "SELECT count(*) FROM sqlite_schema WHERE name = 'schema_compatibility'"
    if not conn.execute(query).fetchone()[0]:
        return False
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
