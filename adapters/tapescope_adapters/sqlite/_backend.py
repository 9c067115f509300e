"""One SQLite file as the backend of a store, for the processes of one host."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import ClassVar, Literal, TypeVar

from tapescope.errors import StoreConfigError, StoreNotFound
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
    Pause,
    QuarantinePage,
    Repair,
    Schedule,
    SendAnswer,
    SendRow,
    StoreSize,
    TapePage,
    Task,
    TaskFilter,
    TaskStatus,
    TracedAttempt,
    Untaken,
    WorkerState,
)
from tapescope.store import (
    RESYNC,
    AttemptState,
    BackendContext,
    Backoff,
    Change,
    CreateRow,
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    Expired,
    ExpiredOrder,
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
    StoreLocked,
    TraceRow,
    must_migrate,
)
from tapescope_adapters._sql import load
from tapescope_adapters.sqlite import (
    _backlog,
    _claims,
    _engines,
    _leadership,
    _leases,
    _maintenance,
    _messages,
    _repair,
    _rows,
    _schedules,
    _stops,
)
from tapescope_adapters.sqlite._caller_transaction import create_within
from tapescope_adapters.sqlite._change_poll import NOTHING_SEEN, Look
from tapescope_adapters.sqlite._connection import (
    Connection,
    check_folder,
    check_version,
    check_writable,
    connect,
    make_file,
    set_up,
    set_up_reader,
)
from tapescope_adapters.sqlite._flush import Writing
from tapescope_adapters.sqlite._lease_renewer import SqliteLeaseRenewer
from tapescope_adapters.sqlite._network_mounts import find_network_type
from tapescope_adapters.sqlite._opened_file import OpenedFile
from tapescope_adapters.sqlite._read_access import (
    FileState,
    choose_read_access,
    holds_nothing,
)
from tapescope_adapters.sqlite._schema import check_owner, migrate, read_migrations, read_versions
from tapescope_adapters.sqlite._url import write_url
from tapescope_telemetry.logger import Logger

__all__ = ["Durability", "SqliteBackend"]

Durability = Literal["commit", "relaxed"]

T = TypeVar("T")

_log = Logger("tapescope")

_POLL = 0.015
"""Seconds between looks at ``data_version`` while something here is followed or runs."""
_CHECKPOINT_EVERY = 4 * 2**20
"""Bytes written, roughly, between checkpoints."""
_CHECKPOINT_BEHIND = 32 * 2**20
"""Bytes written, roughly, since a checkpoint began, from which a flush waits for its end."""
_FLUSH_BYTES = 16_384
_ROW_BYTES = 300
"""What a commit and a row put into the log besides an event's body, roughly."""
_PASSED = 500
"""Numbers of seconds that have passed, from which they are taken together."""
_UNHURRIED = 1_000_000
"""Microseconds: who takes numbers of this age may wait until they are taken together. Who asks for
those of this moment waits for no write: a transaction of its caller's may have the one lock."""
_WAL_CAP = 8_192
"""Pages in the write-ahead log (32 MiB) from which it is made to start anew."""


