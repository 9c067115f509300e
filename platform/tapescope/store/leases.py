"""Leases on the port: the heartbeat, and the rescue of runs whose owner was lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import cast

from tapescope.codec import decode, encode
from tapescope.errors import TapescopeError
from tapescope.model.error_codes import WORKER_LOST
from tapescope.model.leases import Leases, Rescued, RescueResult, TracedAttempt
from tapescope.model.tape import ATTEMPT_FAILED, FINAL, Event, Outcome
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, Task
from tapescope.store.backend import LeaseRenewer
from tapescope.store.core import StoreCore
from tapescope.store.messages import count_untaken
from tapescope.store.notifications import Change
from tapescope.store.orders import RescuedRow, RescueOrder
from tapescope.store.validation import check_seconds
from tapescope_telemetry.logger import Logger

__all__ = ["StoreLeases"]

_log = Logger("tapescope")

_LOST = ErrorInfo(
    WORKER_LOST,
    "the process that ran it has ended, did not renew its lease, or could not claim it",
)


class StoreLeases:
    """Keeps a task from depending on one process."""

    def __init__(self, core: StoreCore) -> None:
        self._core = core

    async def extend(
        self, owner: str, lease: float, attempts: Sequence[Attempt] | None = None
    ) -> Leases:
        """The heartbeat: ``owner`` has its running tasks for ``lease`` seconds more.

        With ``attempts``, only those: a task that the owner has lost sight of, because the end of
        its run could not be written, is left for a rescue. The answer carries the cancels on
        record, so that a lost notification costs one heartbeat at most, and those of ``attempts``
        that are no longer the owner's. Never waits behind appends.
        """
        lease = check_seconds("lease", lease, over_zero=True)
        length = round(lease * 1_000_000)
        of = None if attempts is None else [attempt.task_id for attempt in attempts]
        backend = self._core.backend
        held = await self._core.change(
            "extend_leases", lambda: backend.extend_leases(owner, length, of)
        )
        return Leases.sort(held, attempts or ())

    def make_renewer(self) -> LeaseRenewer | None:
        """What goes on extending leases from another thread while this store's loop is blocked.

        ``None`` where the store has no such thing: then ``extend`` is all there is.
        """
        return self._core.backend.make_lease_renewer()

    async def find_ended(self, task_ids: Sequence[str]) -> Sequence[Task]:
        """Those of these tasks that have ended, for who waits to run them."""
        return await self._core.read("find_ended", lambda: self._core.backend.find_ended(task_ids))

    async def read_owners(self) -> Sequence[str]:
        """The owners of the tasks that run, or that they alone can run, for a rescuer to see
        whether they live."""
        found = await self._core.read("read_owners", self._core.backend.read_owners)
        owners = cast("Sequence[object]", found)
        return [owner for owner in owners if isinstance(owner, str)]  # a bad row has none

    async def let_go(self, task_id: str, attempt: int, owner: str) -> None:
        """``owner`` cannot run a pending task that it alone could: its lease is over from now on.

        So the next rescue takes it. A task that runs, that waits for another owner or for any
        worker, or that was run since its ``attempt`` was read, stays as it is.
        """
        backend = self._core.backend
        await self._core.change("let_go", lambda: backend.let_go(task_id, attempt, owner))

    async def rescue_expired(
        self, limit: int = 100, *, ops: Collection[str] = (), dead_owners: Collection[str] = ()
    ) -> list[Rescued]:
        """Take running tasks from owners whose lease is over, or who are known to be dead.

        Pending ones, too, that the owner alone could run (``NewTask.only_by``): they fail, unless
        their op is among ``ops``.
        Each is pending again when a retry is left and its op is among ``ops``, which can be run
        again; else it fails with ``worker_lost``; with a cancel on record it ends as cancelled. The
        old attempt is fenced: what it still writes is dropped (invariant I5). At most ``limit``
        tasks, in one transaction; those that another manager rescues just now are left out.

        Where a reply was lost, the next call's answer has what that one took, so that it is
        counted: with a store that is closed before, it never is.
        """
        core = self._core
        order = RescueOrder(
            limit,
            sorted(ops),
            sorted(dead_owners),
            core.clock.now(),
            encode({"error": _LOST.as_json()}, "error"),
            encode(FinalEvent.failed(_LOST).as_json(), "error"),
        )
        rescued: list[Rescued] = []
        runs: Mapping[str, TracedAttempt] = {}
        try:
            await core.change(
                "rescue_expired",
                lambda: core.backend.rescue(order),
                lambda rows: rescued.extend(self._settle_rescued(order, rows)),
            )
            runs = await self._find_runs(rescued)
            ended = [one.task.task_id for one in rescued if one.result is not RescueResult.RETRIED]
            await count_untaken(core, ended)
        finally:  # whoever is cancelled: what was written is told of
            for one in rescued:
                self._tell_of_rescue(one, runs.get(one.task.task_id))
        return rescued

    async def _find_runs(self, rescued: Sequence[Rescued]) -> Mapping[str, TracedAttempt]:
        """The runs that were given up, by task, for links; none where the store does not say."""
        attempts = {one.task.task_id: one.task.attempt for one in rescued}
        if not attempts or not self._core.telemetry.makes_spans:
            return {}
        traced: Sequence[TracedAttempt] = ()
        with suppress(TapescopeError):
            traced = await self._core.read(
                "read_traced", lambda: self._core.backend.read_traced(list(attempts))
            )
        return {one.task_id: one for one in traced if one.attempt == attempts[one.task_id]}

    def _settle_rescued(self, order: RescueOrder, rows: Sequence[RescuedRow]) -> list[Rescued]:
        if any(row.result is RescueResult.RETRIED for row in rows):
            self._core.changes.publish_arrival()
        return [self._count_rescued(order, row) for row in rows]

    def _count_rescued(self, order: RescueOrder, row: RescuedRow) -> Rescued:
        """Count what the database says it wrote, and tell who follows here."""
        core = self._core
        task, result, last_seq, earlier = row
        order = earlier or order
        type_ = ATTEMPT_FAILED if result is RescueResult.RETRIED else FINAL
        core.meter.ledger.offer(1)
        core.meter.ledger.store(type_, 1)
        if core.changes.follows(task.task_id):
            body = decode(order.body(task, result))
            event = Event(last_seq, type_, order.ts, task.attempt, body)
            core.changes.publish(Change(task.task_id, last_seq, (event,)))
        tasks = core.telemetry.tasks
        tasks.rescued(task.op, result.value)
        if result is RescueResult.RETRIED:
            tasks.retried(task.op, WORKER_LOST)
        else:
            ran = 0.0 if task.claimed_us is None else (order.ts - task.claimed_us) / 1e6
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
                tasks.cancel_finished(cancel.reason.value, max(0, order.ts - cancel.at_us) / 1e6)
            core.meter.tape_closed(last_seq)
        return Rescued(task, result, last_seq)

    def _tell_of_rescue(self, one: Rescued, run: TracedAttempt | None) -> None:
        core, task = self._core, one.task
        span = core.telemetry.start_rescue_span(
            task.op, task.task_id, task.attempt, task.owner or "", task.traceparent, run
        )
        cancel = None if one.result is not RescueResult.CANCELLED else task.cancel
        span.end(
            one.result.value,
            error_type=WORKER_LOST,
            message="its owner is dead, did not renew its lease, or let it go",
            cancel_reason=None if cancel is None else cancel.reason.value,
            canceller=None if cancel is None else cancel.traceparent,
            tape_length=one.last_seq,
        )
        _log.warning(
            "Task %s (%s) was taken from %s, which is dead or silent, or let it go: %s.",
            task.task_id,
            task.op,
            task.owner,
            one.result.value,
            extra={
                "trace_id": run and run.trace_id,
                "span_id": run and run.span_id,
                "task_id": task.task_id,
                "op": task.op,
                "attempt": task.attempt or None,
            },
        )
