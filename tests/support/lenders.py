"""Callers who lend a connection, one for each library that a task can be submitted through."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    closing,
    contextmanager,
)
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import aiosqlite
import asyncpg
import psycopg
from psycopg.rows import tuple_row
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tests.support.django_project import django, django_database

__all__ = [
    "BLOCKING",
    "WAITING",
    "Lender",
    "Undone",
    "WaitingLender",
    "dsn_of",
    "make_engine",
    "path_of",
]


class Undone(Exception):
    """What a caller raises to have a transaction or a savepoint rolled back."""


@dataclass(frozen=True)
class Lender:
    """A caller whose calls block."""

    connection: Any
    execute: Callable[[str], object]
    transaction: Callable[[], AbstractContextManager[object]]
    """Commits at the end, and rolls back where ``Undone`` passes."""
    savepoint: Callable[[], AbstractContextManager[object]]
    """The same, within a transaction."""


@dataclass(frozen=True)
class WaitingLender:
    """A caller whose calls are awaited."""

    connection: Any
    execute: Callable[[str], Any]
    transaction: Callable[[], AbstractAsyncContextManager[object]]
    savepoint: Callable[[], AbstractAsyncContextManager[object]]


def path_of(url: str) -> str:
    """The file of a SQLite store."""
    return unquote(url.removeprefix("sqlite:///"))


def dsn_of(url: str) -> str:
    """The database of a PostgreSQL store."""
    return url.partition("&schema=")[0]


@contextmanager
def _committing(connection: Any) -> Generator[None]:
    """The transaction that a driver begins by itself."""
    try:
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


@contextmanager
def _keeping(execute: Callable[[str], object]) -> Generator[None]:
    execute("SAVEPOINT here")
    try:
        yield
    except BaseException:
        execute("ROLLBACK TO SAVEPOINT here")
        raise
    execute("RELEASE SAVEPOINT here")


@asynccontextmanager
async def _committing_there(connection: Any) -> AsyncGenerator[None]:
    try:
        yield
    except BaseException:
        await connection.rollback()
        raise
    await connection.commit()


@asynccontextmanager
async def _keeping_there(execute: Callable[[str], Any]) -> AsyncGenerator[None]:
    await execute("SAVEPOINT here")
    try:
        yield
    except BaseException:
        await execute("ROLLBACK TO SAVEPOINT here")
        raise
    await execute("RELEASE SAVEPOINT here")


# --- calls that block -----------------------------------------------------------------------------


@contextmanager
def _sqlite3(url: str) -> Generator[Lender]:
    with closing(sqlite3.connect(path_of(url))) as raw:
        raw.row_factory = sqlite3.Row
        yield Lender(raw, raw.execute, lambda: _committing(raw), lambda: _keeping(raw.execute))


@contextmanager
def _psycopg(url: str) -> Generator[Lender]:
    with psycopg.connect(dsn_of(url), row_factory=tuple_row) as raw:

        def execute(sql: str) -> None:
            raw.execute(sql.encode())

        yield Lender(raw, execute, lambda: _committing(raw), raw.transaction)


@contextmanager
def _psycopg_autocommit(url: str) -> Generator[Lender]:
    with psycopg.connect(dsn_of(url), autocommit=True) as raw:

        def execute(sql: str) -> None:
            raw.execute(sql.encode())

        yield Lender(raw, execute, raw.transaction, raw.transaction)


def make_engine(url: str) -> Any:
    """SQLAlchemy's engine on the database of a store."""
    if url.startswith("sqlite"):
        return create_engine(f"sqlite:///{path_of(url)}", poolclass=NullPool)
    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(dsn_of(url)), poolclass=NullPool
    )


@contextmanager
def _alchemy_connection(url: str) -> Generator[Lender]:
    with make_engine(url).connect() as connection:
        yield Lender(
            connection,
            lambda sql: connection.execute(text(sql)),
            lambda: _committing(connection),
            connection.begin_nested,
        )


@contextmanager
def _alchemy_session(url: str) -> Generator[Lender]:
    with Session(make_engine(url)) as session:
        yield Lender(
            session,
            lambda sql: session.execute(text(sql)),
            lambda: _committing(session),
            session.begin_nested,
        )


@contextmanager
def _alchemy_scoped(url: str) -> Generator[Lender]:
    session = scoped_session(sessionmaker(make_engine(url)))
    yield Lender(
        session,
        lambda sql: session.execute(text(sql)),
        lambda: _committing(session),
        session.begin_nested,
    )
    session.remove()


