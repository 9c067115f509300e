"""One schema of a PostgreSQL database as the backend of a store."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from tapescope.errors import ConnectionRefused, StoreConfigError
from tapescope.model import (
    AuditPage,
    Backlog,
    BacklogCount,
    CancelRequest,
    Drain,
    DropFilter,
    HeldLease,
    InboxRow,
    KnownOp,
    LeaderTerm,
    MaintenanceJob,
    Mended,
    MessageResult,
    Pause,
    QuarantinePage,
    Repair,
    Schedule,
    SendAnswer,
    SendRow,
    StoreLoad,
    StoreSize,
    TapePage,
    Task,
    TaskFilter,
    TaskStatus,
    TracedAttempt,
    Untaken,
    WorkerState,
    carry,
)
from tapescope.store import (
    AttemptState,
    BackendContext,
    CreateRow,
    DatabaseRole,
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    Expired,
    ExpiredOrder,
    FateUnknown,
    Flush,
    FlushAnswer,
    FlushRefused,
    FollowersOrder,
    FollowersPage,
    Inserted,
    LeaseRenewer,
    ListedTasks,
    OpenMode,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
    StoreAway,
    StoreBackend,
    TraceRow,
    decode,
    is_task_id,
    must_migrate,
    read_schedule,
    write_schedule,
)
from tapescope_adapters._sql import conditions, leads
from tapescope_adapters.postgres import _backlog, _leadership
from tapescope_adapters.postgres._caller_pool import PoolConnector
from tapescope_adapters.postgres._caller_transaction import create_within
from tapescope_adapters.postgres._claims import Claims
from tapescope_adapters.postgres._connection import (
    DRIVER_ERRORS,
    Connector,
    Lane,
    SharedConnections,
    as_away,
    drop,
    translate,
)
from tapescope_adapters.postgres._flush import VOID, arguments, read_answer, traces
from tapescope_adapters.postgres._grants import describe_grants
from tapescope_adapters.postgres._lease_renewer import PostgresLeaseRenewer
from tapescope_adapters.postgres._leases import Rescues, extend_leases
from tapescope_adapters.postgres._listener import Listener
from tapescope_adapters.postgres._maintenance import audit
from tapescope_adapters.postgres._names import qualify
from tapescope_adapters.postgres._queries import load_queries
from tapescope_adapters.postgres._repair import repair
from tapescope_adapters.postgres._rows import (
    as_cancel,
    as_list,
    as_quarantine,
    as_repair,
    as_tape,
    as_task,
    as_traced,
    as_worker,
)
from tapescope_adapters.postgres._schema import (
    SchemaGuard,
    list_made,
    migrate,
    read_versions,
)

if TYPE_CHECKING:
    from tapescope_adapters.postgres._connection import Connection

__all__ = ["OF_A_TIME", "PostgresBackend"]

_BEYOND_ANY_ID: Final = uuid.UUID(int=2**128 - 1)
_BEYOND_ANY_NUMBER: Final = 2**63 - 1
OF_A_TIME: Final = (
    f"AND id <= coalesce(one.looked_to, {_BEYOND_ANY_NUMBER}) AND ts >= $5 AND ts < $6"
)


_FOLDED_EVERY: Final = 60_000_000
"""Microseconds: moves of a store that was read within them are left to the next one."""
_FOLD_WITHIN: Final = 1.0
"""Seconds that a store which closes has for the moves."""


class PostgresBackend(StoreBackend):
    """The tables in one schema of a PostgreSQL database."""

    adapter: ClassVar[str] = "postgresql"
    write_lanes: ClassVar[int] = 2

    _context: BackendContext
    _guard: SchemaGuard
    """Both from ``open`` on."""

    def __init__(self, connector: Connector, listening: Connector, *, name: str) -> None:
        """``listening`` makes the connection that listens: the server itself, behind a pooler."""
        self.name = name
        self._connector = connector
        self.listening = listening
        self._sql = load_queries(connector.address.schema)
        self._send = connector.with_local_settings(self._sql["send_message"])
        self._shared = SharedConnections(connector)
        self._claims = Claims(connector, self._sql)
        self._rescues = Rescues(connector, self._sql, self._shared)
        self._adding = SharedConnections(connector, writes=True)
        self._only_adds = False
        """The role may add tasks at most, a submitter's: it has no lane for a flush."""
        self._wrote = False
        """Whether it has written since it was opened."""
        self._sees_size = True
        """Whether the role may read what is measured, as far as it is known."""
        self._lanes: dict[str, Lane] = {}
        self._doubtful: dict[str, int] = {}
        """By lane the flush whose reply was lost."""
        self._session = ""
        self._identity = ""

    @property
    def outlives_process(self) -> bool:
        return True

    @property
    def may_hang(self) -> bool:
        return self._connector.keeps  # a caller's pool has limits of its own

    @property
    def joins_transactions(self) -> bool:
        return True

    # --- life -------------------------------------------------------------------------------------

    async def open(self, context: BackendContext) -> None:
        self._context = context
        # Flush numbers begin anew when a store is opened again, so its lanes need new names.
        self._session = uuid.uuid4().hex
        self._sees_size = True
        self._shared = SharedConnections(self._connector)
        self._claims = Claims(self._connector, self._sql)
        self._adding = SharedConnections(self._connector, writes=True)
        self._rescues = Rescues(self._connector, self._sql, self._shared)
        conn = await self._connector.log_in()
        try:
            await self._set_up(conn, context.open_mode)
        except DRIVER_ERRORS as error:
            drop(conn)
            met = translate(error, sent=False)
            if isinstance(met, FlushRefused):
                raise StoreConfigError(f"The store {self.name} cannot be used: {met}") from error
            raise as_away(met) from error
        except BaseException:  # cancelled, or may not migrate: it is closed only here
            drop(conn)
            raise
        await self._shared.give(conn)

    async def _set_up(self, conn: Connection, mode: OpenMode) -> None:
        """Look at the schema, and do with it what ``mode`` allows."""
        schema = self._connector.address.schema
        if mode is OpenMode.MIGRATE_ALONE:
            mode = OpenMode.CREATE  # a server cannot be kept from letting other processes in
        self._guard = SchemaGuard(schema, self.name)
        self._guard.require_version(conn)
        versions = await read_versions(conn, schema, self._sql)
        # Before it is made or migrated, too: in a database that could not hold it nothing is made.
        state = await self._read_state(conn)
        self._guard.look(state)
        if must_migrate(mode, versions, self.name):
            await migrate(conn, mode, self.name, self._sql, self._connector)
            state = await self._read_state(conn)
            self._guard.look(state)
        self._only_adds = "INSERT ON lanes" in state["barred"]
        if mode.may_write:
            if not self._only_adds:
                await conn.execute(self._sql["forget_stale_lanes"])
            self._identity = await conn.fetchval(self._sql["read_identity"])

    async def _read_state(self, conn: Connection) -> Mapping[str, Any]:
        row = await conn.fetchrow(
            self._sql["read_state"],
            self._connector.address.schema,
            list(list_made()),
            timeout=self._connector.patience,
        )
        assert row is not None, "it begins with one row"
        return dict(row)

    def describe_grants(self, role: DatabaseRole, grantee: str) -> str | None:
        return describe_grants(role, self._connector.address.schema, grantee)

    async def probe(self) -> None:
        state = await self._shared.use(self._read_state)
        self._guard.look(state)
        self._guard.require_writable(state)
        if self._connector.refused:
            raise StoreAway(
                "the server's queue of notifications is full: a session that listens is in a long "
                "transaction, which the server's log names; nothing is committed until it ends"
            )

    async def read_clock(self) -> int | None:
        (row,) = await self._shared.fetch(self._sql["read_clock"])
        now: int = row["now"]
        return now

    async def read_size(self) -> StoreSize:
        if not self._sees_size:
            return StoreSize()
        try:
            (row,) = await self._shared.fetch(self._sql["read_size"])
        except FlushRefused:  # a role that may not see it: it is asked for once
            self._sees_size = False
            return StoreSize()
        return StoreSize(quarantine=row["quarantine"], audited_us=row["audited_at"])

    def read_load(self) -> StoreLoad:
        pools = (self._shared, self._adding)
        return StoreLoad(
            used=sum(pool.used for pool in pools),
            idle=sum(pool.idle for pool in pools),
            waiting=sum(pool.waiting for pool in pools),
        )

    async def close(self) -> None:
        await self._fold_moves()
        lanes, self._lanes = self._lanes, {}
        self._doubtful.clear()
        for name, lane in lanes.items():
            await lane.aclose(self._sql["forget_lane"], name)
        await self._claims.aclose()
        await self._rescues.aclose()
        await self._adding.aclose()
        await self._shared.aclose()

    async def _fold_moves(self) -> None:
        """Have the moves of what was written taken together, where nobody has read them lately.

        Commands may be all that writes to a store: then none of its processes lives to read them.
        """
        wrote, self._wrote = self._wrote, False
        if not wrote:
            return
        try:
            async with asyncio.timeout(_FOLD_WITHIN):
                await self._shared.fetch(self._sql["read_backlog"], _FOLDED_EVERY, True)
        except (StoreAway, FlushRefused, TimeoutError):
            pass  # the next one does it

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, flush: Flush) -> FlushAnswer:
        self._wrote = True
        bound = any(row.owner is not None for row in flush.creates)
        if self._only_adds and not (bound or flush.claims or flush.rows or flush.cancels):
            return await self._add(flush)
        name = f"{flush.lane}/{self._session}"
        lane = self._lanes.get(name)
        if lane is None:
            calls = self._sql["flush"], self._sql["flush_traced"]
            lane = Lane(self._connector, *calls, was_blocked=flush.was_blocked)
            self._lanes[name] = lane
        try:
            await lane.connect()
            flush.sent = True
            text = await lane.flush(
                arguments(name, flush, self._context.instance, self._context.limits),
                traced=bool(flush.traces),
            )
        except (FateUnknown, asyncio.CancelledError):  # the second where it answers too late
            if flush.sent:
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
        try:
            return read_answer(flush, text)
        except Exception as error:  # it was carried out: to write its rows anew would double them
            self._doubtful[name] = flush.number
            raise FateUnknown(f"its answer cannot be read ({type(error).__name__})") from error

    async def _add(self, flush: Flush) -> FlushAnswer:
        """A create in a transaction of its own, for which a submitter's role suffices.

        One that was made before its reply was lost is found by its id. Several are refused, and
        come one by one: each has a time of its own.
        """
        if len(flush.creates) != 1:
            raise FlushRefused("this role adds one task at a time")
        (row,) = flush.creates

        async def add(conn: Connection) -> Inserted | Task:
            async with conn.transaction():
                return await self.create_within(conn, row)

        flush.sent = True
        try:
            placed = await self._adding.use(add)
        except ConnectionRefused as error:
            raise FlushRefused(str(error)) from error
        if isinstance(placed, Task):
            return FlushAnswer(placed.created_us, keys=[0], existing={0: placed})
        with suppress(StoreAway, FlushRefused):  # it is committed, and the workers poll
            await self.announce()
        return FlushAnswer(placed.created_us, keys=[placed.key])

    async def settle(self, flush: Flush) -> None:
        name = f"{flush.lane}/{self._session}"
        await self._shared.fetch(self._sql["settle_lane"], name, flush.number)

    async def create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        schema = self._connector.address.schema
        return await create_within(connection, self._sql, schema, self._identity, row)

    async def announce(self) -> None:
        if not self._connector.quiet:
            channel, payload = self._connector.address.schema, f"{self._context.instance}||w"
            await self._shared.fetch(self._sql["announce"], channel, payload)

    async def send_message(self, row: SendRow) -> SendAnswer | None:
        (found,) = await self._shared.fetch(self._send, *row, self._context.instance)
        if found["answer"] is None:
            return None
        result, op, status, n, there = decode(found["answer"])
        return SendAnswer(MessageResult(result), op, carry(TaskStatus, status), n, there)

    async def read_inbox(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow] | None:
        rows = await self._shared.fetch(self._sql["read_inbox"], task_id, after, limit)
        return [InboxRow(*row) for row in rows if row["n"] is not None] if rows else None

    async def find_untaken(self, task_ids: Sequence[str]) -> Sequence[Untaken]:
        (found,) = await self._shared.fetch(self._sql["find_untaken"], list(task_ids))
        return [Untaken(*one) for one in decode(found["answer"] or "[]")]

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        patience = self._connector.patience
        return await self._shared.use(
            lambda conn: extend_leases(conn, self._sql, owner, lease, task_ids, patience)
        )

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        await self._shared.fetch(self._sql["let_go"], task_id, attempt, owner)

    def make_lease_renewer(self) -> LeaseRenewer | None:
        if isinstance(self.listening, PoolConnector):
            return None  # a pool is its loop's, and the renewer has another
        return PostgresLeaseRenewer(self.listening, self._sql)

    async def read_owners(self) -> Sequence[str]:
        return [row["owner"] for row in await self._shared.fetch(self._sql["read_owners"])]

    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        return await self._rescues.rescue(self._context.instance, self._session, order)

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        return await self._claims.claim(f"{self._context.instance}/claims/{self._session}", order)

    async def next_due(self, ops: Sequence[str], queues: Sequence[str] | None = None) -> int | None:
        asked = [None] if queues is None else list(queues)
        (row,) = await self._shared.fetch(self._sql["next_due"], list(ops), asked)
        due: int | None = row["due"]
        return due

    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        names = [known.op for known in ops]
        timeouts = [None if known.timeout is None else str(known.timeout) for known in ops]
        retries = [str(known.retries) for known in ops]
        priorities = [str(known.priority) for known in ops]
        slots = [None if (n := known.max_concurrent) is None else str(n) for known in ops]
        queues = [known.queue for known in ops]
        bounds = [None if known.max_waiting is None else str(known.max_waiting) for known in ops]
        expiries = [None if known.expires_in is None else str(known.expires_in) for known in ops]
        times = [None if known.rate_times is None else str(known.rate_times) for known in ops]
        windows = [None if (us := known.rate_per_us) is None else str(us) for known in ops]
        told = (names, timeouts, retries, priorities, slots, queues, bounds, expiries)
        await self._shared.fetch(self._sql["register_ops"], *told, times, windows)

    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        rows = await self._shared.fetch(self._sql["read_ops"], within)
        return [KnownOp(*row) for row in rows]

    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        taken = None if queues is None else list(queues)
        await self._shared.fetch(self._sql["tell_worker"], owner, lease, list(ops), taken)

    async def forget_worker(self, owner: str) -> None:
        await self._shared.fetch(self._sql["forget_worker"], owner)

    async def list_workers(self, after: str, limit: int) -> Sequence[WorkerState]:
        rows = await self._shared.fetch(self._sql["list_workers"], after, limit)
        return [as_worker(row) for row in rows]

    async def drain_worker(self, owner: str, by: str | None, reason: str) -> Drain | None:
        rows = await self._shared.fetch(self._sql["drain_worker"], owner, by, reason)
        return Drain(*rows[0]) if rows else None

    async def undrain_worker(self, owner: str) -> bool:
        return bool(await self._shared.fetch(self._sql["undrain_worker"], owner))

    async def find_drain(self, owner: str) -> Drain | None:
        rows = await self._shared.fetch(self._sql["find_drain"], owner)
        return Drain(*rows[0]) if rows else None

    async def pause_op(self, op: str, by: str | None, reason: str) -> Pause:
        (row,) = await self._shared.fetch(self._sql["pause_op"], op, by, reason)
        return Pause(*row)

    async def resume_op(self, op: str) -> Pause | None:
        rows = await self._shared.fetch(self._sql["resume_op"], op)
        return Pause(*rows[0]) if rows else None

    async def list_pauses(self, after: str, limit: int) -> Sequence[Pause]:
        rows = await self._shared.fetch(self._sql["list_pauses"], after, limit)
        return [Pause(*row) for row in rows]

    async def load(self, task_id: str, attempt: int, owner: str) -> AttemptState:
        known = task_id if is_task_id(task_id) else None
        rows = await self._shared.fetch(self._sql["load_attempt"], task_id, attempt, known)
        return AttemptState(*rows[0])

    # --- reading ----------------------------------------------------------------------------------

    async def get(self, task_id: str) -> Task | None:
        rows = await self._shared.fetch(self._sql["get_task"], task_id)
        return as_task(rows[0]) if rows else None

    async def note_traces(self, rows: Sequence[TraceRow]) -> None:
        await self._shared.fetch(self._sql["note_traces"], *traces(rows))

    async def find_traced(self, trace_id: str, limit: int) -> Sequence[TracedAttempt]:
        rows = await self._shared.fetch(self._sql["find_traced"], trace_id, limit)
        return [as_traced(row) for row in rows]

    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        rows = await self._shared.fetch(self._sql["read_traced"], list(task_ids))
        return [as_traced(row) for row in rows]

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        rows = await self._shared.fetch(self._sql["find_ended"], list(task_ids))
        return [as_task(row) for row in rows]

    async def list(
        self, wanted: TaskFilter, limit: int, before: str | None, look_at: int
    ) -> ListedTasks:
        last = _BEYOND_ANY_ID if before is None else uuid.UUID(before)
        of_index, of_row = conditions(wanted)
        bare = "" if wanted.params else "_bare"
        if leads(wanted):
            if wanted.idempotency_key is None and wanted.status is not None:
                text, given = self._sql[f"list_of_status{bare}"], of_index
            else:
                given = of_index | of_row
                text = self._sql[f"list_tasks{bare}"].replace("/*and*/", _number(given, 3))
            rows = await self._shared.fetch(text, last, limit, *given.values())
            return as_list(rows)
        if not of_row:  # each of them is wanted
            look_at = limit
        among, lead = "tasks" if wanted.tag is None else "tagged", []
        for condition, of in (("parent_id =", "children"), ("status =", "of_status")):
            if (value := of_index.pop(condition, None)) is not None:
                among, lead = of, [value]
        asked = (*lead, *of_index.values())
        text = self._sql[f"search_{among}{bare}"]
        text = text.replace("/*range*/", _number(of_index, 4 + len(lead)))
        text = text.replace("/*and*/", _number(of_row, 4 + len(asked)))
        rows = await self._shared.fetch(text, last, limit, look_at, *asked, *of_row.values())
        page = as_list(rows)
        if len(page.tasks) == limit or page.looked_to is not None:
            return page
        text = self._sql[f"find_searched_{among}"]
        text = text.replace("/*range*/", _number(of_index, 3 + len(lead)))
        end = await self._shared.fetch(text, last, look_at - 1, *asked)
        return ListedTasks(page.tasks, str(end[0][0]) if end else None)

    async def count(self, op: str | None, tag: str | None) -> Mapping[TaskStatus, int]:
        given = {"tag =": tag, "op =": op}
        wanted = {on: value for on, value in given.items() if value is not None}
        text = self._sql["count_tasks" if tag is None else "count_tagged"]
        rows = await self._shared.fetch(
            text.replace("/*and*/", _number(wanted, 1)), *wanted.values()
        )
        return {carry(TaskStatus, status): count for status, count in rows}

    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        rows = await self._shared.fetch(self._sql["read_tape"], task_id, after_seq, limit)
        return as_tape(task_id, rows)

    async def read_quarantine(
        self, wanted: DropFilter, after: int, limit: int, look_at: int
    ) -> QuarantinePage:
        given: list[Any] = [after, limit + 1, wanted.counted]
        looked_to, and_times, where, and_one = "NULL::bigint", "", "", ""
        if wanted.by_time:
            looked_to = self._sql["find_searched_drop"]
            and_times = qualify(OF_A_TIME)
            given += [
                look_at - 1,
                -_BEYOND_ANY_NUMBER if wanted.since_us is None else wanted.since_us,
                _BEYOND_ANY_NUMBER if wanted.until_us is None else wanted.until_us,
            ]
        if wanted.task_id is not None:
            given.append(wanted.task_id)
            of_one = f"task_id = ${len(given)}"
            where, and_one = qualify(f"WHERE {of_one}"), qualify(f"AND {of_one}")
        sql = self._sql["read_quarantine"].replace("/*where*/", where)
        sql = sql.replace("/*looked_to*/", looked_to).replace("/*times*/", and_times)
        sql = sql.replace("/*and*/", and_one)
        return as_quarantine(await self._shared.fetch(sql, *given), limit)

    async def find_expired(self, order: ExpiredOrder) -> Sequence[Expired]:
        rows = await self._shared.fetch(self._sql["find_expired"], order.limit, *order.after)
        return [Expired(str(row[0]), *row[1:]) for row in map(tuple, rows)]

    async def find_followers(self, order: FollowersOrder) -> FollowersPage:
        asked = order.limit, *order.after, order.parents
        rows = await self._shared.fetch(self._sql["find_followers"], *asked)
        found = [(row[0] and str(row[0]), str(row[1]), *row[2:]) for row in map(tuple, rows)]
        return FollowersPage.of(order, found)

    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        rows = await self._shared.fetch(self._sql["read_cancels"], list(owners))
        return [
            (str(row["task_id"]), row["owner"], request)
            for row in rows
            if (request := as_cancel(row)) is not None
        ]

    async def read_backlog(self, fresh: int) -> Backlog:
        may_write = self._context.open_mode.may_write
        (row,) = await self._shared.fetch(self._sql["read_backlog"], fresh, may_write)
        return _backlog.as_backlog(row["facts"], row["paused"], row["unserved"])

    # --- maintenance ------------------------------------------------------------------------------

    async def recount_backlog(self) -> Sequence[BacklogCount]:
        rows = await self._shared.fetch(self._sql["recount_backlog"])
        return [_backlog.as_count(row) for row in rows]

    async def mend_backlog(self, by: str, *, dry_run: bool) -> Sequence[Repair]:
        connector = self._connector
        return await self._shared.use(
            lambda conn: _backlog.mend(conn, self._sql, by, connector, dry_run=dry_run)
        )

    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        patience, schema = self._connector.patience, self._connector.address.schema
        return await self._shared.use(
            lambda conn: audit(conn, schema, self._sql, after, limit, grace, patience)
        )

    async def repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        connector = self._connector
        return await self._shared.use(
            lambda conn: repair(conn, self._sql, task_id, grace, by, connector, dry_run=dry_run)
        )

    async def read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        rows = await self._shared.fetch(self._sql["read_repairs"], after, limit)
        return [as_repair(row) for row in rows]

    async def due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        sql = self._sql["due_tasks"]
        rows = await self._shared.fetch(sql, cutoff, list(outcomes), op, after, limit)
        return [DueTask(*row) for row in rows]

    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        ((deleted,),) = await self._shared.fetch(self._sql["delete_tasks"], list(map(str, keys)))
        return int(deleted)

    async def due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        rows = await self._shared.fetch(self._sql["due_drops"], cutoff, after, limit)
        return [DueDrop(*row) for row in rows]

    async def delete_drops(self, keys: Sequence[int]) -> int:
        ((deleted,),) = await self._shared.fetch(self._sql["delete_drops"], list(map(str, keys)))
        return int(deleted)

    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        return await _leadership.acquire(self._shared, self._sql, owner, lease)

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        await _leadership.record(self._shared, self._sql, owner, job)

    async def resign_leadership(self, owner: str) -> None:
        await _leadership.resign(self._shared, self._sql, owner)

    # --- engines ----------------------------------------------------------------------------------

    @property
    def keeps_engines(self) -> bool:
        return True

    async def read_store_id(self) -> str:
        (row,) = await self._shared.fetch(self._sql["read_store_id"])
        return str(row["store_id"])

    async def find_unconfirmed(self, engine: str, limit: int) -> Sequence[Task]:
        rows = await self._shared.fetch(self._sql["find_unconfirmed"], engine, limit)
        return [as_task(row) for row in rows]

    async def note_confirmed(self, task_ids: Sequence[str], again_in: int) -> None:
        await self._shared.fetch(self._sql["note_confirmed"], list(task_ids), again_in)

    async def count_overdue(self, engine: str, late: int, limit: int) -> tuple[int, int | None]:
        (row,) = await self._shared.fetch(self._sql["count_overdue"], engine, late, limit)
        return row["n"], row["since"]

    # --- schedules --------------------------------------------------------------------------------

    async def add_schedule(self, row: Schedule) -> bool:
        return bool(await self._shared.fetch(self._sql["add_schedule"], *write_schedule(row)))

    async def change_schedule(self, row: Schedule) -> bool:
        *columns, _, revision = write_schedule(row)
        return bool(await self._shared.fetch(self._sql["change_schedule"], *columns, revision))

    async def remove_schedule(self, name: str) -> bool:
        return bool(await self._shared.fetch(self._sql["remove_schedule"], name))

    async def get_schedule(self, name: str) -> Schedule | None:
        rows = await self._shared.fetch(self._sql["get_schedule"], name)
        return read_schedule(*rows[0]) if rows else None

    async def list_schedules(self, after: str, limit: int) -> Sequence[Schedule]:
        rows = await self._shared.fetch(self._sql["list_schedules"], after, limit)
        return [read_schedule(*row) for row in rows]

    async def list_due_schedules(
        self, now: int, after: tuple[int, str], limit: int
    ) -> Sequence[Schedule]:
        rows = await self._shared.fetch(self._sql["list_due_schedules"], now, *after, limit)
        return [read_schedule(*row) for row in rows]

    async def next_schedule(self, after: int) -> int | None:
        rows = await self._shared.fetch(self._sql["next_schedule"], after)
        return rows[0]["next_at"] if rows else None

    async def acquire_firing(self, owner: str, now: int, until: int) -> bool:
        asked = owner, now, until, 2 * until - now
        return bool(await self._shared.fetch(self._sql["acquire_firing"], *asked))

    async def resign_firing(self, owner: str) -> None:
        await self._shared.fetch(self._sql["resign_firing"], owner)

    async def find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        asked = list(map(str, among))
        (row,) = await self._shared.fetch(self._sql["find_open"], after, asked, limit)
        return row["top"], list(map(int, row["keys"]))

    async def schema_versions(self) -> SchemaVersions:
        conn = await self._connector.log_in()
        try:
            schema = self._connector.address.schema
            guard = SchemaGuard(schema, self.name)
            guard.require_version(conn)
            versions = await read_versions(conn, schema, self._sql)
            guard.look(await self._read_state(conn))  # what cannot be used is not up to date
        except DRIVER_ERRORS as error:
            drop(conn)
            met = translate(error, sent=False)
            if isinstance(met, FlushRefused):
                raise StoreConfigError(f"The store {self.name} cannot be used: {met}") from error
            raise as_away(met) from error
        except BaseException:  # cancelled, too: a connection of our own is not left open
            drop(conn)
            raise
        await self._connector.let_go(conn)
        return versions

    # --- other processes --------------------------------------------------------------------------

    async def watch(self) -> None:
        await Listener(self.listening, self._context).run()


def _number(given: Mapping[str, object], first: int) -> str:
    """The conditions as they stand behind a WHERE, their parameters numbered from ``first`` on."""
    return qualify("".join(f" AND {on} ${first + place}" for place, on in enumerate(given)))