class SqliteBackend(StoreBackend):
    """A SQLite file: WAL, one connection that writes, one that reads, one for checkpoints."""

    adapter: ClassVar[str] = "sqlite"

    _context: BackendContext
    _writing: Writing
    """Both from ``open`` on."""

    def __init__(self, path: str, *, durability: Durability, file_mode: int = 0o600) -> None:
        self._given = self.path = path
        self._file_mode = file_mode
        self.name = write_url(path)
        self._synchronous = "FULL" if durability == "commit" else "NORMAL"
        self._sql = load("tapescope_adapters.sqlite")
        self.writer_conn: Connection | None = None
        self._reader_conn: Connection | None = None
        self._checkpointer: Connection | None = None
        self._checkpoint: asyncio.Task[None] | None = None
        self._read_state: FileState | None = None
        """The file as it was opened to be read without locks; ``None`` where SQLite locks."""
        self._opened: OpenedFile | None = None
        """``None`` in memory, and where the store is only read."""
        self._unmoved = 0
        self._warned = False

    @property
    def outlives_process(self) -> bool:
        return self.path != ":memory:"

    @property
    def on_one_host(self) -> bool:
        return True

    @property
    def joins_transactions(self) -> bool:
        return self.outlives_process

    # --- life -------------------------------------------------------------------------------------

    async def open(self, context: BackendContext) -> None:
        self._context = context
        self._writing = Writing(self._sql, context.limits, context.clock.now)
        mode = context.open_mode
        if self.outlives_process:  # a runner may change the folder while it is open
            self.path = os.path.abspath(self._given)  # noqa: ASYNC240  # no file is asked about
        check_version()
        if not mode.may_create and (not self.outlives_process or holds_nothing(self.path)):
            raise StoreNotFound(self.name)
        if self.outlives_process:
            check_folder(self.path)
            await self._warn_of_network()
        try:
            await (self._open_to_write(mode) if mode.may_write else self._open_to_read(mode))
        except FlushRefused as error:
            await self.close()
            raise StoreConfigError(
                f"The SQLite file {self.path} cannot be set up ({error}). "
                "Name another file, or restore a backup."
            ) from error
        except BaseException:  # cancelled, or refused: what was opened so far would be left
            await self.close()
            raise

    async def _open_to_write(self, mode: OpenMode) -> None:
        """Open the three connections; nothing is set or made before the schema was looked at."""
        if self.outlives_process:
            check_writable(self.path)
            if not holds_nothing(self.path):
                await self._refuse_unopened(mode)
            if mode.may_create:
                make_file(self.path, self._file_mode)
        writer = self.writer_conn = await connect(
            self.path, "mode=rwc" if mode.may_create else "mode=rw"
        )
        migrates = must_migrate(mode, await writer.run(read_versions), self.name)
        await writer.run(check_owner)
        await writer.run(partial(self._set_up, writes=True))
        if migrates:
            await writer.run(lambda conn: migrate(conn, mode, self.name))
        if self.outlives_process:
            self._reader_conn = await connect(self.path, "mode=rw")
            await self._reader_conn.run(partial(self._set_up, writes=False))
            self._checkpointer = await connect(self.path, "mode=rw")
            await self._checkpointer.run(partial(self._set_up, writes=True))
            self._opened = await writer.run(partial(OpenedFile, self.path))

    async def _refuse_unopened(self, mode: OpenMode) -> None:
        """Refuse a file as one that only reads it: who may write would move its log at the end."""
        connection, _, versions = await self._connect_to_read()
        try:
            must_migrate(mode, versions, self.name)
            await connection.run(check_owner)
        finally:
            await connection.close()

    def _set_up(self, conn: sqlite3.Connection, *, writes: bool) -> None:
        set_up(conn, self.path, synchronous=self._synchronous, writes=writes)

    async def _open_to_read(self, mode: OpenMode) -> None:
        """Open the one connection that reads."""
        self._reader_conn, self._read_state, versions = await self._connect_to_read()
        must_migrate(mode, versions, self.name)

    async def _connect_to_read(self) -> tuple[Connection, FileState | None, SchemaVersions]:
        """A connection that changes nothing; the state in which it may be used; the versions."""
        query, state = choose_read_access(self.path)
        connection = await connect(self.path, query)
        try:
            await connection.run(set_up_reader)
            return connection, state, await connection.run(read_versions)
        except BaseException:  # cancelled, too: it is known only here
            await connection.close()
            raise

    async def _warn_of_network(self) -> None:
        if self._warned:
            return
        self._warned = True
        if kind := await asyncio.to_thread(find_network_type, self.path):
            _log.warning(
                "The SQLite file %s is on a network file system (%s): used from two hosts it will "
                "be damaged. Keep it on a local disk, or use PostgreSQL.",
                self.path,
                kind,
            )

    async def close(self) -> None:
        if self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        for connection in (self._reader_conn, self._checkpointer, self.writer_conn):
            if connection is not None:
                await connection.close()
        self._reader_conn = self._checkpointer = self.writer_conn = None
        self._read_state = self._opened = None

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, flush: Flush) -> FlushAnswer:
        if self._unmoved >= _CHECKPOINT_BEHIND and self._checkpoint is not None:
            await asyncio.wait([self._checkpoint])
        answer = await self._changing(lambda conn: self._writing.write(conn, flush))
        rows = len(flush.rows) + len(flush.creates) + len(flush.claims)
        self._wrote(rows, sum(len(row.body) for row in flush.rows))
        return answer

    def _wrote(self, rows: int, body_bytes: int) -> None:
        """Count what a commit put into the log, and begin a checkpoint when it is time."""
        self._unmoved += _FLUSH_BYTES + _ROW_BYTES * rows + body_bytes
        if self._unmoved >= _CHECKPOINT_EVERY:
            self._begin_checkpoint()

    def _begin_checkpoint(self) -> None:
        under_way = self._checkpoint is not None and not self._checkpoint.done()
        if self._checkpointer is not None and not under_way:
            self._unmoved = 0
            self._checkpoint = asyncio.get_running_loop().create_task(
                self._move_wal(self._checkpointer), name="tapescope-checkpoint"
            )

    async def _move_wal(self, connection: Connection) -> None:
        """Move the log into the file; past the cap, hold writers a moment so it starts anew."""

        def move(conn: sqlite3.Connection) -> None:
            _, pages, _ = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if pages > _WAL_CAP:  # writers never paused long enough for it to be moved whole
                conn.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()

        try:
            await connection.run(move)
        except StoreAway:
            pass  # a reader or another process holds it: the next flushes try
        except Exception as error:  # noqa: BLE001  # no flush that waits for its end is to blame
            self._context.report(error)

    async def _changing(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self.writer_conn is not None
        opened = self._opened
        if opened is None:
            return await self.writer_conn.run(work)

        def change(conn: sqlite3.Connection) -> T:
            opened.require_before()
            done = work(conn)
            opened.require_after()
            return done

        return await self.writer_conn.run(change)

    async def probe(self) -> None:
        assert self.writer_conn is not None
        if self._opened is not None:
            await self.writer_conn.run(self._opened.probe)

    async def read_size(self) -> StoreSize:
        path = self.path if self.outlives_process else None
        return await self._reading(lambda conn: _maintenance.read_size(conn, self._sql, path))

    async def create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        if not self.joins_transactions:
            return await super().create_within(connection, row)
        return await create_within(connection, self._sql, self.path, row, self._context.clock.now())

    async def send_message(self, row: SendRow) -> SendAnswer | None:
        answer = await self._changing(
            lambda conn: _messages.send(conn, self._sql, row, self._context.clock.now())
        )
        self._wrote(1, len(row.body))
        return answer

    async def read_inbox(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow] | None:
        return await self._reading(
            lambda conn: _messages.read_inbox(conn, self._sql, task_id, after, limit)
        )

    async def find_untaken(self, task_ids: Sequence[str]) -> Sequence[Untaken]:
        return await self._reading(lambda conn: _messages.find_untaken(conn, self._sql, task_ids))

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        return await self._changing(  # after the flush under way, before those in the queue
            lambda conn: _leases.extend_leases(
                conn, self._sql, owner, self._context.clock.now() + lease, task_ids
            )
        )

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        await self._changing(
            lambda conn: _leases.let_go(
                conn, self._sql, (self._context.clock.now(), task_id, attempt, owner)
            )
        )

    def make_lease_renewer(self) -> LeaseRenewer | None:
        return (
            SqliteLeaseRenewer(self.path, self._sql, self._context.clock, self._opened)
            if self._opened is not None
            else None
        )

    async def read_owners(self) -> Sequence[str]:
        return await self._reading(lambda conn: _leases.read_owners(conn, self._sql))

    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        return await self._changing(
            lambda conn: _leases.rescue(conn, self._sql, order, self._context.clock.now())
        )

    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        claimed = await self._changing(
            lambda conn: _claims.claim_due(conn, self._sql, order, self._context.clock.now)
        )
        self._wrote(len(claimed), 0)
        return claimed

    async def next_due(self, ops: Sequence[str], queues: Sequence[str] | None = None) -> int | None:
        return await self._reading(lambda conn: _claims.next_due(conn, self._sql, ops, queues))

    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        await self._changing(
            lambda conn: _claims.register_ops(conn, self._sql, ops, self._context.clock.now())
        )

    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        since = self._context.clock.now() - within
        return await self._reading(lambda conn: _claims.read_ops(conn, self._sql, since))

    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        await self._changing(
            lambda conn: _claims.tell_worker(
                conn, self._sql, owner, ops, queues, self._context.clock.now(), lease
            )
        )

    async def forget_worker(self, owner: str) -> None:
        now = self._context.clock.now()
        await self._changing(lambda conn: _claims.forget_worker(conn, self._sql, owner, now))

    async def list_workers(self, after: str, limit: int) -> Sequence[WorkerState]:
        now = self._context.clock.now()
        return await self._reading(
            lambda conn: _stops.list_workers(conn, self._sql, now, after, limit)
        )

    async def drain_worker(self, owner: str, by: str | None, reason: str) -> Drain | None:
        now = self._context.clock.now()
        return await self._changing(
            lambda conn: _stops.drain(conn, self._sql, owner, by, reason, now)
        )

    async def undrain_worker(self, owner: str) -> bool:
        return await self._changing(lambda conn: _stops.undrain(conn, self._sql, owner))

    async def find_drain(self, owner: str) -> Drain | None:
        return await self._reading(lambda conn: _stops.find_drain(conn, self._sql, owner))

    async def pause_op(self, op: str, by: str | None, reason: str) -> Pause:
        now = self._context.clock.now()
        return await self._changing(lambda conn: _stops.pause(conn, self._sql, op, by, reason, now))

    async def resume_op(self, op: str) -> Pause | None:
        return await self._changing(lambda conn: _stops.resume(conn, self._sql, op))

    async def list_pauses(self, after: str, limit: int) -> Sequence[Pause]:
        return await self._reading(lambda conn: _stops.list_pauses(conn, self._sql, after, limit))

    async def load(self, task_id: str, attempt: int, owner: str) -> AttemptState:
        return await self._reading(
            lambda conn: _rows.load_attempt(conn, self._sql, task_id, attempt)
        )

    # --- reading ----------------------------------------------------------------------------------

    async def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._reader_conn or self.writer_conn
        assert connection is not None
        try:
            done = await connection.run(work)
        except (FlushRefused, StoreAway, StoreConfigError):
            await self._check_unchanged()
            raise
        await self._check_unchanged()
        return done

    async def _check_unchanged(self) -> None:
        """Raises ``StoreAway`` where what was just read, without locks, may be half of a write."""
        if self._read_state is not None and self._read_state != FileState.of(self.path):
            new, self._read_state, versions = await self._connect_to_read()
            old, self._reader_conn = self._reader_conn, new
            if old is not None:
                await old.close()
            must_migrate(OpenMode.READ, versions, self.name)
            raise StoreAway("another process wrote to the file while it was read")

    async def get(self, task_id: str) -> Task | None:
        return await self._reading(lambda conn: _rows.get_task(conn, self._sql, task_id))

    async def note_traces(self, rows: Sequence[TraceRow]) -> None:
        assert self._writing is not None
        writing = self._writing
        await self._changing(lambda conn: writing.note_traces(conn, rows))

    async def find_traced(self, trace_id: str, limit: int) -> Sequence[TracedAttempt]:
        return await self._reading(lambda conn: _rows.find_traced(conn, self._sql, trace_id, limit))

    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        return await self._reading(lambda conn: _rows.read_traced(conn, self._sql, task_ids))

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        return await self._reading(lambda conn: _rows.find_ended(conn, self._sql, task_ids))

    async def list(
        self, wanted: TaskFilter, limit: int, before: str | None, look_at: int
    ) -> ListedTasks:
        return await self._reading(
            lambda conn: _rows.list_tasks(conn, self._sql, wanted, limit, before, look_at)
        )

    async def count(self, op: str | None, tag: str | None) -> Mapping[TaskStatus, int]:
        return await self._reading(lambda conn: _rows.count_tasks(conn, self._sql, op, tag))

    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        return await self._reading(
            lambda conn: _rows.read_tape(conn, self._sql, task_id, after_seq, limit)
        )

    async def read_quarantine(
        self, wanted: DropFilter, after: int, limit: int, look_at: int
    ) -> QuarantinePage:
        return await self._reading(
            lambda conn: _rows.read_quarantine(conn, self._sql, wanted, after, limit, look_at)
        )

    async def find_expired(self, order: ExpiredOrder) -> Sequence[Expired]:
        now = self._context.clock.now()
        return await self._reading(lambda conn: _rows.find_expired(conn, self._sql, order, now))

    async def find_followers(self, order: FollowersOrder) -> FollowersPage:
        return await self._reading(lambda conn: _rows.find_followers(conn, self._sql, order))

    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        return await self._reading(lambda conn: _rows.read_cancels(conn, self._sql, owners))

    async def read_backlog(self, fresh: int) -> Backlog:
        now = self._context.clock.now()
        if (
            fresh >= _UNHURRIED
            and self._context.open_mode.may_write
            and await self._reading(lambda conn: _backlog.count_passed(conn, self._sql, now))
            > _PASSED
        ):
            with suppress(StoreLocked):  # another session writes: they are the same unfolded
                await self.fold_backlog()
        return await self._reading(lambda conn: _backlog.read(conn, self._sql, now))

    async def fold_backlog(self) -> None:
        """Take together the numbers of the seconds that have passed."""
        now = self._context.clock.now()
        await self._changing(lambda conn: _backlog.fold_passed(conn, self._sql, now))

    # --- maintenance ------------------------------------------------------------------------------

    async def recount_backlog(self) -> Sequence[BacklogCount]:
        now = self._context.clock.now()
        return await self._reading(lambda conn: _backlog.recount(conn, self._sql, now))

    async def mend_backlog(self, by: str, *, dry_run: bool) -> Sequence[Repair]:
        now = self._context.clock.now()
        return await self._changing(
            lambda conn: _backlog.mend(conn, self._sql, now, by, dry_run=dry_run)
        )

    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        now = self._context.clock.now()
        return await self._reading(
            lambda conn: _maintenance.audit(conn, self._sql, after, limit, grace, now),
        )

    async def find_damage(self) -> Sequence[str]:
        return await self._reading(_maintenance.find_damage)

    async def repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        now = self._context.clock.now()
        return await self._changing(
            lambda conn: _repair.repair(conn, self._sql, task_id, grace, now, by, dry_run),
        )

    async def read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        return await self._reading(lambda conn: _repair.read_repairs(conn, self._sql, after, limit))

    async def due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        return await self._reading(
            lambda conn: _maintenance.due_tasks(
                conn, self._sql, cutoff, outcomes, op, after, limit
            ),
        )

    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        deleted = await self._changing(
            lambda conn: _maintenance.delete_tasks(conn, self._sql, keys)
        )
        self._wrote(len(keys) + events, 0)
        await self._shrink()
        return deleted

    async def due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        return await self._reading(
            lambda conn: _maintenance.due_drops(conn, self._sql, cutoff, after, limit),
        )

    async def delete_drops(self, keys: Sequence[int]) -> int:
        deleted = await self._changing(
            lambda conn: _maintenance.delete_drops(conn, self._sql, keys)
        )
        await self._shrink()
        return deleted

    async def _shrink(self) -> None:
        """Give the file system what is free beyond need, a few pages at a time between flushes."""
        # another process writes, or the disk is full: what went is gone, and the next batch tries
        with suppress(StoreAway):
            while pages := await self._changing(_maintenance.shrink):
                self._wrote(pages, 0)

    # --- engines ----------------------------------------------------------------------------------

    @property
    def keeps_engines(self) -> bool:
        return True

    async def read_store_id(self) -> str:
        return await self._reading(lambda conn: _engines.read_store_id(conn, self._sql))

    async def find_unconfirmed(self, engine: str, limit: int) -> Sequence[Task]:
        now = self._context.clock.now()
        return await self._reading(
            lambda conn: _rows.find_unconfirmed(conn, self._sql, engine, now, limit)
        )

    async def note_confirmed(self, task_ids: Sequence[str], again_in: int) -> None:
        at = self._context.clock.now() + again_in
        await self._changing(lambda conn: _engines.note_confirmed(conn, self._sql, task_ids, at))

    async def count_overdue(self, engine: str, late: int, limit: int) -> tuple[int, int | None]:
        before = self._context.clock.now() - late
        return await self._reading(
            lambda conn: _engines.count_overdue(conn, self._sql, engine, before, limit)
        )

    # --- leadership -------------------------------------------------------------------------------

    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        now = self._context.clock.now()
        return await self._changing(
            lambda conn: _leadership.acquire(conn, self._sql, owner, now, lease)
        )

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        now = self._context.clock.now()
        await self._changing(lambda conn: _leadership.record(conn, self._sql, owner, now, job))

    async def resign_leadership(self, owner: str) -> None:
        await self._changing(lambda conn: _leadership.resign(conn, self._sql, owner))

    async def add_schedule(self, row: Schedule) -> bool:
        return await self._changing(lambda conn: _schedules.add(conn, self._sql, row))

    async def change_schedule(self, row: Schedule) -> bool:
        return await self._changing(lambda conn: _schedules.change(conn, self._sql, row))

    async def remove_schedule(self, name: str) -> bool:
        return await self._changing(lambda conn: _schedules.remove(conn, self._sql, name))

    async def get_schedule(self, name: str) -> Schedule | None:
        return await self._reading(lambda conn: _schedules.get(conn, self._sql, name))

    async def list_schedules(self, after: str, limit: int) -> Sequence[Schedule]:
        return await self._reading(lambda conn: _schedules.list_all(conn, self._sql, after, limit))

    async def list_due_schedules(
        self, now: int, after: tuple[int, str], limit: int
    ) -> Sequence[Schedule]:
        return await self._reading(
            lambda conn: _schedules.list_due(conn, self._sql, now, after, limit)
        )

    async def next_schedule(self, after: int) -> int | None:
        return await self._reading(lambda conn: _schedules.find_next(conn, self._sql, after))

    async def acquire_firing(self, owner: str, now: int, until: int) -> bool:
        return await self._changing(
            lambda conn: _schedules.acquire(conn, self._sql, owner, now, until)
        )

    async def resign_firing(self, owner: str) -> None:
        await self._changing(lambda conn: _schedules.resign(conn, self._sql, owner))

    async def find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        return await self._reading(
            lambda conn: _maintenance.find_open(conn, self._sql, after, among, limit)
        )

    async def schema_versions(self) -> SchemaVersions:
        if not self.outlives_process or holds_nothing(self.path):
            return SchemaVersions(0, max(read_migrations()))
        connection, _, versions = await self._connect_to_read()
        await connection.close()
        return versions

    # --- other processes --------------------------------------------------------------------------

    async def watch(self) -> None:
        """Poll ``data_version``, which changes when another connection commits."""
        if not self.outlives_process:
            return  # one connection in one process: no other process can write
        backoff = Backoff()
        seen = NOTHING_SEEN
        while True:
            changes = self._context.changes
            self._context.beat()
            look = Look(
                self._sql,
                seen,
                changes.followed,
                follows_all=changes.follows_all,
                arrivals=changes.awaits_arrivals,
            )
            try:
                now_seen = await self._reading(look)
                if now_seen.version != seen.version:
                    await self._context.tell_owners()
            except (StoreAway, FlushRefused):
                seen = NOTHING_SEEN  # whatever was missed: look again
                await backoff.wait(1.0)
                continue
            if seen is NOTHING_SEEN:
                changes.publish(RESYNC)
            if now_seen.version != seen.version:
                for task_id, last_seq in now_seen.news:
                    changes.publish(Change(task_id, last_seq))
                if now_seen.arrived:
                    changes.publish_arrival()
            seen, backoff = now_seen, Backoff()
            await asyncio.sleep(_POLL)
