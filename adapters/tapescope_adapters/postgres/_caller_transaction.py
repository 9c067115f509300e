"""A task in the transaction of the caller's own connection to the same database."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from tapescope.errors import ConnectionRefused
from tapescope.model import Task
from tapescope.store import CreateRow, FlushBlocked, Inserted
from tapescope_adapters._sql import Queries
from tapescope_adapters.postgres._connection import DRIVER_ERRORS, as_away, is_gone, translate
from tapescope_adapters.postgres._rows import as_task

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["create_within"]


async def create_within(
    connection: object, sql: Queries, schema: str, identity: str, row: CreateRow
) -> Inserted | Task:
    """Insert ``row`` in the transaction that ``connection`` is in.

    Every name in the queries has its schema, so the connection's ``search_path`` is its own affair;
    ``identity`` is what ``read_identity`` says of the store. Raises ``ConnectionRefused``,
    ``StoreAway``, ``FlushRefused``; after the last two the transaction can only be rolled back.
    """
    if not isinstance(connection, asyncpg.Connection | PoolConnectionProxy):
        raise ConnectionRefused(
            f"a PostgreSQL store needs an asyncpg connection, not {type(connection).__name__!r}",
            "Connect to the store's own database.",
        )
    caller = cast("Connection", connection)
    elsewhere = ConnectionRefused(
        f"the store's schema {schema!r} is not in its database, or is another store's there",
        "Connect to the store's own database.",
    )
    try:
        if is_gone(caller):
            raise ConnectionRefused("it is closed, or back in its pool", "Take another.")
        if not caller.is_in_transaction():
            raise ConnectionRefused(
                "it is not in a transaction", "Submit inside 'async with connection.transaction()'."
            )
        while True:
            made = await caller.fetchrow(sql["create_within"], *row[:8], identity)
            if made is None or not made["ours"]:
                raise elsewhere
            if made["id"] is not None:
                return Inserted(made["id"], made["created_at"])
            found = await caller.fetchrow(
                sql["find_standing"], row.task_id, row.op, row.idempotency_key
            )
            if found is not None:  # else it was deleted between the two
                return as_task(found)
    except (
        asyncpg.UndefinedTableError,
        asyncpg.UndefinedFunctionError,
        asyncpg.InvalidSchemaNameError,
    ) as error:
        raise elsewhere from error
    except asyncpg.InFailedSQLTransactionError as error:
        raise ConnectionRefused(
            "an earlier statement of its transaction has failed", "Roll back, and begin anew."
        ) from error
    except asyncpg.ReadOnlySQLTransactionError as error:
        raise ConnectionRefused(
            "its transaction is read-only, or its server is a standby",
            "Begin one that may write, on the primary server.",
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConnectionRefused(
            f"its user may not write to schema {schema!r}",
            "Grant what 'tapescope migrate --print-grants submitter' prints.",
        ) from error
    except DRIVER_ERRORS as error:
        met = translate(error, sent=False)
        # A lock that could not be had dooms this transaction, and perhaps not the next one.
        raise as_away(met) if isinstance(met, FlushBlocked) else met from error
