"""The verbs of a task's later life on the port: leases, retries, and the rescue of lost runs."""

from __future__ import annotations

import abc
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tapescope.clock import Clock
from tapescope.codec import decode, encode
from tapescope.errors import BadSetting
from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.leases import GivenUp, Leases, Rescued, RescueResult
from tapescope.model.tape import ATTEMPT_FAILED, FINAL, Event, Outcome
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, Task
from tapescope.store._pending import PendingGiveUp, PendingWrite, TapeCursor
from tapescope.store.backend import LeaseRenewer, StorePrimitives
from tapescope.store.notifications import Change, Changes
from tapescope.store.orders import RescuedRow, RescueOrder
from tapescope.store.validation import StoreLimits, encode_event

if TYPE_CHECKING:
    from tapescope_telemetry import StoreMeter, Telemetry

__all__ = ["LeaseVerbs"]

T = TypeVar("T")

_log = logging.getLogger("tapescope")

_LOST = ErrorInfo(WORKER_LOST, "the process that ran it has ended, or did not renew its lease")


class LeaseVerbs(StorePrimitives):
    """The part of ``TaskStore`` that keeps a task from depending on one process."""

    telemetry: Telemetry
    clock: Clock
    limits: StoreLimits
    meter: StoreMeter
    _changes: Changes

    @abc.abstractmethod
    def _cursor(self, attempt: Attempt) -> TapeCursor: ...

    @abc.abstractmethod
    async def _written(self, name: str, call: PendingWrite) -> Any: ...

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T: ...

    async def retry_later(self, attempt: Attempt, error: ErrorInfo, run_at: int) -> GivenUp:
        """The attempt failed: ``attempt_failed`` on the tape, running → pending until ``run_at``.

        ``run_at`` is in microseconds since the epoch; one retry is spent. When a cancel is on
        record the task ends as cancelled instead, in the same transaction. Raises ``NotJson`` and
        ``EventTooLarge`` for an error that a tape cannot hold, and then nothing was written.
        """
        return await self._give_up("retry_later", attempt, error, run_at, spends=1)

    async def release(self, attempt: Attempt, reason: str = "shutdown") -> GivenUp:
        """Give the task back, for somebody else to run at once; no retry is spent.

        ``reason`` goes into the ``attempt_failed``. When a cancel is on record the task ends as
        cancelled instead, in the same transaction.
        """
        return await self._give_up("release", attempt, ErrorInfo("released", reason), None, 0)

    async def extend_leases(
        self, owner: str, lease: float, attempts: Sequence[Attempt] | None = None
    ) -> Leases:
        """The heartbeat: ``owner`` has its running tasks for ``lease`` seconds more.

        With ``attempts``, only those: a task that the owner has lost sight of, because the end of
        its run could not be written, is left for a rescue. The answer carries the cancels on
        record, so that a lost notification costs one heartbeat at most, and those of ``attempts``
        that are no longer the owner's. Never waits behind appends.
        """
        if lease <= 0:
            raise BadSetting("lease", lease, "a number of seconds over 0")
        length = round(lease * 1_000_000)
        of = None if attempts is None else [attempt.task_id for attempt in attempts]
        held = await self._read("extend_leases", lambda: self._extend_leases(owner, length, of))
        return Leases.sort(held, attempts or ())

    def make_lease_renewer(self) -> LeaseRenewer | None:
        """What goes on extending leases from another thread while this store's loop is blocked.

        ``None`` where the store has no such thing: then ``extend_leases`` is all there is.
        """
        return self._make_lease_renewer()

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Those of these tasks that have ended, for who waits to run them."""
        return await self._read("find_ended", lambda: self._find_ended(task_ids))

    async def read_owners(self) -> Sequence[str]:
        """The owners of the tasks that run, for a rescuer to see whether they live."""
        return await self._read("read_owners", self._read_owners)

    async def rescue_expired(
        self, limit: int = 100, *, ops: Collection[str] = (), dead_owners: Collection[str] = ()
    ) -> list[Rescued]:
        """Take running tasks from owners whose lease is over, or who are known to be dead.

        Each is pending again when a retry is left and its op is among ``ops``, which can be run
        again; else it fails with ``worker_lost``; with a cancel on record it ends as cancelled. The
        old attempt is fenced: what it still writes is dropped (invariant I5). At most ``limit``
        tasks, in one transaction; those that somebody else rescues just now are left out.
        """
        order = RescueOrder(
            limit,
            sorted(ops),
            sorted(dead_owners),
            self.clock.now(),
            encode({"error": _LOST.as_json()}, "error"),
            encode(FinalEvent.failed(_LOST).as_json(), "error"),
        )
        rows = await self._read("rescue_expired", lambda: self._rescue(order))
        if any(row.result is RescueResult.RETRIED for row in rows):
            self._changes.publish_arrival()
        rescued = [self._count_rescued(order, row) for row in rows]
        for one in rescued:
            self._tell_of_rescue(one)
        return rescued

    async def _give_up(
        self, name: str, attempt: Attempt, error: ErrorInfo, run_at: int | None, spends: int
    ) -> GivenUp:
        cursor = self._cursor(attempt)
        told: dict[str, Any] = {"error": error.as_json()}
        if run_at is not None:
            told["run_at"] = run_at
        body = encode_event(ATTEMPT_FAILED, told, self.limits.event_bytes)
        call = PendingGiveUp(
            self.clock.monotonic(), cursor, body, self.clock.now(), error, run_at, spends
        )
        self.meter.ledger.offer(1)
        given_up: GivenUp = await self._written(name, call)
        return given_up

    def _count_rescued(self, order: RescueOrder, row: RescuedRow) -> Rescued:
        """Count what the database says it wrote, and tell who follows here."""
        task, result, last_seq = row
        type_ = ATTEMPT_FAILED if result is RescueResult.RETRIED else FINAL
        self.meter.ledger.offer(1)
        self.meter.ledger.store(type_, 1)
        if self._changes.follows(task.task_id):
            body = decode(order.body(task, result))
            event = Event(last_seq, type_, order.ts, task.attempt, body)
            self._changes.publish(Change(task.task_id, last_seq, (event,)))
        tasks = self.telemetry.tasks
        if result is RescueResult.RETRIED:
            tasks.retried(task.op, WORKER_LOST)
        else:
            ran = 0.0 if task.claimed_at is None else (order.ts - task.claimed_at) / 1e6
            cancel = None if result is RescueResult.FAILED else task.cancel
            outcome = Outcome.FAILED if cancel is None else Outcome.CANCELLED
            tasks.finished(
                task.op,
                outcome.value,
                WORKER_LOST if cancel is None else None,
                max(0.0, ran),
                cancel_reason=None if cancel is None else cancel.reason.value,
            )
            if cancel is not None:
                tasks.cancel_finished(cancel.reason.value, max(0, order.ts - cancel.at) / 1e6)
            self.meter.tape_closed(last_seq)
        return Rescued(task, result, last_seq)

    def _tell_of_rescue(self, one: Rescued) -> None:
        task = one.task
        span = self.telemetry.start_rescue_span(
            task.op, task.task_id, task.attempt, task.owner or "", task.traceparent
        )
        cancel = None if one.result is not RescueResult.CANCELLED else task.cancel
        span.end(
            one.result.value,
            error_type=WORKER_LOST,
            message="its owner is dead, or did not renew its lease",
            cancel_reason=None if cancel is None else cancel.reason.value,
            tape_length=one.last_seq,
        )
        self.telemetry.tasks.rescued(task.op, one.result.value)
        _log.warning(
            "Task %s (%s) was taken from %s, which is dead or silent: %s.",
            task.task_id,
            task.op,
            task.owner,
            one.result.value,
        )
