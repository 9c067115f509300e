"""``PostgresStore``: the port on one schema of a PostgreSQL database, for many hosts."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from tapescope._clock import Clock
from tapescope._due import DueOrder, DueRow
from tapescope._giving_up import HeldLease, RescuedRow, RescueOrder, RescueResult
from tapescope._json import decode
from tapescope._turns import Chore, Turn
from tapescope.audit import AuditPage
from tapescope.errors import BadSetting, StoreConfigError
from tapescope.flush import (
    AttemptState,
    CreateRow,
    FateUnknown,
    Flush,
    FlushAnswer,
    FlushRefused,
    Inserted,
    StoreAway,
)
from tapescope.ops import KnownOp
from tapescope.primitives import LeaseKeeper
from tapescope.repair import Mended, Repair
from tapescope.store import StoreLimits, TaskStore
from tapescope.tape import QuarantinePage, TapePage
from tapescope.tasks import CancelRequest, Task, TaskStatus
from tapescope.upkeep import DueDrop, DueTask, SchemaVersions
from tapescope_adapters.postgres._address import Address, parse_url
from tapescope_adapters.postgres._claims import Claims
from tapescope_adapters.postgres._connection import (
    DRIVER_ERRORS,
    Connector,
    Lane,
    Reader,
    drop,
    translate,
)
from tapescope_adapters.postgres._flush import VOID, arguments, read_answer
from tapescope_adapters.postgres._keeper import PostgresKeeper
from tapescope_adapters.postgres._leases import extend_leases
from tapescope_adapters.postgres._listener import Listener
from tapescope_adapters.postgres._pool import PoolConnector
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.postgres._rows import (
    as_cancel,
    as_quarantine,
    as_repair,
    as_tape,
    as_task,
)
from tapescope_adapters.postgres._schema import migrate, read_versions
from tapescope_adapters.postgres._transaction import create_within
from tapescope_adapters.postgres._upkeep import audit, repair
from tapescope_telemetry import Telemetry

if TYPE_CHECKING:
    import asyncpg

__all__ = ["PostgresStore"]

_BEYOND_ANY_ID: Final = uuid.UUID(int=2**128 - 1)


class PostgresStore(TaskStore):
    """A store in one schema of a PostgreSQL database; it makes the schema when it opens.

    ``url`` is ``postgresql://user:password@host/database?schema=tapescope``; a Unix socket is named
    by ``?host=/folder``. ``durability="commit"`` waits until the server has a commit on disk;
    ``"relaxed"`` may lose the last commits to a crash of the server, none to one of the process.
    With ``auto_migrate=False`` the schema is left as it is, for roles that may not change it.
    Behind a pooler in transaction mode the URL says so: ``pooler=transaction&listen_port=5432``.

    Instead of a URL an asyncpg ``pool`` of the caller's own will do, with the name of the
    ``schema``. Each call borrows a connection and leaves nothing in it; the pool is never closed.
    ``listen_url`` is where to listen for commits of other processes: the server itself, where the
    pool leads to a pooler in transaction mode. Without one a connection of the pool is kept for
    that, as long as something runs or is followed, and a blocked event loop extends no leases.
    """

    adapter: ClassVar[str] = "postgresql"
    write_lanes: ClassVar[int] = 2

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
        auto_migrate: bool = True,
    ) -> None:
        if durability not in ("commit", "relaxed"):
            raise BadSetting("durability", durability, "'commit' or 'relaxed'")
        if (url is None) is (pool is None):
            raise BadSetting("pool", pool, "given instead of a URL, and one of the two")
        if url is not None and schema is not None:
            raise BadSetting("schema", schema, "in the URL: ?schema=…")
        address = Address.of_pool(schema or "tapescope") if url is None else parse_url(url)
        patience = address.patience or patience
        super().__init__(
            name=address.name,
            telemetry=telemetry,
            clock=clock,
            limits=limits,
            patience=patience,
        )
        relaxed = durability == "relaxed"
        self._connector = (
            Connector(address, patience=patience, relaxed=relaxed)
            if pool is None
            else PoolConnector(pool, address, patience=patience, relaxed=relaxed)
        )
        listens_at = address.listens_at
        if listen_url is not None:
            listens_at = replace(parse_url(listen_url), schema=address.schema)
        self._listening = (
            self._connector
            if listens_at is None
            else Connector(listens_at, patience=patience, relaxed=relaxed)
        )
        self._auto_migrate = auto_migrate
        self._sql = load_queries(address.schema)
        self._reader = Reader(self._connector)
        self._claims = Claims(self._connector, self._sql)
        self._lanes: dict[str, Lane] = {}
        self._doubtful: dict[str, int] = {}
        """By lane the flush whose reply was lost."""
        self._session = ""
        self._identity = ""

    @property
    def outlives_process(self) -> bool:
        return True

    @property
    def joins_transactions(self) -> bool:
        return True

    # --- life -------------------------------------------------------------------------------------

    async def _open(self) -> None:
        # Flush numbers begin anew when a store is opened again, so its lanes need new names.
        self._session = uuid.uuid4().hex
        self._reader = Reader(self._connector)
        self._claims = Claims(self._connector, self._sql)
        conn = await self._connector.log_in()
        try:
            await migrate(conn, self._connector.address.schema, auto=self._auto_migrate)
            await conn.execute(self._sql["forget_stale_lanes"])
            self._identity = await conn.fetchval(self._sql["read_identity"])
        except DRIVER_ERRORS as error:
            drop(conn)
            met = translate(error, sent=False)
            if isinstance(met, FlushRefused):
                raise StoreConfigError(f"The store {self.name} cannot be set up: {met}") from error
            raise StoreAway(str(met)) from error
        except BaseException:  # cancelled, or may not migrate: nobody else closes it
            drop(conn)
            raise
        await self._reader.give(conn)

    async def _close(self) -> None:
        lanes, self._lanes = self._lanes, {}
        self._doubtful.clear()
        for name, lane in lanes.items():
            await lane.aclose(self._sql["forget_lane"], name)
        await self._claims.aclose()
        await self._reader.aclose()

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self, flush: Flush) -> FlushAnswer:
        name = f"{flush.lane}/{self._session}"
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self._connector, self._sql["flush"])
        try:
            text = await lane.flush(arguments(name, flush, self.instance, self.limits))
        except FateUnknown:
            self._doubtful[name] = flush.number
            raise
        except FlushRefused:
            # The port will split it, which must not happen while its first try may yet be carried
            # out. (One that is blocked it sends again as it is.)
            if self._doubtful.get(name) != flush.number:
                raise
            stored = await lane.fence(self._sql["fence"], name, flush.number)
            del self._doubtful[name]
            if stored is None:
                raise
            text = stored
        if text == VOID:
            raise FlushRefused("it was refused before, and its number is spent")
        return read_answer(flush, text)

    async def _create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        schema = self._connector.address.schema
        return await create_within(connection, self._sql, schema, self._identity, row)

    async def _extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        patience = self._connector.patience
        return await self._reader.use(
            lambda conn: extend_leases(conn, self._sql, owner, lease, task_ids, patience)
        )

    def _make_lease_keeper(self) -> LeaseKeeper | None:
        if isinstance(self._listening, PoolConnector):
            return None  # a pool is its loop's, and the keeper has another
        return PostgresKeeper(self._listening, self._sql)

    async def _read_owners(self) -> Sequence[str]:
        return [row["owner"] for row in await self._reader.fetch(self._sql["read_owners"])]

    async def _rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        (row,) = await self._reader.fetch(
            self._connector.carry_along(self._sql["rescue_expired"]),
            order.limit,
            list(order.ops),
            list(order.dead_owners),
            order.ts,
            order.retry,
            order.failed,
            self.instance,
        )
        return [
            RescuedRow(as_task(task), RescueResult(result), last_seq)
            for result, last_seq, task in decode(row["rescued"])
        ]

    async def _claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        return await self._claims.claim(f"{self.instance}/claims/{self._session}", order)

    async def _next_due(self, ops: Sequence[str]) -> int | None:
        (row,) = await self._reader.fetch(self._sql["next_due"], list(ops))
        due: int | None = row["due"]
        return due

    async def _register_ops(self, ops: Sequence[KnownOp]) -> None:
        names, timeouts = [known.op for known in ops], [known.timeout for known in ops]
        retries = [known.retries for known in ops]
        await self._reader.fetch(self._sql["register_ops"], names, timeouts, retries)

    async def _read_ops(self, within: int) -> Sequence[KnownOp]:
        rows = await self._reader.fetch(self._sql["read_ops"], within)
        return [KnownOp(*row) for row in rows]

    async def _load(self, task_id: str, attempt: int, owner: str) -> AttemptState | None:
        rows = await self._reader.fetch(self._sql["load_attempt"], task_id, attempt)
        return AttemptState(*rows[0]) if rows else None

    # --- reading ----------------------------------------------------------------------------------

    async def _get(self, task_id: str) -> Task | None:
        rows = await self._reader.fetch(self._sql["get_task"], task_id)
        return as_task(rows[0]) if rows else None

    async def _find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        rows = await self._reader.fetch(self._sql["find_ended"], list(task_ids))
        return [as_task(row) for row in rows]

    async def _list(
        self, status: TaskStatus | None, op: str | None, limit: int, before: str | None
    ) -> Sequence[Task]:
        clause, wanted = "", list[str]()
        for column, value in (("status", status), ("op", op)):
            if value is not None:
                wanted.append(value)
                clause += f"AND {column} = ${2 + len(wanted)} "
        try:
            last = _BEYOND_ANY_ID if before is None else uuid.UUID(before)
        except ValueError:
            raise BadSetting("before", before, "the 'next' of another page") from None
        rows = await self._reader.fetch(
            self._sql["list_tasks"].replace("/*and*/", clause),
            last,
            limit,
            *wanted,
        )
        return [as_task(row) for row in rows]

    async def _count(self, op: str | None) -> Mapping[TaskStatus, int]:
        clause, wanted = ("", ()) if op is None else ("WHERE op = $1", (op,))
        rows = await self._reader.fetch(
            self._sql["count_tasks"].replace("/*where*/", clause), *wanted
        )
        return {TaskStatus(status): count for status, count in rows}

    async def _read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        rows = await self._reader.fetch(self._sql["read_tape"], task_id, after_seq, limit)
        return as_tape(task_id, rows)

    async def _read_quarantine(self, task_id: str | None, after: int, limit: int) -> QuarantinePage:
        one = () if task_id is None else (task_id,)
        sql = self._sql["read_quarantine"]
        if one:
            sql = sql.replace("/*where*/", "WHERE task_id = $3")
            sql = sql.replace("/*and*/", "AND task_id = $3")
        return as_quarantine(await self._reader.fetch(sql, after, limit + 1, *one), limit)

    async def _read_cancels(
        self, owners: Sequence[str]
    ) -> Sequence[tuple[str, str, CancelRequest]]:
        rows = await self._reader.fetch(self._sql["read_cancels"], list(owners))
        return [
            (str(task_id), owner, request)
            for task_id, owner, *found in rows
            if (request := as_cancel(*found)) is not None
        ]

    # --- upkeep -----------------------------------------------------------------------------------

    async def _audit(self, after: int, limit: int, grace: int) -> AuditPage:
        patience = self._connector.patience
        return await self._reader.use(
            lambda conn: audit(conn, self._sql, after, limit, grace, patience)
        )

    async def _repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        connector = self._connector
        return await self._reader.use(
            lambda conn: repair(conn, self._sql, task_id, grace, by, connector, dry_run=dry_run)
        )

    async def _read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        rows = await self._reader.fetch(self._sql["read_repairs"], after, limit)
        return [as_repair(row) for row in rows]

    async def _due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        sql = self._sql["due_tasks"]
        rows = await self._reader.fetch(sql, cutoff, list(outcomes), op, after, limit)
        return [DueTask(*row) for row in rows]

    async def _delete_tasks(self, keys: Sequence[int], events: int) -> int:
        ((deleted,),) = await self._reader.fetch(self._sql["delete_tasks"], list(keys))
        return int(deleted)

    async def _due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        rows = await self._reader.fetch(self._sql["due_drops"], cutoff, after, limit)
        return [DueDrop(*row) for row in rows]

    async def _delete_drops(self, keys: Sequence[int]) -> int:
        ((deleted,),) = await self._reader.fetch(self._sql["delete_drops"], list(keys))
        return int(deleted)

    async def _take_turn(self, owner: str, lease: int) -> Turn | None:
        rows = await self._reader.fetch(self._sql["take_turn"], owner, lease)
        return Turn(*rows[0]) if rows else None

    async def _note_chore(self, owner: str, chore: Chore) -> None:
        await self._reader.fetch(self._sql[f"note_{chore}"], owner)

    async def _leave_turn(self, owner: str) -> None:
        await self._reader.fetch(self._sql["leave_turn"], owner)

    async def _find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        (row,) = await self._reader.fetch(self._sql["find_open"], after, list(among), limit)
        return row["top"], row["keys"]

    async def _schema_versions(self) -> SchemaVersions:
        conn = await self._connector.log_in()
        try:
            versions = await read_versions(conn, self._connector.address.schema)
        except DRIVER_ERRORS as error:
            drop(conn)
            raise StoreAway(str(error) or type(error).__name__) from error
        except BaseException:  # cancelled, too: a connection of our own is not left open
            drop(conn)
            raise
        await self._connector.let_go(conn)
        return versions

    # --- other processes --------------------------------------------------------------------------

    async def _watch(self) -> None:
        listener = Listener(self._listening, self._changes, self.instance, self._tell_owners)
        await listener.run()
