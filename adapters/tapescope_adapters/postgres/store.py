"""``PostgresStore``: the port on one schema of a PostgreSQL database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from tapescope.errors import BadSetting
from tapescope.store import Clock, OpenMode, StoreLimits, TaskStore, check_seconds
from tapescope_adapters.postgres._backend import PostgresBackend
from tapescope_adapters.postgres._caller_pool import PoolConnector
from tapescope_adapters.postgres._connection import Connector
from tapescope_adapters.postgres._url import Address, parse_url
from tapescope_telemetry import Telemetry

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresStore"]


class PostgresStore(TaskStore):
    """A store in one schema of a PostgreSQL database, which opening makes where it is missing.

    ``url`` is ``postgresql://user:password@host/database?schema=tapescope``; a Unix socket is named
    by ``?host=/folder``. ``durability="commit"`` waits until the server has a commit on disk;
    ``"relaxed"`` may lose the last commits to a crash of the server, none to one of the process.
    Behind a pooler in transaction mode the URL says so: ``pooler=transaction&listen_port=5432``.
    A ``patience`` or an ``open_mode`` in the URL goes before the setting.

    Instead of a URL an asyncpg ``pool`` of the caller's own will do, with the name of the
    ``schema``. Each call borrows a connection and leaves nothing in it; the pool is never closed.
    ``listen_url`` is where to listen for commits of other processes: the server itself, where the
    pool leads to a pooler in transaction mode. Without one a connection of the pool is kept for
    that, as long as something runs or is followed, and a blocked event loop extends no leases.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: asyncpg.Pool[asyncpg.Record] | None = None,
        schema: str | None = None,
        listen_url: str | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        durability: Literal["commit", "relaxed"] = "commit",
        open_mode: OpenMode = OpenMode.CREATE,
    ) -> None:
        if durability not in ("commit", "relaxed"):
            raise BadSetting("durability", durability, "'commit' or 'relaxed'")
        if (url is None) is (pool is None):
            raise BadSetting("pool", pool, "given instead of a URL, and one of the two")
        if url is not None and schema is not None:
            raise BadSetting("schema", schema, "in the URL: ?schema=…")
        address = Address.of_pool(schema or "tapescope") if url is None else parse_url(url)
        patience = check_seconds("patience", address.patience or patience, over_zero=True)
        if address.tape_events is not None:
            limits = replace(limits or StoreLimits(), tape_events=address.tape_events)
        relaxed = durability == "relaxed"
        connector = (
            Connector(address, patience=patience, relaxed=relaxed)
            if pool is None
            else PoolConnector(pool, address, patience=patience, relaxed=relaxed)
        )
        listens_at = address.listens_at
        if listen_url is not None:
            listens_at = replace(parse_url(listen_url), schema=address.schema)
        listening = (
            connector
            if listens_at is None
            else Connector(listens_at, patience=patience, relaxed=relaxed)
        )
        super().__init__(
            PostgresBackend(connector, listening, name=address.name),
            telemetry=telemetry,
            clock=clock,
            limits=limits,
            patience=patience,
            open_mode=address.open_mode or open_mode,
        )
