"""``SqliteStore``: the port on one SQLite file, for the processes of one host."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from tapescope.clock import Backoff, Clock
from tapescope.errors import BadSetting, BadStoreUrl, StoreConfigError
from tapescope.model.audit import AuditPage
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.model.leases import HeldLease
from tapescope.model.ops import KnownOp
from tapescope.model.repairs import Mended, Repair
from tapescope.model.tape import QuarantinePage, TapePage
from tapescope.model.tasks import CancelRequest, Task, TaskStatus
from tapescope.store.backend import LeaseRenewer
from tapescope.store.flush import (
    AttemptState,
    CreateRow,
    Flush,
    FlushAnswer,
    FlushRefused,
    Inserted,
    StoreAway,
)
from tapescope.store.notifications import RESYNC, Change
from tapescope.store.orders import (
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
)
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits
from tapescope_adapters._parameters import pop_patience
from tapescope_adapters._sql import load
from tapescope_adapters.sqlite import _claims, _leadership, _leases, _maintenance, _repair, _rows
from tapescope_adapters.sqlite._change_poll import NOTHING_SEEN, Look
from tapescope_adapters.sqlite._connection import Connection, check_folder, connect, translate
from tapescope_adapters.sqlite._flush import Writing
from tapescope_adapters.sqlite._lease_renewer import SqliteLeaseRenewer
from tapescope_adapters.sqlite._network_mounts import find_network_type
from tapescope_adapters.sqlite._schema import migrate, read_versions
from tapescope_adapters.sqlite._transaction import create_within
from tapescope_telemetry import Telemetry

__all__ = ["SqliteStore"]

T = TypeVar("T")

_log = logging.getLogger("tapescope")

_POLL = 0.015
"""Seconds between looks at ``data_version`` while somebody follows or runs something."""
_CHECKPOINT_EVERY = 4 * 2**20
"""Bytes written, roughly, between checkpoints."""
_CHECKPOINT_BEHIND = 32 * 2**20
"""Bytes written, roughly, since a checkpoint began, from which a flush waits for its end."""
_FLUSH_BYTES = 16_384
_ROW_BYTES = 300
"""What a commit and a row put into the log besides an event's body, roughly."""
_BATCH = 1_024
"""Calls and events in one flush where the caller sets no limits.

More than where a second lane takes the rest meanwhile: there is one writer, and half the flushes
are half the waits for the disk. 1,000 tasks, measured in turn: 28,000 events a second with 256 a
flush, 36,000 with 512, 42,000 with 1,024.
"""
_WAL_CAP = 8_192
"""Pages in the write-ahead log (32 MiB) from which it is made to start anew."""


