"""What a store's backend implements: all its primitives, and what it can do.

``TaskStore`` validates, times, counts and retries once, for every backend; a backend reaches one
database. What it can do is a question on it, so that no caller asks which database it is. Each
primitive raises ``StoreAway`` when the database cannot be reached; ``write`` and ``claim_due``
raise the four errors of ``tapescope.store.flush``; no error of a driver's leaves a backend.
``tapescope.testing.conformance`` is the suite that every backend passes.
"""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tapescope.clock import Clock
from tapescope.errors import ConnectionRefused
from tapescope.model.audit import AuditPage
from tapescope.model.backlog import Backlog, BacklogCount
from tapescope.model.internals import StoreLoad, StoreSize
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.model.leases import HeldLease, TracedAttempt
from tapescope.model.messages import InboxRow, SendAnswer, SendRow, Untaken
from tapescope.model.ops import Drain, KnownOp, Pause, WorkerState
from tapescope.model.repairs import Mended, Repair
from tapescope.model.schedules import Schedule
from tapescope.model.tape import DropFilter, QuarantinePage, TapePage
from tapescope.model.tasks import CancelRequest, Task, TaskFilter, TaskStatus
from tapescope.store.flush import (
    AttemptState,
    CreateRow,
    Flush,
    FlushAnswer,
    Inserted,
    TraceRow,
)
from tapescope.store.notifications import Changes
from tapescope.store.opening import OpenMode
from tapescope.store.orders import (
    DueDrop,
    DueOrder,
    DueRow,
    DueTask,
    Expired,
    ExpiredOrder,
    FollowersOrder,
    FollowersPage,
    ListedTasks,
    RescuedRow,
    RescueOrder,
    SchemaVersions,
)
from tapescope.store.roles import DatabaseRole
from tapescope.store.validation import StoreLimits

__all__ = ["BackendContext", "LeaseRenewer", "StoreBackend"]


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What a store lends its backend while it is open."""

    clock: Clock
    limits: StoreLimits
    open_mode: OpenMode
    """What this opening may do to the database; ``must_migrate`` says what follows from it."""
    instance: str
    """Names this store among those of all processes: it passes over notifications of its own."""
    changes: Changes
    """Where the backend publishes other processes' commits, and sees what is followed here."""
    tell_owners: Callable[[], Awaitable[None]]
    """Pass on the cancel requests that other processes recorded for tasks that run here."""
    count_foreign: Callable[[], None]
    """Count a notification that no store has sent, where others may notify, too."""
    beat: Callable[[], object]
    """To be called by ``watch`` whenever it moves, at least every ten seconds: one that has, and
    falls silent, is said to be stuck."""
    report: Callable[[Exception], object]
    """To be called with what work of the backend's own raised that no call waits for."""


class LeaseRenewer(abc.ABC):
    """Extends leases beside the store: in another thread's event loop, over its own connection.

    A renewer is made in the store's loop, and used and closed in the thread's: it shares nothing
    with the store that belongs to a loop. It connects when it is first used, and again when its
    connection was lost.
    """

    @abc.abstractmethod
    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        """As ``StoreBackend.extend_leases``. It may be cancelled, and then be called again."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Disconnect; raises nothing for a store that is away."""


