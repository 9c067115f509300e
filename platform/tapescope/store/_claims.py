"""Claims of due tasks: one call of an owner at a time, under a number that a resend keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tapescope.clock import Backoff
from tapescope.codec import decode, encode
from tapescope.errors import EventFateUnknown, StoreClosed, StoreRefused, TapescopeError
from tapescope.model.error_codes import BAD_ROW
from tapescope.model.leases import GivenUp
from tapescope.model.tape import FINAL, Event, Outcome
from tapescope.model.tasks import Attempt, Claim, ErrorInfo, FinalEvent, TaskStatus
from tapescope.shielded import EXITS, await_child, wait_shielded
from tapescope.store._expiries import Expiries
from tapescope.store.core import StoreCore
from tapescope.store.flush import FateUnknown, FlushBlocked, FlushRefused, StoreAway, as_unavailable
from tapescope.store.messages import count_untaken
from tapescope.store.notifications import Change
from tapescope.store.orders import DueOrder, DueRow, Expired, body_of_started
from tapescope_telemetry import error_type_of
from tapescope_telemetry.logger import Logger

__all__ = ["DueClaims"]

_log = Logger("tapescope")

_ROUNDS: Final = 10
"""Claims in one call: one more each time that tasks were met which have expired."""
_EXPIRED: Final = 500
"""Tasks that have expired of which a claim has so many ended, where it met nothing else."""

_REFUSED: Final = encode(
    FinalEvent.failed(
        ErrorInfo(BAD_ROW, "its row was written past tapescope, and could not be claimed")
    ).as_json(),
    "final",
)


@dataclass(slots=True)
class ClaimSlot:
    """One owner's claims of due tasks: one call at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    number: int = 0
    """Of the call that is not answered yet: its reply may have been lost. 0 for none."""


