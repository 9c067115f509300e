"""A task in the transaction of the caller's own connection to the same database."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tapescope.errors import ConnectionRefused
from tapescope.model import DEFAULT_QUEUE, LAST_TIME, Task
from tapescope.store import (
    CreateRow,
    FlushBlocked,
    FlushRefused,
    Inserted,
    LentConnection,
    StoreAway,
)
from tapescope_adapters._callers import (
    advise,
    find_blocking,
    find_waiting,
    require_blocking,
    require_waiting,
)
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._connection import DRIVER_ERRORS, as_away, is_gone, translate
from tapescope_adapters.postgres._rows import as_task

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["create_within"]

_ELSEWHERE = {"42P01", "42883", "3F000"}
"""No such table, function or schema."""
_PLACE = re.compile(r"\$(\d+)")

_Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Statement:
    text: str
    values: tuple[Any, ...]


async def create_within(
    connection: object, sql: Queries, schema: str, identity: str, row: CreateRow
) -> Inserted | Task:
    """Insert ``row`` in the transaction that ``connection`` is in.

    Every name in the queries has its schema, so the connection's ``search_path`` is its own affair;
    ``identity`` is what ``read_identity`` says of the store. Raises ``ConnectionRefused``,
    ``StoreAway``, ``FlushRefused``; after the last two the transaction can only be rolled back.
    """
    steps = _insert(sql, _say_elsewhere(schema), identity, row)
    try:
        if isinstance(connection, LentConnection):
            given = connection.connection
            require_blocking(given)
            return await connection.run(lambda: _carry_out(given, steps))
        require_waiting(connection)
        found = await find_waiting(connection)
        if isinstance(found, asyncpg.Connection | PoolConnectionProxy):
            return await _carry_out_asyncpg(connection, cast("Connection", found), steps)
        _check_psycopg(connection, found, "AsyncConnection")
        return await _carry_out_psycopg(found, steps)
    except ConnectionRefused:
        raise
    except Exception as error:
        met = _translate(error, schema)
        if met is None:
            raise
        raise met from error


def _insert(
    sql: Queries, elsewhere: ConnectionRefused, identity: str, row: CreateRow
) -> Generator[_Statement, _Rows, Inserted | Task]:
    """The statements, whichever driver carries them out; each is answered with its rows."""
    create = sql["create_within"]
    values: tuple[object, ...] = (*row[:8], identity)
    late = {
        "priority pg_catalog.int2": row.priority or None,
        "tags pg_catalog.text": row.tags,
        "parent_id pg_catalog.uuid": row.parent_id,
        "cancel_with_parent pg_catalog.bool": row.cancel_with_parent or None,
        "unique_key pg_catalog.text": row.unique_key,
        "concurrency_key pg_catalog.text": row.concurrency_key,
        "engine pg_catalog.text": row.engine or None,
        "expires_in pg_catalog.int8": row.expires_in,
        "queue pg_catalog.text": None if row.queue == DEFAULT_QUEUE else row.queue,
    }
    if row.concurrency_key is not None:  # it is born parked
        due = "coalesce($8::bigint, c.now)"
        create = create.replace(due, str(LAST_TIME)).replace("/*late*/", ", parked_at /*late*/")
        create = create.replace("/*its late*/", f", {due} /*its late*/")
    for column, value in late.items():
        if value is not None:  # else its column needs no right
            name, kind = column.split()
            values = (*values, value)
            create = create.replace("/*late*/", f", {name} /*late*/")
            place = f"CAST(${len(values)} AS {kind})"
            create = create.replace("/*its late*/", f", {place} /*its late*/")
    while True:
        rows = yield _Statement(create, values)
        if not rows or not rows[0]["ours"]:
            raise elsewhere
        if (made := rows[0])["id"] is not None:
            return Inserted(made["id"], made["created_at"])
        names = (row.task_id, row.op, row.idempotency_key, row.unique_key)
        rows = yield _Statement(sql["find_standing"], names)
        if rows:  # else it was deleted between the two, or has ended
            return as_task(rows[0])


# --- the drivers ----------------------------------------------------------------------------------


async def _carry_out_asyncpg(
    given: object, found: Connection, steps: Generator[_Statement, _Rows, Inserted | Task]
) -> Inserted | Task:
    if is_gone(found):
        raise ConnectionRefused("it is closed, or back in its pool", "Take another.")
    if not found.is_in_transaction():
        raise ConnectionRefused("it is not in a transaction", advise(given))
    statement = next(steps)
    while True:
        rows = cast("_Rows", await found.fetch(statement.text, *statement.values))
        try:
            statement = steps.send(rows)
        except StopIteration as end:
            return cast("Inserted | Task", end.value)


async def _carry_out_psycopg(
    found: Any, steps: Generator[_Statement, _Rows, Inserted | Task]
) -> Inserted | Task:
    async with found.cursor(row_factory=sys.modules["psycopg"].rows.dict_row) as cursor:
        statement = next(steps)
        while True:
            await cursor.execute(*_in_psycopg(statement))
            try:
                statement = steps.send(await cursor.fetchall())
            except StopIteration as end:
                return cast("Inserted | Task", end.value)


def _carry_out(
    given: object, steps: Generator[_Statement, _Rows, Inserted | Task]
) -> Inserted | Task:
    """In the caller's thread."""
    found = find_blocking(given)
    _check_psycopg(given, found, "Connection")
    with found.cursor(row_factory=sys.modules["psycopg"].rows.dict_row) as cursor:
        statement = next(steps)
        while True:
            cursor.execute(*_in_psycopg(statement))
            try:
                statement = steps.send(cursor.fetchall())
            except StopIteration as end:
                return cast("Inserted | Task", end.value)


