"""The history of a store's use: each call and its answer, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tapescope.codec import encode
from tapescope.errors import EventFateUnknown, NotJson
from tapescope.model.answers import Appended, Finished
from tapescope.model.leases import GivenUp, Rescued
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    TASK_STARTED,
    Event,
    NewEvent,
)
from tapescope.model.tasks import Attempt, CancelReason, Claim, ErrorInfo, FinalEvent, NewTask, Task
from tapescope.store.core import StoreCore
from tapescope.store.flush import CancelAnswer
from tapescope.store.leases import StoreLeases
from tapescope.store.orders import DueOrder, DueRow, RescuedRow, RescueOrder
from tapescope.store.port import TaskStore
from tapescope_telemetry import LedgerReading

__all__ = ["Follow", "History", "RecordedCall", "RecordedOrder", "Recording"]

T = TypeVar("T")


@dataclass(slots=True)
class RecordedCall:
    """A call of a store's verb and what became of it."""

    verb: str
    task_id: str
    began: int
    """Its place among all beginnings and endings of the history."""
    attempt: int = 0
    owner: str = ""
    offers: tuple[tuple[str, str], ...] = ()
    """The (type, JSON text) of each event it offered; empty text where that is not known."""
    nowait: bool = False
    ended: int | None = None
    answer: object = None
    error: BaseException | None = None

    def __str__(self) -> str:
        whose = f" of attempt {self.attempt}" if self.attempt else ""
        types = ", ".join(type_ for type_, _ in self.offers)
        told = "no answer" if self.ended is None else repr(self.error or self.answer)
        return f"{self.began}-{self.ended or ''} {self.verb}{whose} ({types}): {told}"

    @property
    def fate_known(self) -> bool:
        """Whether the caller was told what became of it. One that was cancelled, interrupted or
        closed with its loop was not."""
        told = self.error is None or isinstance(self.error, Exception)
        return self.ended is not None and told and not isinstance(self.error, EventFateUnknown)


@dataclass(slots=True)
class RecordedOrder:
    """A claim of due tasks, or a rescue: which tasks it has taken is known from its answer alone.

    What it was told of is in the history's ``calls``.
    """

    verb: str
    """``claim`` or ``rescue``."""
    owner: str
    """Who claims; empty for a rescue."""
    limit: int
    """How many tasks it takes at most."""
    began: int
    ended: int | None = None
    answered: bool = False
    cut_by: str = ""
    """The death of its process that has cut it, as ``History.died`` was told, or that its reply was
    lost for good; empty: nothing has. Its answer, if it had one, went to nobody."""


@dataclass(slots=True)
class Follow:
    """What one follower of a tape was told."""

    task_id: str
    after_seq: int
    events: list[Event] = field(default_factory=list[Event])
    ended: bool = False
    """It came to its end by itself: it was told of the ``final``."""