class StoreBackend(abc.ABC):
    """One database's half of a store: domain steps, with no validation, retry or count.

    A backend is used by one ``TaskStore``, in one event loop. Times are in microseconds since the
    epoch, lengths of time in microseconds.
    """

    adapter: ClassVar[str]
    """The metric label of this kind of store: ``sqlite``, ``postgresql``."""

    write_lanes: ClassVar[int] = 1
    """Flushes that may be under way at once; one more where it raises ``FlushBlocked``."""

    name: str
    """The store as a person may see it: without a password."""

    @property
    @abc.abstractmethod
    def outlives_process(self) -> bool:
        """Whether another process can open the same store, now or later."""

    @property
    def on_one_host(self) -> bool:
        """Whether every process that has the store open runs on this host."""
        return False

    @property
    def may_hang(self) -> bool:
        """Whether a call may wait for an answer that never comes, as on a half-open network.

        The port then cancels it when its caller's patience is over, which the backend takes for a
        lost connection; ``write`` sets ``Flush.sent`` before it sends.
        """
        return False

    @property
    def joins_transactions(self) -> bool:
        """Whether a task can be created in a transaction of the caller's: ``create_within``."""
        return False

    @property
    def keeps_engines(self) -> bool:
        """Whether a task may name an engine that brings it to a worker, which ``claim_due`` then
        leaves: the four primitives under "engines" are there."""
        return False

    # --- life -------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def open(self, context: BackendContext) -> None:
        """Connect, and make or migrate the schema as far as ``context.open_mode`` allows.

        Nothing is made, and no file changed, before ``must_migrate`` has been asked. In the mode
        ``READ`` nothing is written at all, and the primitives that write are not called. May be
        called again after a ``close``, or when it failed.
        """

    @abc.abstractmethod
    async def close(self) -> None:
        """Disconnect; also after a failed ``open``."""

    @abc.abstractmethod
    async def schema_versions(self) -> SchemaVersions:
        """Asked on a connection of its own, which is closed again; ``open`` need not have been.

        Nothing is made or changed; 0 is found where there is no store.
        """

    def describe_grants(self, role: DatabaseRole, grantee: str) -> str | None:
        """What makes a database's role ``grantee`` one of this kind, for a person to run.

        ``None`` where the database has no roles. The store need not be open.
        """
        return None

    async def probe(self) -> None:  # noqa: B027  # a store that cannot tell says nothing
        """Raise what a write would end with now, and write nothing.

        ``StoreAway``, ``FlushRefused``, and ``StoreConfigError`` for what does not pass by itself.
        """

    async def read_clock(self) -> int | None:
        """The database's time, in microseconds since the epoch; ``None``: it is the process's."""
        return None

    async def read_size(self) -> StoreSize:
        """How large the store has become, at a cost that does not grow with it.

        What the role may not see, or the store does not have, is left out.
        """
        return StoreSize()

    def read_load(self) -> StoreLoad:
        """The connections that calls share: from memory, for any thread; ``queued`` is left 0."""
        return StoreLoad()

    # --- writing ----------------------------------------------------------------------------------

    @abc.abstractmethod
    async def write(self, flush: Flush) -> FlushAnswer:
        """Carry out a flush in one transaction: creates, claims, rows, cancels, in this order.

        The rows of ``give_ups`` make their tasks pending again, or end them (``GiveUpRow``).

        Raises ``StoreAway``, ``FateUnknown``, ``FlushRefused``, ``FlushBlocked``. Any other error
        is taken for a ``FlushRefused``, so none may be raised after the commit.
        """

    async def settle(self, flush: Flush) -> None:  # noqa: B027  # most have nothing to do
        """Make sure that a flush that was given up as ``FateUnknown`` is not carried out later.

        Raises ``StoreAway``. For a store whose connection may lose what it carries.
        """

    async def create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        """Insert a task in the transaction of ``connection``, or say which stands in its place.

        Raises ``ConnectionRefused``, ``StoreAway``, ``FlushRefused``.
        """
        raise ConnectionRefused(
            f"the store {self.name} has no connection but its own", "Submit without one."
        )

    async def announce(self) -> None:  # noqa: B027  # a store may have nobody to tell
        """Tell the other processes that tasks have come. Raises ``StoreAway``."""

    @abc.abstractmethod
    async def load(self, task_id: str, attempt: int, owner: str) -> AttemptState:
        """Where the task's tape ends and what the attempt offered last."""

    @abc.abstractmethod
    async def note_traces(self, rows: Sequence[TraceRow]) -> None:
        """Keep where run spans are, as ``Flush.traces`` does."""

    # --- messages ---------------------------------------------------------------------------------

    @abc.abstractmethod
    async def send_message(self, row: SendRow) -> SendAnswer | None:
        """Put a message into the inbox of its task, in one transaction; ``None``: no such task.

        Looked at in this order: the key, under which one may be there (``REPEATED``); whether the
        task has ended; how many wait. Its ``n`` is one more than the task's last. It is in before
        the task's ``final``, or refused: no moment is between. Other processes that follow the task
        are told, with a ``Change`` without events.

        An event ``message_taken`` marks the message ``n`` of its body as taken, in the transaction
        of its flush, and is refused (``FlushRefused``) where there is none that is not taken.
        """

    @abc.abstractmethod
    async def read_inbox(self, task_id: str, after: int, limit: int) -> Sequence[InboxRow] | None:
        """At most ``limit`` messages of a task, taken or not, whose ``n`` is over ``after``, by
        ``n``; ``None``: no such task. They go with the task."""

    @abc.abstractmethod
    async def find_untaken(self, task_ids: Sequence[str]) -> Sequence[Untaken]:
        """Those of these tasks that have messages which they did not take."""

    # --- claims and leases ------------------------------------------------------------------------

    @abc.abstractmethod
    async def claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        """Claim due tasks in one transaction; a task that is locked is passed over.

        Of its ops and queues (``DueOrder.takes``), the highest priority first, then the longest
        due, then the lowest key. None of an op that was paused before the call, and none for an
        owner that drains. The slots of a concurrency key, and the places in the window of its rate,
        go in this order, too, whatever the queues: those of a task that the claim does not take are
        left to a claim that does. An attempt begins no earlier than the claim has counted others.

        The owner's same number again is answered with what its first try claimed, and claims no
        more. Raises as ``write`` does. Waits behind no append that is only queued.
        """

    @abc.abstractmethod
    async def next_due(self, ops: Sequence[str], queues: Sequence[str] | None = None) -> int | None:
        """The earliest ``run_at`` of the pending tasks of these ops, without those paused; of these
        queues, or of all."""

    @abc.abstractmethod
    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        """Extend the owner's running tasks (``None``: all) to ``lease`` microseconds from now.

        Waits behind no append that is only queued. A task that cannot be extended just now, and is
        the owner's, is answered with ``extended=False``; it holds up no other.
        """

    @abc.abstractmethod
    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        """End the lease of a pending task of this attempt, if it has one, and ``owner`` or nobody
        is on it: from now on ``rescue`` takes it."""

    def make_lease_renewer(self) -> LeaseRenewer | None:
        """What extends leases while the store's loop is blocked; ``None``: this store has none."""
        return None

    @abc.abstractmethod
    async def read_owners(self) -> Sequence[str]:
        """The owners of the tasks that run, and those on pending tasks."""

    @abc.abstractmethod
    async def rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        """Take tasks from lost owners, in one transaction (``RescueOrder.takes``).

        A store whose replies can be lost gives, besides or instead, what earlier calls took whose
        reply was lost, each row with its ``order``: every row is given once.
        """

    @abc.abstractmethod
    async def read_cancels(self, owners: Sequence[str]) -> Sequence[tuple[str, str, CancelRequest]]:
        """(task id, owner, request) of these owners' running tasks that are to be cancelled."""

    @abc.abstractmethod
    async def find_followers(self, order: FollowersOrder) -> FollowersPage:
        """At most ``limit`` tasks that have not ended, have no cancel on record and are to be
        cancelled with their parents (``cancel_with_parent``), whose parents have ended as
        cancelled; in the order of (parent, child), behind ``after``.

        It is asked at each heartbeat: where no such task is open it costs nothing, and where there
        are many it looks at ``parents`` parents at the most and says where the next look begins. A
        store of few tasks may look at all.
        """

    @abc.abstractmethod
    async def find_expired(self, order: ExpiredOrder) -> Sequence[Expired]:
        """At most ``limit`` pending tasks of no attempt whose ``expires_in`` is over, whatever they
        wait for (a worker, a slot, an engine, the end of a pause), in the order of (since when,
        key), behind ``after``.

        It is asked at each heartbeat: where none has expired it costs one look, however much waits.
        A store of few tasks may look at all (``ExpiredOrder.pick``).
        """

    @abc.abstractmethod
    async def register_ops(self, ops: Sequence[KnownOp]) -> None:
        """Record what a worker can run, as of now, in place of what was recorded of these ops."""

    @abc.abstractmethod
    async def read_ops(self, within: int) -> Sequence[KnownOp]:
        """The ops that were registered in the last ``within`` microseconds."""

    @abc.abstractmethod
    async def tell_worker(
        self, owner: str, ops: Sequence[str], lease: int, queues: Sequence[str] | None = None
    ) -> None:
        """Record that a worker lives for ``lease`` microseconds more, which ops it can run, and
        from which queues it takes them; ``None``: from all."""

    @abc.abstractmethod
    async def forget_worker(self, owner: str) -> None:
        """Record that a worker lives no more, if it was known."""

    @abc.abstractmethod
    async def list_workers(self, after: str, limit: int) -> Sequence[WorkerState]:
        """At most ``limit`` workers that were told of, and other owners of tasks that run, by
        owner, by keyset: owners over ``after``. A worker that died is left out in the end."""

    @abc.abstractmethod
    async def drain_worker(self, owner: str, by: str | None, reason: str) -> Drain | None:
        """Have ``claim_due`` give this owner nothing; gives what stands, which is the first call's.

        ``None``: no such worker was told of, and nothing is recorded. It goes with the worker.
        """

    @abc.abstractmethod
    async def undrain_worker(self, owner: str) -> bool:
        """End a drain, if there is one; says whether such a worker was told of."""

    @abc.abstractmethod
    async def find_drain(self, owner: str) -> Drain | None:
        """The drain of an owner."""

    @abc.abstractmethod
    async def pause_op(self, op: str, by: str | None, reason: str) -> Pause:
        """Have ``claim_due`` and ``next_due`` leave this op out, in every process; gives what
        stands, which is the first call's. A claim that begins when this has returned obeys it."""

    @abc.abstractmethod
    async def resume_op(self, op: str) -> Pause | None:
        """End a pause, and give it, if there is one."""

    @abc.abstractmethod
    async def list_pauses(self, after: str, limit: int) -> Sequence[Pause]:
        """At most ``limit`` pauses, by the name of the op, by keyset: names over ``after``."""

    # --- engines: for a store that keeps them -----------------------------------------------------

    async def read_store_id(self) -> str:
        """What names this store among all, for as long as there is its schema: a few letters and
        digits."""
        raise NotImplementedError

    async def find_unconfirmed(self, engine: str, limit: int) -> Sequence[Task]:
        """Pending tasks of an engine that it is to be asked about by now: those that it was never
        asked about first, then those whose time for it came first."""
        raise NotImplementedError

    async def note_confirmed(self, task_ids: Sequence[str], again_in: int) -> None:
        """The engine has these: ``find_unconfirmed`` leaves them out for so many microseconds."""
        raise NotImplementedError

    async def count_overdue(self, engine: str, late: int, limit: int) -> tuple[int, int | None]:
        """How many of an engine's pending tasks it should have been asked about ``late``
        microseconds ago, at most ``limit``, and since when the first."""
        raise NotImplementedError

    @abc.abstractmethod
    async def watch(self) -> None:
        """Publish other processes' commits until cancelled; survive the store being away.

        It is begun anew when it raises. It calls ``context.beat`` while it moves, or never.
        Publishes ``RESYNC`` once it listens and whenever a notification may have been lost.
        """

    # --- reading ----------------------------------------------------------------------------------

    @abc.abstractmethod
    async def get(self, task_id: str) -> Task | None:
        """The task as its row stands."""

    @abc.abstractmethod
    async def find_traced(self, trace_id: str, limit: int) -> Sequence[TracedAttempt]:
        """The attempts whose run spans are in this trace, by the keys of their tasks."""

    @abc.abstractmethod
    async def read_traced(self, task_ids: Sequence[str]) -> Sequence[TracedAttempt]:
        """The attempts of these tasks whose run spans were recorded, by task and attempt."""

    @abc.abstractmethod
    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Those of these tasks that have ended."""

    @abc.abstractmethod
    async def list(
        self, wanted: TaskFilter, limit: int, before: str | None, look_at: int
    ) -> ListedTasks:
        """At most ``limit`` tasks, newest first, by keyset: ids below ``before``.

        It looks at ``look_at`` tasks at most, so that what is rare costs no scan of the store;
        where it could not look at all, it says how far it has come.
        """

    @abc.abstractmethod
    async def count(self, op: str | None, tag: str | None) -> Mapping[TaskStatus, int]:
        """How many tasks of this op, with this tag, there are of each status; a status without any
        may be left out."""

    @abc.abstractmethod
    async def read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None:
        """At most ``limit`` events after ``after_seq``, in order; ``None``: no such task."""

    @abc.abstractmethod
    async def read_quarantine(
        self, wanted: DropFilter, after: int, limit: int, look_at: int
    ) -> QuarantinePage:
        """At most ``limit`` dropped events, oldest first, by keyset: numbers over ``after``.

        Where ``wanted`` is ``by_time`` it looks at ``look_at`` events at most, and ``next`` says
        how far it has come. The counts are the task's, or the store's, whatever their time, where
        it is ``counted``; nothing is counted where it is not.
        """

    @abc.abstractmethod
    async def read_backlog(self, fresh: int) -> Backlog:
        """How much waits and runs, read by any process at most ``fresh`` microseconds ago.

        It costs the same however much waits, and holds up no flush. Asked for less than a second
        it waits for no lock: a submit asks so, which may stand in a caller's transaction. A backend
        whose numbers are cheap to read reads them each time.
        """

    # --- maintenance ------------------------------------------------------------------------------

    @abc.abstractmethod
    async def recount_backlog(self) -> Sequence[BacklogCount]:
        """The numbers of ``read_backlog`` by op and state, each beside a count of the tasks, as of
        one moment; ``held`` is a state here, too."""

    @abc.abstractmethod
    async def mend_backlog(self, by: str, *, dry_run: bool) -> Sequence[Repair]:
        """Set the numbers to what a count gives, in one transaction with its entry in the log."""

    @abc.abstractmethod
    async def audit(self, after: int, limit: int, grace: int) -> AuditPage:
        """A page of the audit, as of one moment, of the tasks whose keys are over ``after``."""

    async def find_damage(self) -> Sequence[str]:
        """What is broken in the database's own file, in its words; all of it is read.

        Empty where all is well, and where the database looks after that itself.
        """
        return ()

    @abc.abstractmethod
    async def repair(self, task_id: str, grace: int, by: str, dry_run: bool) -> Mended | None:
        """Mend a task, with the guards in the way taken off for this transaction alone.

        ``left`` is what the audit finds afterwards, as of the same transaction, but for a task that
        is handed to the rescue. ``None``: there is no such task.
        """

    @abc.abstractmethod
    async def read_repairs(self, after: int, limit: int) -> Sequence[Repair]:
        """The repair log after its entry ``after``, oldest first."""

    @abc.abstractmethod
    async def due_tasks(
        self, cutoff: int, outcomes: Sequence[str], op: str | None, after: int, limit: int
    ) -> Sequence[DueTask]:
        """The ``limit`` tasks after ``after``, whether due or not: flat, however many there are."""

    @abc.abstractmethod
    async def delete_tasks(self, keys: Sequence[int], events: int) -> int:
        """Delete these of the tasks that have ended, in one transaction; how many there were."""

    @abc.abstractmethod
    async def due_drops(self, cutoff: int, after: int, limit: int) -> Sequence[DueDrop]:
        """The ``limit`` kept late events after ``after``, whether due or not."""

    @abc.abstractmethod
    async def delete_drops(self, keys: Sequence[int]) -> int:
        """Delete these late events, in one transaction; how many there were."""

    @abc.abstractmethod
    async def find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]:
        """The highest key of any task, and keys of tasks that have not ended: those ``among``
        these, and at most ``limit`` of those over ``after``, from the oldest on."""

    # --- leadership -------------------------------------------------------------------------------

    @abc.abstractmethod
    async def acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        """Acquire or renew leadership; ``None`` while another owner leads."""

    @abc.abstractmethod
    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        """Record that ``job`` was done now; records nothing when ``owner`` does not lead."""

    @abc.abstractmethod
    async def resign_leadership(self, owner: str) -> None:
        """Give up leadership, if ``owner`` has it."""

    # --- schedules --------------------------------------------------------------------------------

    @abc.abstractmethod
    async def add_schedule(self, row: Schedule) -> bool:
        """Insert a row, unless there is one of its name; whether it was inserted."""

    @abc.abstractmethod
    async def change_schedule(self, row: Schedule) -> bool:
        """Write a row, with a revision that is one more, if the one that is there has the revision
        of ``row``; whether it had. ``created_us`` is left as it is."""

    @abc.abstractmethod
    async def remove_schedule(self, name: str) -> bool:
        """Delete a row; whether there was one."""

    @abc.abstractmethod
    async def get_schedule(self, name: str) -> Schedule | None:
        """The row of this name."""

    @abc.abstractmethod
    async def list_schedules(self, after: str, limit: int) -> Sequence[Schedule]:
        """At most ``limit`` rows, by name in the order of its bytes, of names over ``after``."""

    @abc.abstractmethod
    async def list_due_schedules(
        self, now: int, after: tuple[int, str], limit: int
    ) -> Sequence[Schedule]:
        """At most ``limit`` rows that are not paused, with ``next_us`` up to ``now``, by
        (``next_us``, name), of those over ``after``."""

    @abc.abstractmethod
    async def next_schedule(self, after: int) -> int | None:
        """The lowest ``next_us`` over ``after`` of a row that is not paused."""

    @abc.abstractmethod
    async def acquire_firing(self, owner: str, now: int, until: int) -> bool:
        """Have ``owner`` be who fires until then; whether it is.

        Not while another owner's time is not over at ``now``. One that lies further ahead than
        twice this lease was taken by a clock that was wrong, and does not count.
        """

    @abc.abstractmethod
    async def resign_firing(self, owner: str) -> None:
        """End the time of ``owner``, if it is who fires."""