def _check_psycopg(given: object, found: Any, name: str) -> None:
    """Raises ``ConnectionRefused`` unless it is psycopg's, and in a transaction, or begins one with
    its first statement, as its driver does unless it is told otherwise."""
    psycopg: Any = sys.modules.get("psycopg")
    is_its = isinstance(found, getattr(psycopg, name, ()))
    if not is_its:
        raise ConnectionRefused(
            "a PostgreSQL store needs a connection of asyncpg or psycopg 3, or one of SQLAlchemy "
            f"or Django that has such a one; not {type(found).__name__!r}",
            "Connect to the store's own database.",
        )
    if found.closed:
        raise ConnectionRefused("it is closed", "Take another.")
    status = found.info.transaction_status
    if status == psycopg.pq.TransactionStatus.IDLE and found.autocommit:
        raise ConnectionRefused("it is not in a transaction", advise(given))


@cache
def _rewrite(text: str) -> str:
    return _PLACE.sub(r"%(p\1)s", text.replace("%", "%%"))


def _in_psycopg(statement: _Statement) -> tuple[str, dict[str, Any]]:
    values = {f"p{number}": value for number, value in enumerate(statement.values, 1)}
    return _rewrite(statement.text), values


# --- what went wrong ------------------------------------------------------------------------------


def _say_elsewhere(schema: str) -> ConnectionRefused:
    return ConnectionRefused(
        f"the store's schema {schema!r} is not in its database, or is another store's there",
        "Connect to the store's own database.",
    )


def _translate(error: Exception, schema: str) -> Exception | None:
    """The port's error for one of a driver's; ``None`` for what is not a driver's."""
    theirs: Any = getattr(sys.modules.get("psycopg"), "Error", ())
    code = str(getattr(error, "sqlstate", None) or "")
    if isinstance(error, theirs):
        if not code:
            lost = isinstance(error, sys.modules["psycopg"].OperationalError)
            return StoreAway(str(error)) if lost else FlushRefused(str(error))
        error = asyncpg.PostgresError.new({"C": code, "M": str(error)})
    if not isinstance(error, DRIVER_ERRORS):
        return None
    if code in _ELSEWHERE:
        return _say_elsewhere(schema)
    if code == "25P02":
        return ConnectionRefused(
            "an earlier statement of its transaction has failed", "Roll back, and begin anew."
        )
    if code == "25006":
        return ConnectionRefused(
            "its transaction is read-only, or its server is a standby",
            "Begin one that may write, on the primary server.",
        )
    if code == "42501":
        return ConnectionRefused(
            f"its user may not write to schema {schema!r}",
            "Grant what 'tapescope migrate --print-grants submitter' prints.",
        )
    met = translate(error, sent=False)
    # A lock that could not be had dooms this transaction, and perhaps not the next one.
    return as_away(met) if isinstance(met, FlushBlocked) else met
