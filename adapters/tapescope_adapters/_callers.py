"""Connections of a caller's: the driver's own, in whatever SQLAlchemy and Django have around it.

Neither is imported here, nor is a driver: who hands in a connection of one has imported it.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Final

from tapescope.errors import ConnectionRefused

__all__ = ["advise", "find_blocking", "find_waiting", "require_blocking", "require_waiting"]

_ADVICE: Final = {
    "asyncpg": "Submit inside 'async with connection.transaction()'.",
    "aiosqlite": "Execute 'BEGIN IMMEDIATE' first, and commit at the end.",
    "sqlite3": "Execute 'BEGIN IMMEDIATE' first, and commit at the end.",
    "psycopg": "Submit inside 'with connection.transaction()'.",
    "sqlalchemy": "Leave its isolation level as it was: AUTOCOMMIT has no transaction.",
    "django": "Submit inside 'with transaction.atomic()'.",
}
"""How to begin a transaction, by the package of a connection."""


def advise(connection: object) -> str:
    """How to have this connection in a transaction."""
    if _is_django(connection):
        return _ADVICE["django"]
    packages = {kind.__module__.partition(".")[0] for kind in type(connection).__mro__}
    return next((text for name, text in _ADVICE.items() if name in packages), "Begin one.")


def find_blocking(connection: object) -> Any:
    """The driver's connection in one whose calls block; it is a part of a transaction by now.

    SQLAlchemy begins its own here, as with any first statement. Raises ``ConnectionRefused``, and
    the driver's errors.
    """
    if _is_django(connection):
        return _open_django(connection)
    if _is_any(connection, "sqlalchemy.orm", "Session", "scoped_session"):
        return find_blocking(_ask(connection, "connection"))
    if _is_any(connection, "sqlalchemy.engine", "Connection"):
        sent: Any = _ask(connection, "exec_driver_sql", "SELECT 1")
        sent.close()
        given: Any = connection
        return given.connection.driver_connection
    return connection


async def find_waiting(connection: object) -> Any:
    """The same for one whose calls are awaited."""
    found: Any = connection
    try:
        if _is_any(connection, "sqlalchemy.ext.asyncio", "AsyncSession", "async_scoped_session"):
            found = await found.connection()
        if _is_any(found, "sqlalchemy.ext.asyncio", "AsyncConnection"):
            await found.exec_driver_sql("SELECT 1")
            found = (await found.get_raw_connection()).driver_connection
    except _alchemy_errors() as error:
        raise _unwrap(error) from error
    return found


def require_waiting(connection: object) -> None:
    """Raises ``ConnectionRefused`` for a connection that would block the event loop."""
    if (
        _is_django(connection)
        or isinstance(connection, sqlite3.Connection)
        or _is_any(connection, "psycopg", "Connection")
        or _is_any(connection, "sqlalchemy.orm", "Session", "scoped_session")
        or _is_any(connection, "sqlalchemy.engine", "Connection")
    ):
        raise ConnectionRefused(
            "its calls would block the event loop",
            "Take one that is awaited, or submit with tapescope.sync from a thread.",
        )


def require_blocking(connection: object) -> None:
    """Raises ``ConnectionRefused`` for a connection that belongs to an event loop."""
    if (
        _is_any(connection, "asyncpg", "Connection")
        or _is_any(connection, "asyncpg.pool", "PoolConnectionProxy")
        or _is_any(connection, "aiosqlite", "Connection")
        or _is_any(connection, "psycopg", "AsyncConnection")
        or _is_any(connection, "sqlalchemy.ext.asyncio", "AsyncSession", "async_scoped_session")
        or _is_any(connection, "sqlalchemy.ext.asyncio", "AsyncConnection")
    ):
        raise ConnectionRefused(
            "it belongs to an event loop", "Await the submit of a TaskManager there."
        )


def _is_any(connection: object, module: str, *names: str) -> bool:
    """Whether it is of one of these classes; a module that is not loaded has made none."""
    loaded = sys.modules.get(module)
    return any(isinstance(connection, getattr(loaded, name, ())) for name in names)


def _is_django(connection: object) -> bool:
    """Also a proxy such as ``django.db.connection``."""
    return "django.db" in sys.modules and hasattr(connection, "ensure_connection")


def _open_django(connection: Any) -> Any:
    if connection.needs_rollback:
        raise ConnectionRefused(
            "an earlier statement of its transaction has failed", "Roll back, and begin anew."
        )
    connection.ensure_connection()
    return connection.connection


def _ask(connection: Any, method: str, *arguments: object) -> Any:
    try:
        return getattr(connection, method)(*arguments)
    except _alchemy_errors() as error:
        raise _unwrap(error) from error


def _alchemy_errors() -> tuple[type[Exception], ...]:
    kind: type[Exception] | None = getattr(
        sys.modules.get("sqlalchemy.exc"), "SQLAlchemyError", None
    )
    return () if kind is None else (kind,)


def _unwrap(error: Exception) -> Exception:
    """The driver's error in one of SQLAlchemy's; what is SQLAlchemy's own is a refusal."""
    driver: BaseException | None = getattr(error, "orig", None)
    if driver is not None and isinstance(driver.__cause__, Exception):
        driver = driver.__cause__  # around that of an awaited driver its adapter has one of its own
    if isinstance(driver, Exception):
        return driver
    return ConnectionRefused(
        f"SQLAlchemy says: {str(error).partition(chr(10))[0]}", "Roll back, or take another."
    )