class History:
    """Every call of the stores that record into it; ``check`` judges it."""

    def __init__(self) -> None:
        self.calls: list[RecordedCall] = []
        """In the order in which they began."""
        self.orders: list[RecordedOrder] = []
        """In the order in which they began."""
        self.follows: list[Follow] = []
        self.began_with: LedgerReading | None = None
        """The event ledger when the recording began: other stores may have counted before."""
        self._ticks = 0

    def begin(
        self, verb: str, task_id: str, attempt: Attempt | None = None, *, nowait: bool = False
    ) -> RecordedCall:
        """Note that a call began."""
        call = RecordedCall(verb, task_id, self._tick(), nowait=nowait)
        if attempt is not None:
            call.attempt, call.owner = attempt.number, attempt.owner
        self.calls.append(call)
        return call

    def answered(self, call: RecordedCall, answer: object) -> None:
        """Note what a call was answered."""
        call.answer, call.ended = answer, self._tick()

    def failed(self, call: RecordedCall, error: BaseException) -> None:
        """Note the error with which a call ended."""
        call.error, call.ended = error, self._tick()

    @property
    def now(self) -> int:
        """The place of what began or ended last."""
        return self._ticks

    def died(self, death: str, *, began: int, at: int) -> None:
        """A process has died of ``death``, which came at ``at``; what it did began after ``began``.

        Both are places of this history (``now``). An order that was under way then, or came after
        it, and was not answered, was cut. One that was cancelled before was not: that its caller
        was cancelled loses no answer.
        """
        for order in self.orders:
            late = order.ended is None or order.ended > at
            if order.began > began and late and not order.answered:
                order.cut_by = order.cut_by or death

    async def ordered(self, order: RecordedOrder, work: Awaitable[T]) -> T:
        """Await an order's work, and note how it ends."""
        self.orders.append(order)
        try:
            answer = await work
            order.answered = True
            return answer
        except EventFateUnknown:
            order.cut_by = "a lost reply"
            raise
        finally:
            order.ended = self._tick()

    def make_order(self, verb: str, owner: str, limit: int) -> RecordedOrder:
        """An order that begins now."""
        return RecordedOrder(verb, owner, limit, self._tick())

    async def following(
        self, task_id: str, events: AsyncIterable[Event], *, after_seq: int = 0
    ) -> AsyncIterator[Event]:
        """The events of a follower, noted one by one as they pass."""
        follow = Follow(task_id, after_seq)
        self.follows.append(follow)
        async for event in events:
            follow.events.append(event)
            yield event
        follow.ended = True

    @property
    def task_ids(self) -> list[str]:
        """Every task that a call named, in the order of their first calls."""
        return list(dict.fromkeys(call.task_id for call in self.calls))

    async def noted(self, call: RecordedCall, work: Awaitable[T]) -> T:
        """Await a call's work, and note how it ends."""
        try:
            answer = await work
        except BaseException as error:  # noted, and raised on to its caller
            self.failed(call, error)
            raise
        self.answered(call, answer)
        return answer

    def _tick(self) -> int:
        self._ticks += 1
        return self._ticks