class DueClaims:
    """One store's claims of due tasks. ``deliver`` makes a live claim of a row that was claimed;
    ``release`` gives back claims whose caller is gone; ``expiries`` end what has expired."""

    def __init__(
        self,
        core: StoreCore,
        deliver: Callable[[DueOrder, DueRow], Claim],
        release: Callable[[Attempt, str], Awaitable[GivenUp]],
        expiries: Expiries,
    ) -> None:
        self._core, self._deliver, self._release = core, deliver, release
        self._expiries = expiries
        self._slots: dict[str, ClaimSlot] = {}
        self._calls = 0

    async def claim(
        self,
        owner: str,
        ops: Sequence[str],
        limit: int,
        lease: int,
        queues: Sequence[str] | None = None,
    ) -> list[Claim]:
        """See ``TaskStore.claim_due``; ``lease`` is in microseconds."""
        gone = asyncio.Event()
        claiming = asyncio.ensure_future(
            self._claim_in_rounds(owner, ops, limit, lease, queues, gone)
        )
        try:
            return await await_child(asyncio.shield(claiming))
        except asyncio.CancelledError:
            gone.set()
            leaving = asyncio.ensure_future(self._give_back(claiming))
            await wait_shielded(leaving)
            await await_child(leaving)
            raise

    async def _claim_in_rounds(
        self,
        owner: str,
        ops: Sequence[str],
        limit: int,
        lease: int,
        queues: Sequence[str] | None,
        gone: asyncio.Event,
    ) -> list[Claim]:
        """Claim once, and again in the place of what had expired, once that is ended."""
        claims: list[Claim] = []
        for _ in range(_ROUNDS):
            try:
                found, expired = await self._claim_in_slot(
                    owner, ops, limit - len(claims), lease, queues, gone
                )
                claims += found
                if not expired or gone.is_set():
                    break
                ended = await self._expiries.end(expired)
                if not found:
                    ended += await self._expiries.look(_EXPIRED)
            except TapescopeError:
                if not claims:
                    raise
                break  # the caller is given what there is, and meets the error with its next call
            if not ended:
                break  # a session holds them, say: they are met again, or ended by a heartbeat
        return claims

    async def _claim_in_slot(
        self,
        owner: str,
        ops: Sequence[str],
        limit: int,
        lease: int,
        queues: Sequence[str] | None,
        gone: asyncio.Event,
    ) -> tuple[list[Claim], list[Expired]]:
        """What one claim has taken, and what it met that has expired."""
        slot = self._slots.setdefault(owner, ClaimSlot())
        start = self._core.clock.monotonic()
        try:
            async with slot.lock:
                again = slot.number > 0
                if not again:
                    self._calls += 1
                    slot.number = self._calls
                order = DueOrder(
                    slot.number,
                    again,
                    owner,
                    ops,
                    limit,
                    lease,
                    self._core.clock.now(),
                    body_of_started(owner),
                    _REFUSED,
                    queues,
                )
                rows = await self._insist_on_claims(order, start, gone)
                slot.number = 0
        except TapescopeError as error:
            waited = self._core.clock.monotonic() - start
            self._core.meter.operation("claim_due", waited, error_type_of(error))
            raise
        refused = [row for row in rows if row.refused]
        for row in refused:
            self._tell_of_refused(order, row)
        expired = [row.task for row in rows if row.expired]
        rows = [row for row in rows if not row.refused and not row.expired]
        claims = [self._deliver(order, row) for row in rows]
        self._core.meter.operation("claim_due", self._core.clock.monotonic() - start)
        # What an earlier call claimed, whose reply was lost, may be more than this one is for.
        held = [claim for claim, row in zip(claims, rows, strict=True) if row.held_by(owner)]
        wanted = [claim for claim in held if order.takes(claim.task)][:limit]
        kept = {claim.task.task_id for claim in wanted}
        await self._release_all([claim for claim in held if claim.task.task_id not in kept])
        await count_untaken(self._core, [row.task.task_id for row in refused])
        # Of an earlier call, whose reply was lost: it may have ended since.
        still = [task for task in expired if task.status is TaskStatus.PENDING]
        return wanted, [Expired.of(task) for task in still if task.expires_us is not None]

    def _tell_of_refused(self, order: DueOrder, row: DueRow) -> None:
        """Count what the database says it wrote, and tell who follows here, and the operator."""
        core, task = self._core, row.task
        core.meter.ledger.offer(1)
        core.meter.ledger.store(FINAL, 1)
        if core.changes.follows(task.task_id):
            final = Event(row.started_seq, FINAL, order.ts, task.attempt, decode(order.failed))
            core.changes.publish(Change(task.task_id, row.started_seq, (final,)))
        core.telemetry.tasks.finished(task.op, Outcome.FAILED.value, BAD_ROW, 0.0)
        core.meter.tape_closed(row.started_seq)
        _log.error(
            "Task %s (%s) has failed (%s): its row was written past tapescope, and the claim was "
            "refused: %s",
            task.task_id,
            task.op,
            BAD_ROW,
            row.refused,
            extra={"task_id": task.task_id, "op": task.op},
        )

    async def _insist_on_claims(
        self, order: DueOrder, since: float, gone: asyncio.Event
    ) -> Sequence[DueRow]:
        """Ask, under the same number each time, until there is an answer or patience is over."""
        backoff = Backoff()
        unknown = False
        while True:
            try:
                left = since + self._core.patience - self._core.clock.monotonic()
                claiming = self._core.backend.claim_due(order)
                return await self._core.within(claiming, left, FateUnknown)
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            except (FateUnknown, FlushBlocked, StoreAway) as error:
                unknown = unknown or isinstance(error, FateUnknown)
                left = since + self._core.patience - self._core.clock.monotonic()
                if left <= 0 or (gone.is_set() and not unknown):
                    if unknown:
                        self._core.changes.doubt()
                        raise EventFateUnknown(self._core.patience) from error
                    raise as_unavailable(self._core.name, error) from error
            order = order._replace(again=True)
            await backoff.wait(left)
            try:
                self._core.require_open()  # it may have been closed while this waited
            except StoreClosed as error:
                if unknown:
                    raise EventFateUnknown(self._core.patience) from error
                raise

    async def _give_back(self, claiming: asyncio.Future[list[Claim]]) -> None:
        """Release what was claimed for a caller that is gone."""
        with suppress(TapescopeError):  # the caller, who would have it raised, has been cancelled
            claims = await await_child(claiming)
            await self._release_all(claims)

    async def _release_all(self, claims: Sequence[Claim]) -> None:
        releasing = [
            self._release(claim.attempt, "the caller that claimed it was cancelled")
            for claim in claims
        ]
        for released in await asyncio.gather(*releasing, return_exceptions=True):
            # A store that is away has the leases end, and the tasks rescued; so has an exit, which
            # the loop has raised.
            if isinstance(released, BaseException) and not isinstance(
                released, (TapescopeError, *EXITS)
            ):
                raise released
