"""What a store adapter implements: the port's primitives, and what it can do.

What an adapter can do is a question on the port, so that nobody asks which database it is. Each
primitive raises ``StoreAway`` when the database cannot be reached; ``_write`` raises the errors of
``tapescope.store.flush``; nothing else of a driver's leaves an adapter.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import ClassVar

from tapescope.model.leases import HeldLease
from tapescope.model.ops import KnownOp
from tapescope.model.tape import QuarantinePage, TapePage
from tapescope.model.tasks import CancelRequest, Task, TaskStatus
from tapescope.store.flush import AttemptState, CreateRow, Flush, FlushAnswer, Inserted
from tapescope.store.orders import DueOrder, DueRow, RescuedRow, RescueOrder

__all__ = ["LeaseRenewer", "StorePrimitives"]


class LeaseRenewer(abc.ABC):
    """Extends leases beside the store: in another thread's event loop, over its own connection.

    It is made in the store's loop, and used and closed in the other one; so it has nothing in
    common with the store that belongs to a loop. It connects when it is first used, and again when
    its connection was lost.
    """

    @abc.abstractmethod
    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        """As ``StorePrimitives._extend_leases``. It may be cancelled, and then be called again."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Disconnect; raises nothing for a store that is away."""


class StorePrimitives(abc.ABC):
    """The lower half of ``TaskStore``: domain steps, with no validation, retry or count."""

    adapter: ClassVar[str]
    """The metric label of this kind of store: ``sqlite``, ``postgresql``."""

    write_lanes: ClassVar[int] = 1
    """Flushes that may be under way at once."""

    @property
    @abc.abstractmethod
    def outlives_process(self) -> bool:
        """Whether another process can open the same store, now or later."""

    @property
    def joins_transactions(self) -> bool:
        """Whether a task can be created in a transaction of the caller's: ``create_within``."""
        return False

    @abc.abstractmethod
    async def _open(self) -> None:
        """Connect and migrate."""

    @abc.abstractmethod
    async def _close(self) -> None:
        """Disconnect; also after a failed ``_open``."""

    @abc.abstractmethod
    async def _write(self, flush: Flush) -> FlushAnswer:
        """Carry out a flush in one transaction: creates, claims, rows, cancels, in this order.

        The rows of ``give_ups`` make their tasks pending again, or end them (``GiveUpRow``).

        Raises ``StoreAway``, ``FateUnknown``, ``FlushRefused``, ``FlushBlocked``.
        """

    async def _create_within(self, connection: object, row: CreateRow) -> Inserted | Task:
        """Insert a task in the transaction of ``connection``, or say which stands in its place.

        Asked only of a store that ``joins_transactions``. Raises ``ConnectionRefused``,
        ``StoreAway``, ``FlushRefused``.
        """
        raise NotImplementedError

    @abc.abstractmethod
    async def _load(self, task_id: str, attempt: int, owner: str) -> AttemptState | None:
        """Where the task's tape ends and what the attempt offered last; ``None``: no such task."""

    @abc.abstractmethod
    async def _extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str] | None
    ) -> Sequence[HeldLease]:
        """Extend the owner's running tasks (``None``: all) to ``lease`` microseconds from now.

        Waits behind no append that is only queued. A task that cannot be extended just now, and is
        the owner's, is answered with ``extended=False``; it holds up no other.
        """

    def _make_lease_renewer(self) -> LeaseRenewer | None:
        """What extends leases while the store's loop is blocked; ``None``: this store has none."""
        return None

    @abc.abstractmethod
    async def _read_owners(self) -> Sequence[str]:
        """The owners of the tasks that run."""

    @abc.abstractmethod
    async def _rescue(self, order: RescueOrder) -> Sequence[RescuedRow]:
        """Take running tasks from lost owners, in one transaction: see ``rescue_expired``."""

    @abc.abstractmethod
    async def _claim_due(self, order: DueOrder) -> Sequence[DueRow]:
        """Claim due tasks in one transaction (``claim_due``); what is locked is passed over.

        The owner's same number again is answered with what its first try claimed, and claims no
        more. Raises as ``_write`` does. Waits behind no append that is only queued.
        """

    @abc.abstractmethod
    async def _next_due(self, ops: Sequence[str]) -> int | None:
        """The earliest ``run_at`` of the pending tasks of these ops."""

    @abc.abstractmethod
    async def _register_ops(self, ops: Sequence[KnownOp]) -> None:
        """Note what a worker can run, as of now, in place of what was said of these ops before."""

    @abc.abstractmethod
    async def _read_ops(self, within: int) -> Sequence[KnownOp]:
        """The ops that were noted in the last ``within`` microseconds."""

    @abc.abstractmethod
    async def _get(self, task_id: str) -> Task | None: ...

    @abc.abstractmethod
    async def _find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Those of these tasks that have ended."""

    @abc.abstractmethod
    async def _list(
        self, status: TaskStatus | None, op: str | None, limit: int, before: str | None
    ) -> Sequence[Task]: ...

    @abc.abstractmethod
    async def _count(self, op: str | None) -> Mapping[TaskStatus, int]: ...

    @abc.abstractmethod
    async def _read_tape(self, task_id: str, after_seq: int, limit: int) -> TapePage | None: ...

    @abc.abstractmethod
    async def _read_quarantine(
        self, task_id: str | None, after: int, limit: int
    ) -> QuarantinePage: ...

    @abc.abstractmethod
    async def _read_cancels(
        self, owners: Sequence[str]
    ) -> Sequence[tuple[str, str, CancelRequest]]:
        """(task id, owner, request) of these owners' running tasks that are to be cancelled."""

    @abc.abstractmethod
    async def _watch(self) -> None:
        """Publish other processes' commits until cancelled; survive the store being away.

        Publishes ``RESYNC`` once it listens and whenever a notification may have been lost.
        """