class SqliteStore(TaskStore):
    """A store in a SQLite file: WAL, one writer connection, one reader, checkpoints on their own.

    ``url`` is ``sqlite:///relative.db``, ``sqlite:////absolute.db``, or ``sqlite:///:memory:``,
    which is one connection in one process; a ``?patience=3`` goes before the setting.
    ``durability="commit"`` survives a crash of the operating system; ``"relaxed"`` may lose the
    last commits to one, and none to a crash of the process.
    """

    adapter: ClassVar[str] = "sqlite"

    def __init__(
        self,
        url: str,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        durability: Literal["commit", "relaxed"] = "commit",
        auto_migrate: bool = True,
    ) -> None:
        if durability not in ("commit", "relaxed"):
            raise BadSetting("durability", durability, "'commit' or 'relaxed'")
        self.path, given_patience = _read_url(url)
        super().__init__(
            name=f"sqlite:///{self.path}",
            telemetry=telemetry,
            clock=clock,
            limits=limits or StoreLimits(batch=_BATCH),
            patience=given_patience or patience,
        )
        self._auto_migrate = auto_migrate
        self._synchronous = "FULL" if durability == "commit" else "NORMAL"
        self._sql = load("tapescope_adapters.sqlite")
        self._writing = Writing(self._sql, self.limits, self.clock.now)
        self._writer_conn: Connection | None = None
        self._reader_conn: Connection | None = None
        self._checkpointer: Connection | None = None
        self._checkpoint: asyncio.Task[None] | None = None
        self._unmoved = 0
        self._warned = False

    @property
    def outlives_process(self) -> bool:
        return self.path != ":memory:"

    @property
    def joins_transactions(self) -> bool:
        return self.outlives_process

    # --- life -------------------------------------------------------------------------------------

    async def _open(self) -> None:
        if self.outlives_process:
            check_folder(self.path)
            await self._warn_of_network()
        try:
            self._writer_conn = await self._connect(writes=True)
            await self._writer_conn.run(lambda conn: migrate(conn, auto=self._auto_migrate))
            if self.outlives_process:
                self._reader_conn = await self._connect(writes=False)
                self._checkpointer = await self._connect(writes=True)
        except FlushRefused as error:
            await self._close()
            raise StoreConfigError(
                f"The SQLite file {self.path} cannot be migrated ({error})."
            ) from error
        except BaseException:  # cancelled, or refused: what was opened so far would be left
            await self._close()
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

    async def _connect(self, *, writes: bool) -> Connection:
        return await connect(self.path, synchronous=self._synchronous, writes=writes)

    async def _close(self) -> None:
        if self._checkpoint is not None:
            await self._checkpoint
        for connection in (self._reader_conn, self._checkpointer, self._writer_conn):
            if connection is not None:
                await connection.close()
        self._reader_conn = self._checkpointer = self._writer_conn = None

    # --- writing ----------------------------------------------------------------------------------

    async def _write(self, flush: Flush) -> FlushAnswer:
        if self._unmoved >= _CHECKPOINT_BEHIND and self._checkpoint is not None:
            await asyncio.shield(self._checkpoint)
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

        with suppress(StoreAway):  # a reader or another process holds it: the next flushes try
            await connection.run(move)

    async def _changing(self, work: Callable[[sqlite3.Connection], T]) -> T:
        assert self._writer_conn is not None
        return await self._writer_conn.run(work)

    async def _create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        return await create_within(connection, self._sql, self.path, row, self.clock.now())

    async def _extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        return await self._changing(  # after the flush under way, before those in the queue
            lambda conn: _leases.extend_leases(
                conn, self._sql, owner, self.clock.now() + lease, task_ids
            )
        )

    def _make_lease_renewer(self) -> LeaseRenewer | None:
        return (
            SqliteLeaseRenewer(self.path, self._sql, self.clock) if self.outlives_process else None
        )

    async def _read_owners(self) -> Sequence[str]:
        return await self._reading(lambda conn: _leases.read_owners(conn, self._sql))

    async def _rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        return await self._changing(
            lambda conn: _leases.rescue(conn, self._sql, order, self.clock.now())
        )

    async def _claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        claimed = await self._changing(
            lambda conn: _claims.claim_due(conn, self._sql, order, self.clock.now())
        )
        self._wrote(len(claimed), 0)
        return claimed

    async def _next_due(self, ops: Sequence[str]) -> int | None:
        return await self._reading(lambda conn: _claims.next_due(conn, self._sql, ops))

    async def _register_ops(self, ops: Sequence[KnownOp]) -> None:
        await self._changing(
            lambda conn: _claims.register_ops(conn, self._sql, ops, self.clock.now())
        )

    async def _read_ops(self, within: int) -> Sequence[KnownOp]:
        since = self.clock.now() - within
        return await self._reading(lambda conn: _claims.read_ops(conn, self._sql, since))

    async def _load(self, task_id: str, attempt: int, owner: str) -> AttemptState | None:
        return await self._reading(
            lambda conn: _rows.load_attempt(conn, self._sql, task_id, attempt)
        )

    # --- reading ----------------------------------------------------------------------------------

    async def _reading(self, work: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._reader_conn or self._writer_conn
        assert connection is not None
        return await connection.run(work)

    async def _get(self, task_id: str) -> Task | None:
        return await self._reading(lambda conn: _rows.get_task(conn, self._sql, task_id))

    async def _find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        return await self._reading(lambda conn: _rows.find_ended(conn, self._sql, task_ids))

    async def _list(
        self, status: TaskStatus | None, op: str | None, limit: int, before: str | None
    ) -> Sequence[Task]:
        return await self._reading(
            lambda conn: _rows.list_tasks(conn, self._sql, status, op, limit, before)
        )

    async def _count(self, op: str | None) -> Mapping[TaskStatus, int]:
        return await self._reading(lambda conn: _rows.count_tasks(conn, self._sql, op))

    async def _read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        return await self._reading(
            lambda conn: _rows.read_tape(conn, self._sql, task_id, after_seq, limit)
        )

    async def _read_quarantine(self, task_id: str | None, after: int, limit: int) -> QuarantinePage:
        return await self._reading(
            lambda conn: _rows.read_quarantine(conn, self._sql, task_id, after, limit)
        )

    async def _read_cancels(
        self, owners: Sequence[str]
    ) -> Sequence[tuple[str, str, CancelRequest]]:
        return await self._reading(lambda conn: _rows.read_cancels(conn, self._sql, owners))

    # --- upkeep -----------------------------------------------------------------------------------

    async def _audit(self, after: int, limit: int, grace: int) -> AuditPage:
        now = self.clock.now()
        return await self._reading(
            lambda conn: _maintenance.audit(conn, self._sql, after, limit, grace, now),
        )

    async def _repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        now = self.clock.now()
        return await self._changing(
            lambda conn: _repair.repair(conn, self._sql, task_id, grace, now, by, dry_run),
        )

    async def _read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        return await self._reading(lambda conn: _repair.read_repairs(conn, self._sql, after, limit))

    async def _due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        return await self._reading(
            lambda conn: _maintenance.due_tasks(
                conn, self._sql, cutoff, outcomes, op, after, limit
            ),
        )

    async def _delete_tasks(self, keys: Sequence[int], events: int) -> int:
        deleted = await self._changing(
            lambda conn: _maintenance.delete_tasks(conn, self._sql, keys)
        )
        self._wrote(len(keys) + events, 0)
        await self._shrink()
        return deleted

    async def _due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        return await self._reading(
            lambda conn: _maintenance.due_drops(conn, self._sql, cutoff, after, limit),
        )

    async def _delete_drops(self, keys: Sequence[int]) -> int:
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

    async def _acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        now = self.clock.now()
        return await self._changing(
            lambda conn: _leadership.acquire(conn, self._sql, owner, now, lease)
        )

    async def _record_job(self, owner: str, job: MaintenanceJob) -> None:
        now = self.clock.now()
        await self._changing(lambda conn: _leadership.record(conn, self._sql, owner, now, job))

    async def _resign_leadership(self, owner: str) -> None:
        await self._changing(lambda conn: _leadership.resign(conn, self._sql, owner))

    async def _find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        return await self._reading(
            lambda conn: _leadership.find_open(conn, self._sql, after, among, limit)
        )

    async def _schema_versions(self) -> SchemaVersions:
        try:
            return await asyncio.to_thread(read_versions, self.path)
        except sqlite3.Error as error:
            raise translate(error) from error

    # --- other processes --------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Poll ``data_version``, which moves when anybody commits, where nothing is written."""
        if not self.outlives_process:
            return  # one connection in one process: nobody else can write
        backoff = Backoff()
        seen = NOTHING_SEEN
        while True:
            changes = self._changes
            look = Look(
                self._sql,
                seen,
                None if changes.follows_all else changes.followed,
                arrivals=changes.awaits_arrivals,
            )
            try:
                now_seen = await self._reading(look)
                if now_seen.version != seen.version:
                    await self._tell_owners()
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


def _read_url(url: str) -> tuple[str, float | None]:
    """The file's path, and the patience in seconds where the URL says so."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite" or parts.netloc:
        raise BadStoreUrl(url, "a SQLite URL has three slashes, or four before an absolute path")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    patience = pop_patience(given, url)
    if given or parts.fragment:
        raise BadStoreUrl(url, "'patience' is the only parameter of a SQLite URL")
    path = unquote(parts.path.removeprefix("/"))
    if path in ("", ":memory:"):
        return ":memory:", patience
    return str(Path(path).expanduser()), patience
