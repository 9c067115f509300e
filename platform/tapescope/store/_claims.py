"""The verbs of a worker on the port: claiming tasks that are due, and knowing when more will be."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakValueDictionary

from tapescope.clock import Backoff, Clock
from tapescope.codec import decode
from tapescope.errors import (
    BadSetting,
    EventFateUnknown,
    StoreRefused,
    TapescopeError,
)
from tapescope.model.leases import GivenUp
from tapescope.model.tape import TASK_STARTED, Event
from tapescope.model.tasks import Attempt, Claim
from tapescope.store._ops import OpVerbs
from tapescope.store._pending import TapeCursor
from tapescope.store.flush import FateUnknown, FlushBlocked, FlushRefused, StoreAway, as_unavailable
from tapescope.store.notifications import Change, Changes
from tapescope.store.orders import DueOrder, DueRow, body_of_started
from tapescope_telemetry import error_type_of

if TYPE_CHECKING:
    from tapescope_telemetry import StoreMeter

__all__ = ["ClaimSlot", "DueVerbs"]

T = TypeVar("T")


@dataclass(slots=True)
class ClaimSlot:
    """One owner's claims of due tasks: one call at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    number: int = 0
    """Of the call that is not answered yet: its reply may have been lost. 0 for none."""


class DueVerbs(OpVerbs):
    """The part of ``TaskStore`` that a worker finds its work with."""

    name: str
    patience: float
    clock: Clock
    meter: StoreMeter
    _changes: Changes
    _cursors: WeakValueDictionary[tuple[str, int, str], TapeCursor]
    _claim_slots: dict[str, ClaimSlot]
    _due_calls: int

    @abc.abstractmethod
    def _require_open(self) -> object: ...

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T: ...

    @abc.abstractmethod
    async def release(self, attempt: Attempt, reason: str = "shutdown") -> GivenUp: ...

    async def claim_due(
        self, owner: str, ops: Collection[str], limit: int, lease: float
    ) -> list[Claim]:
        """pending and due → running for ``owner``: attempt + 1 and ``task_started``, all at once.

        At most ``limit`` tasks of these ops, the longest due first, for ``lease`` seconds each, in
        one transaction that waits behind no append. A task that somebody else holds just now is
        left out, so fewer than there are may come while ``next_due`` says that one is due.

        No claim is lost on its way: when the caller is cancelled, what was claimed for it is given
        back before this returns; after an ``EventFateUnknown`` the next call of this owner hands
        out what that one claimed, while its lease lasts (docs/decisions/0008).
        """
        if lease <= 0:
            raise BadSetting("lease", lease, "a number of seconds over 0")
        if limit < 0:
            raise BadSetting("limit", limit, "a number of tasks, 0 or more")
        self._require_open()
        if not ops or not limit:
            return []
        gone = asyncio.Event()
        claiming = asyncio.ensure_future(
            self._claim_in_slot(owner, sorted(ops), limit, round(lease * 1_000_000), gone)
        )
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            gone.set()
            leaving = asyncio.ensure_future(self._give_back(claiming))
            while not leaving.done():
                with suppress(asyncio.CancelledError):  # cancelled again: the first is raised below
                    await asyncio.wait([leaving])
            leaving.result()
            raise

    async def next_due(self, ops: Collection[str]) -> int | None:
        """When the next pending task of these ops is due; ``None``: none is pending.

        In microseconds since the epoch, by the store's clock; it may be past.
        """
        if not ops:
            return None
        return await self._read("next_due", lambda: self._next_due(sorted(ops)))

    async def _claim_in_slot(
        self, owner: str, ops: Sequence[str], limit: int, lease: int, gone: asyncio.Event
    ) -> list[Claim]:
        slot = self._claim_slots.setdefault(owner, ClaimSlot())
        start = self.clock.monotonic()
        try:
            async with slot.lock:
                again = slot.number > 0
                if not again:
                    self._due_calls += 1
                    slot.number = self._due_calls
                order = DueOrder(
                    slot.number,
                    again,
                    owner,
                    ops,
                    limit,
                    lease,
                    self.clock.now(),
                    body_of_started(owner),
                )
                rows = await self._insist_on_claims(order, start, gone)
                slot.number = 0
        except TapescopeError as error:
            waited = self.clock.monotonic() - start
            self.meter.operation("claim_due", waited, error_type_of(error))
            raise
        claims = [self._settle_due(order, row) for row in rows]
        self.meter.operation("claim_due", self.clock.monotonic() - start)
        # What an earlier call claimed, whose reply was lost, may be more than this one is for.
        held = [claim for claim, row in zip(claims, rows, strict=True) if row.held_by(owner)]
        wanted = [claim for claim in held if claim.task.op in ops][:limit]
        kept = {claim.task.task_id for claim in wanted}
        await self._release_all([claim for claim in held if claim.task.task_id not in kept])
        return wanted

    async def _insist_on_claims(
        self, order: DueOrder, since: float, gone: asyncio.Event
    ) -> Sequence[DueRow]:
        """Ask, under the same number each time, until there is an answer or patience is over."""
        backoff = Backoff()
        unknown = False
        while True:
            try:
                return await self._claim_due(order)
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            except (FateUnknown, FlushBlocked, StoreAway) as error:
                unknown = unknown or isinstance(error, FateUnknown)
                left = since + self.patience - self.clock.monotonic()
                if left <= 0 or (gone.is_set() and not unknown):
                    if unknown:
                        raise EventFateUnknown(self.patience) from error
                    raise as_unavailable(self.name, error) from error
            order = order._replace(again=True)
            await backoff.wait(left)

    def _settle_due(self, order: DueOrder, row: DueRow) -> Claim:
        """Count what the database says it wrote, tell who follows here, and give a live attempt."""
        task, seq = row.task, row.started_seq
        self.meter.ledger.offer(1)
        self.meter.ledger.store(TASK_STARTED, 1)
        cursor = TapeCursor(task.task_id, row.attempt, order.owner)
        cursor.key, cursor.op, cursor.tail, cursor.offers = task.key, task.op, seq, 1
        cursor.claimed = self.clock.monotonic()
        self._cursors[task.task_id, row.attempt, order.owner] = cursor
        if self._changes.follows(task.task_id):
            body = decode(order.body(row.attempt))
            started = Event(seq, TASK_STARTED, order.ts, row.attempt, body)
            self._changes.publish(Change(task.task_id, seq, (started,)))
        return Claim(task, Attempt(task.task_id, row.attempt, order.owner, cursor))

    async def _give_back(self, claiming: asyncio.Future[list[Claim]]) -> None:
        """Release what was claimed for a caller that is gone."""
        with suppress(TapescopeError):  # the caller, who would have it raised, has been cancelled
            await self._release_all(await claiming)

    async def _release_all(self, claims: Sequence[Claim]) -> None:
        releasing = [self.release(claim.attempt, "nobody waits for it") for claim in claims]
        for released in await asyncio.gather(*releasing, return_exceptions=True):
            # A store that is away has the leases end, and the tasks rescued.
            if isinstance(released, BaseException) and not isinstance(released, TapescopeError):
                raise released