@contextmanager
def _django(url: str) -> Generator[Lender]:
    transaction = django("db.transaction")
    with django_database(url, "lender") as connection:

        def execute(sql: str) -> None:
            with connection.cursor() as cursor:
                cursor.execute(sql)

        def atomic() -> AbstractContextManager[object]:
            block: AbstractContextManager[object] = transaction.atomic(using="lender")
            return block

        yield Lender(connection, execute, atomic, atomic)


# --- calls that are awaited -----------------------------------------------------------------------


@asynccontextmanager
async def _aiosqlite(url: str) -> AsyncGenerator[WaitingLender]:
    async with aiosqlite.connect(path_of(url)) as raw:
        yield WaitingLender(
            raw, raw.execute, lambda: _committing_there(raw), lambda: _keeping_there(raw.execute)
        )


@asynccontextmanager
async def _asyncpg(url: str) -> AsyncGenerator[WaitingLender]:
    raw: Any = await asyncpg.connect(dsn_of(url))
    yield WaitingLender(raw, raw.execute, raw.transaction, raw.transaction)
    await raw.close()


@asynccontextmanager
async def _psycopg_there(url: str) -> AsyncGenerator[WaitingLender]:
    async with await psycopg.AsyncConnection.connect(dsn_of(url)) as raw:

        async def execute(sql: str) -> None:
            await raw.execute(sql.encode())

        yield WaitingLender(raw, execute, lambda: _committing_there(raw), raw.transaction)


def _alchemy_there(driver: str, kind: type[Any]) -> Callable[[str], Any]:
    async def connect(url: str) -> Any:
        if driver == "asyncpg":
            return await asyncpg.connect(dsn_of(url))
        return await psycopg.AsyncConnection.connect(dsn_of(url))

    @asynccontextmanager
    async def lend(url: str) -> AsyncGenerator[WaitingLender]:
        if driver == "aiosqlite":
            engine = create_async_engine(f"sqlite+aiosqlite:///{path_of(url)}", poolclass=NullPool)
        else:
            engine = create_async_engine(
                f"postgresql+{driver}://", async_creator=lambda: connect(url), poolclass=NullPool
            )
        async with kind(engine) as connection:
            yield WaitingLender(
                connection,
                lambda sql: connection.execute(text(sql)),
                lambda: _committing_there(connection),
                connection.begin_nested,
            )
        await engine.dispose()

    return lend


BLOCKING: Mapping[str, tuple[str, Callable[[str], AbstractContextManager[Lender]]]] = {
    "sqlite3": ("sqlite", _sqlite3),
    "SQLAlchemy connection, sqlite3": ("sqlite", _alchemy_connection),
    "SQLAlchemy session, sqlite3": ("sqlite", _alchemy_session),
    "Django, sqlite3": ("sqlite", _django),
    "psycopg": ("postgres", _psycopg),
    "psycopg, autocommit": ("postgres", _psycopg_autocommit),
    "SQLAlchemy connection, psycopg": ("postgres", _alchemy_connection),
    "SQLAlchemy session, psycopg": ("postgres", _alchemy_session),
    "SQLAlchemy scoped session, psycopg": ("postgres", _alchemy_scoped),
    "Django, psycopg": ("postgres", _django),
}
"""By its name, the database of a caller, and the caller."""

WAITING: Mapping[str, tuple[str, Callable[[str], AbstractAsyncContextManager[WaitingLender]]]] = {
    "aiosqlite": ("sqlite", _aiosqlite),
    "SQLAlchemy connection, aiosqlite": ("sqlite", _alchemy_there("aiosqlite", AsyncConnection)),
    "SQLAlchemy session, aiosqlite": ("sqlite", _alchemy_there("aiosqlite", AsyncSession)),
    "asyncpg": ("postgres", _asyncpg),
    "psycopg": ("postgres", _psycopg_there),
    "SQLAlchemy connection, asyncpg": ("postgres", _alchemy_there("asyncpg", AsyncConnection)),
    "SQLAlchemy session, asyncpg": ("postgres", _alchemy_there("asyncpg", AsyncSession)),
    "SQLAlchemy session, psycopg": ("postgres", _alchemy_there("psycopg", AsyncSession)),
}
"""The same of those whose calls are awaited."""