class Recording(TaskStore):
    """Mixed in before a store class, it notes every writing call in ``history``.

    ``class RecordedStore(Recording, MemoryStore): ...``
    """

    def __init__(self, *args: Any, history: History | None = None, **settings: Any) -> None:
        self.history = history or History()
        super().__init__(*args, **settings)
        if self.history.began_with is None:
            self.history.began_with = self.meter.ledger.read()

    async def create(self, new_task: NewTask) -> tuple[Task, bool]:
        """``TaskStore.create``, noted."""
        call = self.history.begin("create", new_task.task_id)
        task, new = await self.history.noted(call, super().create(new_task))
        call.task_id = task.task_id  # an idempotency key may have led to another task
        return task, new

    async def create_claimed(
        self, new_task: NewTask, owner: str, lease: float
    ) -> tuple[Task, bool, Claim | None]:
        """``TaskStore.create_claimed``, noted: it is answered with its claim."""
        task_id = new_task.task_id
        call = self.history.begin("create_claimed", task_id, Attempt(task_id, 1, owner))
        call.offers = ((TASK_STARTED, ""),)
        made = await self.history.noted(call, super().create_claimed(new_task, owner, lease))
        call.answer = made[2]
        return made

    async def claim_if_pending(self, task: Task, owner: str, lease: float) -> Claim | None:
        """``TaskStore.claim_if_pending``, noted."""
        call = self.history.begin(
            "claim", task.task_id, Attempt(task.task_id, task.attempt + 1, owner)
        )
        call.offers = ((TASK_STARTED, ""),)
        return await self.history.noted(call, super().claim_if_pending(task, owner, lease))

    async def claim_due(
        self,
        owner: str,
        ops: Collection[str],
        limit: int,
        lease: float,
        *,
        queues: Collection[str] | None = None,
    ) -> list[Claim]:
        """``TaskStore.claim_due``, noted; and so is each of its claims, once it is told of."""
        order = self.history.make_order("claim", owner, limit)
        claiming = super().claim_due(owner, ops, limit, lease, queues=queues)
        return await self.history.ordered(order, claiming)

    def _make_leases(self, core: StoreCore) -> StoreLeases:
        return RecordedLeases(core, lambda: self.history)

    def _deliver_claim(self, order: DueOrder, row: DueRow) -> Claim:
        # Here, and not where ``claim_due`` returns: some of what it claims may be given back.
        claim = super()._deliver_claim(order, row)
        call = self.history.begin("claim", claim.attempt.task_id, claim.attempt)
        call.offers = ((TASK_STARTED, ""),)
        self.history.answered(call, claim)
        return claim

    async def append(self, attempt: Attempt, events: Sequence[NewEvent]) -> Appended:
        """``TaskStore.append``, noted."""
        call = self.history.begin("append", attempt.task_id, attempt)
        call.offers = _as_offers(events)
        return await self.history.noted(call, super().append(attempt, events))

    def append_nowait(
        self, attempt: Attempt, events: Sequence[NewEvent]
    ) -> asyncio.Future[Appended]:
        """``TaskStore.append_nowait``, noted; its answer is noted when the future has it."""
        call = self.history.begin("append", attempt.task_id, attempt, nowait=True)
        call.offers = _as_offers(events)
        try:
            future = super().append_nowait(attempt, events)
        except BaseException as error:  # noted, and raised on to its caller
            self.history.failed(call, error)
            raise

        def note(done: asyncio.Future[Appended]) -> None:
            if done.cancelled():
                self.history.failed(call, asyncio.CancelledError())
            elif (error := done.exception()) is not None:
                self.history.failed(call, error)
            else:
                self.history.answered(call, done.result())

        future.add_done_callback(note)
        return future

    async def finish_if_running(self, attempt: Attempt, final: FinalEvent) -> Finished:
        """``TaskStore.finish_if_running``, noted."""
        call = self.history.begin("finish", attempt.task_id, attempt)
        call.offers = _as_offers([NewEvent(FINAL, final.as_json())])
        return await self.history.noted(call, super().finish_if_running(attempt, final))

    async def retry_later(
        self,
        attempt: Attempt,
        error: ErrorInfo,
        run_at: int,
        *,
        only_here: Task | None = None,
        why: str = "",
    ) -> GivenUp:
        """``TaskStore.retry_later``, noted."""
        call = self.history.begin("retry_later", attempt.task_id, attempt)
        call.offers = ((ATTEMPT_FAILED, ""),)
        work = super().retry_later(attempt, error, run_at, only_here=only_here, why=why)
        return await self.history.noted(call, work)

    async def release(self, attempt: Attempt, message: str = "") -> GivenUp:
        """``TaskStore.release``, noted."""
        call = self.history.begin("release", attempt.task_id, attempt)
        call.offers = ((ATTEMPT_RELEASED, ""),)
        return await self.history.noted(call, super().release(attempt, message))

    async def request_cancel(
        self,
        task_id: str,
        reason: CancelReason | str = CancelReason.USER,
        message: str = "",
        by: str | None = None,
    ) -> CancelAnswer:
        """``TaskStore.request_cancel``, noted."""
        call = self.history.begin("cancel", task_id)
        call.offers = ((FINAL, ""),)
        return await self.history.noted(call, super().request_cancel(task_id, reason, message, by))


class RecordedLeases(StoreLeases):
    """The leases of a store that records."""

    def __init__(self, core: StoreCore, history: Callable[[], History]) -> None:
        super().__init__(core)
        self._history = history

    async def rescue_expired(
        self, limit: int = 100, *, ops: Collection[str] = (), dead_owners: Collection[str] = ()
    ) -> list[Rescued]:
        """``StoreLeases.rescue_expired``, noted; and so is each task that it took."""
        history = self._history()
        work = super().rescue_expired(limit, ops=ops, dead_owners=dead_owners)
        return await history.ordered(history.make_order("rescue", "", limit), work)

    def _settle_rescued(self, order: RescueOrder, rows: Sequence[RescuedRow]) -> list[Rescued]:
        # Here, and not where ``rescue_expired`` returns: its caller may have been cancelled.
        rescued = super()._settle_rescued(order, rows)
        history = self._history()
        for one in rescued:
            lost = Attempt(one.task.task_id, one.task.attempt, one.task.owner or "")
            call = history.begin("rescue", lost.task_id, lost)
            history.answered(call, one)
        return rescued


def _as_offers(events: Sequence[NewEvent]) -> tuple[tuple[str, str], ...]:
    return tuple((event.type, _text(event.body)) for event in events)


def _text(body: Any) -> str:
    try:
        return encode(body, "event")
    except NotJson:
        return ""  # the store will refuse it: it has no text to look for
