"""Group commit: concurrent calls folded into one transaction a flush, shared by every adapter.

There is no timer: what arrives while a flush is under way is the next one. The rules, each with a
test:

* A task is in at most one flush at a time, and its events keep their order.
* ``seq`` is given out when a flush is built and kept only after its commit, so a withdrawn or
  refused call leaves no hole (invariant I3).
* A flush whose fate is unknown is resent unchanged before anything else of its tasks (invariant
  I6).
* A refused flush is split until only the guilty call is left; its neighbours are stored.
* A blocked flush, in which a call waits for a lock of another session's, goes to a lane of its own,
  is split there, and the blocked call tried again there: nobody else waits for the lock.
* Finishes, claims and cancels are taken before appends.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from tapescope.clock import Backoff
from tapescope.errors import (
    EventFateUnknown,
    StoreBusy,
    StoreClosed,
    StoreRefused,
    StoreUnavailable,
    TapescopeError,
)
from tapescope.model.tape import Event
from tapescope.shielded import EXITS, raise_defect
from tapescope.store._pending import (
    Doubt,
    PendingBirth,
    PendingCancel,
    PendingClaim,
    PendingCreate,
    PendingEvents,
    PendingFinish,
    PendingGiveUp,
    PendingWrite,
    TapeCursor,
)
from tapescope.store._results import Batch, RowRange, StoreContext, deliver, deliver_recalled, fail
from tapescope.store.flush import (
    AttemptState,
    EventRow,
    FateUnknown,
    Flush,
    FlushAnswer,
    FlushBlocked,
    FlushRefused,
    GiveUpRow,
    StoreAway,
    TraceRow,
    as_unavailable,
)

__all__ = ["LEAST_TRY", "GroupCommit"]

LEAST_TRY: Final = 0.1
"""The part of a store's patience that a try has at the least, however long its call has waited."""

_SECOND_LANE_FROM: Final = 64
"""Waiting events from which a second lane pays: +32 to 76 % on appends, a loss below."""

_PARKED: Final = 0.1
"""Seconds after which a call whose row another session holds is tried again."""

_TOGETHER: Final = 0.1
"""Seconds within which calls that run out of patience are given up together."""


class GroupCommit:
    """The write queue of one store, and the lanes that drain it."""

    def __init__(
        self,
        context: StoreContext,
        write: Callable[[Flush], Awaitable[FlushAnswer]],
        load: Callable[[TapeCursor, float], Awaitable[AttemptState]],
        recall: Callable[[TapeCursor, float], Awaitable[Event | None]],
        *,
        lanes: Sequence[str],
        batch: int,
        queue: int,
        may_hang: bool = False,
    ) -> None:
        self._context = context
        self._write_once = write
        self._load = load
        self._recall = recall
        self._may_hang = may_hang
        self._batch = batch
        self._limit = queue
        self._free_lanes = list(reversed(lanes))
        self._lanes = len(lanes)
        self._blocked_lane = f"{lanes[0]}/blocked"
        self._numbers = dict.fromkeys([*lanes, self._blocked_lane], 0)
        self._running: set[asyncio.Task[None]] = set()
        self._urgent: deque[TapeCursor | PendingClaim | PendingCancel] = deque()
        self._creates: deque[PendingCreate] = deque()
        self._ready: deque[TapeCursor] = deque()
        self._blocked: deque[_Blocked] = deque()
        self._blocked_lane_runs = False
        self._parked: set[asyncio.TimerHandle] = set()
        self._room: deque[asyncio.Future[None]] = deque()
        self._waiting = 0
        self._flying = 0
        self._closed = False
        self._idle: asyncio.Future[None] | None = None

    @property
    def waiting(self) -> int:
        """Calls and events that wait for a flush."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether an append has to wait for room."""
        return self._waiting >= self._limit

    async def make_room(self) -> None:
        """Wait while the queue is full: back-pressure for appends, and only for them."""
        while self.full and not self._closed:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._room.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._let_in()  # its place goes to the next caller
                raise

    def enqueue(self, call: PendingWrite) -> None:
        """Queue a call for the next flush. Raises ``StoreClosed``."""
        if self._closed:
            raise StoreClosed
        self._waiting += call.size
        if isinstance(call, PendingEvents):
            cursor = call.cursor
            cursor.queue.append(call)
            self._list(cursor, urgent=call.finishes)
        else:
            self._requeue(call)
        self._wake()

    def withdraw(self, call: PendingWrite) -> None:
        """Take a call whose caller is gone out of the queue, unless its flush is under way."""
        if call.in_flight or call.withdrawn or (call.future.done() and not call.future.cancelled()):
            return
        call.withdrawn = True
        self._waiting -= call.size
        if isinstance(call, PendingEvents):
            waiting = call.cursor.held if call in call.cursor.held else call.cursor.queue
            waiting.remove(call)
        elif isinstance(call, PendingCreate):
            with suppress(ValueError):  # a parked call is in no queue
                self._creates.remove(call)
        elif isinstance(call, PendingClaim | PendingCancel):
            with suppress(ValueError):  # a parked call is in no queue
                self._urgent.remove(call)
        fail(self._context, call, asyncio.CancelledError())
        self._rest_if_idle()
        self._let_in()

    async def aclose(self) -> None:
        """Take no more calls and wait until all that were taken are answered."""
        self._closed = True
        self._let_in()
        if self._running or self._waiting:
            self._idle = asyncio.get_running_loop().create_future()
            await self._idle

    # --- choosing what goes into a flush ----------------------------------------------------------

    def _requeue(self, call: PendingWrite) -> None:
        if isinstance(call, PendingCreate):
            self._creates.append(call)
        elif isinstance(call, PendingClaim) or isinstance(call, PendingCancel):  # noqa: SIM101  # a union is made anew each time
            self._urgent.append(call)

    def _list(self, cursor: TapeCursor, *, urgent: bool) -> None:
        if cursor.busy:
            return  # listed again when its flush has ended
        if urgent:
            self._urgent.append(cursor)
        elif not cursor.ready:
            self._ready.append(cursor)
        cursor.ready = True

    def _wake(self) -> None:
        if not self._free_lanes:
            return
        if len(self._free_lanes) < self._lanes and self._waiting - self._flying < _SECOND_LANE_FROM:
            return
        lane = asyncio.get_running_loop().create_task(
            self._drain(self._free_lanes.pop()),
            name="tapescope-lane",
            context=contextvars.Context(),  # it serves many callers: none of their spans is its own
        )
        self._running.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _wake_blocked(self) -> None:
        if self._blocked_lane_runs:
            return
        self._blocked_lane_runs = True
        lane = asyncio.get_running_loop().create_task(
            self._drain_blocked(), name="tapescope-blocked-lane", context=contextvars.Context()
        )
        self._running.add(lane)
        lane.add_done_callback(self._lane_ended)

    def _lane_ended(self, lane: asyncio.Task[None]) -> None:
        self._running.discard(lane)
        if lane.cancelled() or isinstance(lane.exception(), EXITS):  # perhaps before it had begun
            self._closed = True
            while self._blocked:
                self._give_up(self._blocked.popleft().calls, StoreClosed())
            while calls := self._take():
                self._give_up(calls, StoreClosed())
        else:
            raise_defect(lane)
        self._rest_if_idle()

    def _rest_if_idle(self) -> None:
        at_rest = not self._running and not self._waiting
        if at_rest and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def _drain(self, lane: str) -> None:
        calls: Sequence[PendingWrite] = ()
        try:
            while True:
                await asyncio.sleep(0)  # callers that are woken together queue together
                calls = self._take()
                if not calls:
                    break
                if self._context.meter.hears_waits():
                    self._context.meter.waited(
                        self._context.clock.monotonic() - min(call.since for call in calls)
                    )
                if blocked := await self._commit(lane, calls, hand_over=True):
                    self._blocked.append(blocked)
                    self._wake_blocked()
                    handed = set(blocked.calls)
                    calls = [call for call in calls if call not in handed]
                self._release(calls)
                calls = ()
        except (asyncio.CancelledError, *EXITS):
            self._give_up(calls, EventFateUnknown(0.0))
            raise
        finally:
            self._free_lanes.append(lane)

    async def _drain_blocked(self) -> None:
        """Split what was blocked, and try the blocked calls again, while the others go on."""
        calls: Sequence[PendingWrite] = ()
        try:
            while self._blocked:
                calls, error = self._blocked.popleft()
                if error is None:
                    await self._commit(self._blocked_lane, calls)
                else:
                    await self._split(self._blocked_lane, calls, error)
                self._release(calls)
                calls = ()
                self._wake()
        except (asyncio.CancelledError, *EXITS):
            self._give_up(calls, EventFateUnknown(0.0))
            raise
        finally:
            self._blocked_lane_runs = False

    def _give_up(self, calls: Sequence[PendingWrite], error: Exception) -> None:
        """Only a loop that ends ends a lane so: those who wait must not wait on for ever."""
        self._closed = True
        answered = [call for call in calls if call.future.done() and not call.future.cancelled()]
        self._reject([call for call in calls if call not in answered], error)
        self._release(calls)

    def _take(self) -> list[PendingWrite]:
        """The next flush's calls: finishes, claims and cancels, then creates, then appends."""
        taken: list[PendingWrite] = []
        room = self._batch
        while self._urgent and room > 0:
            first = self._urgent.popleft()
            room -= self._take_cursor(first, taken) if isinstance(first, TapeCursor) else 1
            if not isinstance(first, TapeCursor):
                taken.append(first)
        while self._creates and room > 0:
            taken.append(self._creates.popleft())
            room -= 1
        while self._ready and room > 0:
            room -= self._take_cursor(self._ready.popleft(), taken)
        self._fly(taken)
        return taken

    def _fly(self, calls: Iterable[PendingWrite]) -> None:
        for call in calls:
            call.in_flight = True
            self._flying += call.size

    def _take_cursor(self, cursor: TapeCursor, taken: list[PendingWrite]) -> int:
        """Take a cursor's calls up to its ``final``: what comes after that is for a later flush."""
        cursor.ready = False
        if cursor.busy or not cursor.queue:
            return 0
        cursor.busy = True
        if len(cursor.queue) == 1:  # nearly always
            taken += cursor.queue
            cursor.flying = cursor.queue.pop().size
            return cursor.flying
        size = count = 0
        for call in cursor.queue:
            count += 1
            size += call.size
            if call.finishes or size >= self._batch:
                break
        taken += cursor.queue[:count]
        del cursor.queue[:count]
        cursor.flying = size
        return size

    def _release(self, calls: Iterable[PendingWrite]) -> None:
        """After a flush: its tapes may be in the next one, and waiting appends have room."""
        parked: list[PendingWrite] = []
        for call in calls:
            self._flying -= call.size
            if not call.in_flight:
                parked.append(call)
                continue
            self._waiting -= call.size
            if isinstance(call, PendingEvents) and call.cursor.busy and not call.cursor.held:
                self._free(call.cursor)
        for call in parked:
            self._unpark_later(call)
        self._let_in()

    def _free(self, cursor: TapeCursor) -> None:
        cursor.busy = False
        cursor.flying = 0
        if cursor.queue:
            self._list(cursor, urgent=any(call.finishes for call in cursor.queue))

    def _let_in(self) -> None:
        """Give the room there is to those that wait for it; once closed, send them all away."""
        room = self._limit - self._waiting
        while self._room and (room > 0 or self._closed):
            turn = self._room.popleft()
            if not turn.done():  # else its caller is gone
                turn.set_result(None)
                room -= 1

    # --- one flush --------------------------------------------------------------------------------

    async def _commit(
        self, lane: str, calls: Sequence[PendingWrite], *, hand_over: bool = False
    ) -> _Blocked | None:
        """Write these calls; every one of them is answered, or parked, when this returns.

        With ``hand_over`` a blocked flush is not split here: it is what this returns.
        """
        while calls:
            answer: FlushAnswer | None = None
            try:
                calls = await self._learn_tails(calls)
                if not calls:
                    break
                batch = self._build(lane, calls)
                answer = await self._write(batch.flush, calls)
                deliver(self._context, batch, answer)
            except FlushBlocked as error:
                if hand_over:
                    return _Blocked(calls, error)
                await self._split(lane, calls, error)
            except FlushRefused as error:
                await self._split(lane, calls, error)
            except StoreUnavailable as error:
                calls = self._reject_impatient(calls, error)
                continue
            except EventFateUnknown as error:
                self._reject(calls, error)
            except Exception as error:  # noqa: BLE001  # a defect must reach the callers, not hang them
                if answer is None:  # nothing was written: one call's fault is not the others'
                    await self._split(lane, calls, FlushRefused(_describe(error)), error)
                else:
                    self._reject([call for call in calls if not call.future.done()], error)
            break
        return None

    async def _learn_tails(self, calls: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
        """Read where tapes end that must be; gives the calls that are not answered by that."""
        answered: set[PendingWrite] = set()
        for call in calls:
            if not isinstance(call, PendingEvents) or call.cursor.key is not None:
                continue
            cursor = call.cursor
            if cursor.doubt is not None and isinstance(call, PendingGiveUp):
                event = await self._recall(cursor, call.since)
                if event is not None:
                    deliver_recalled(self._context, call, event)
                    answered.add(call)
                    continue
            state = await self._load(cursor, call.since)
            cursor.key, cursor.op, cursor.tail = state.key, state.op, state.last_seq
            cursor.offers = max(cursor.offers, state.last_offer)
        return [call for call in calls if call not in answered] if answered else calls

    def _build(self, lane: str, calls: Iterable[PendingWrite]) -> Batch:
        self._numbers[lane] += 1
        flush = Flush(lane, self._numbers[lane], was_blocked=lane == self._blocked_lane)
        batch = Batch(flush)
        rows, sources, ranges = flush.rows, flush.sources, batch.ranges
        # What the calls of a named tuple come to, and much faster.
        make: Callable[..., Any] = getattr(tuple, "__new__")  # noqa: B009  # pyright knows it in part
        tails: dict[TapeCursor, int] = {}
        for call in calls:
            if isinstance(call, PendingEvents):
                cursor = call.cursor
                if cursor.untraced is not None and cursor not in tails:
                    flush.traces.append(TraceRow(cursor.key or 0, cursor.attempt, *cursor.untraced))
                seq = tails.get(cursor, cursor.tail)
                start = len(rows)
                if isinstance(call, PendingGiveUp):
                    flush.give_ups.append(GiveUpRow(start, call.run_at, call.spends, *call.bound))
                key, attempt, owner = cursor.key or 0, cursor.attempt, cursor.owner
                offer = cursor.offers
                for type_, body, ts in call.events:
                    seq += 1
                    offer += 1
                    rows.append(make(EventRow, (key, seq, attempt, offer, type_, ts, body, owner)))
                    sources.append(cursor)
                cursor.offers = offer
                tails[cursor] = seq
                ranges.append(make(RowRange, (call, start, len(rows))))
            elif isinstance(call, PendingCreate):
                if isinstance(call, PendingBirth):
                    call.claim_place = len(flush.claims)
                    flush.claims.append(call.claim._replace(key=-1 - len(flush.creates)))
                    batch.claims.append(call)
                flush.creates.append(call.row)
                batch.creates.append(call)
            elif isinstance(call, PendingClaim):
                flush.claims.append(call.row)
                batch.claims.append(call)
            elif isinstance(call, PendingCancel):
                flush.cancels.append(call.row)
                batch.cancels.append(call)
        return batch

    async def _write(self, flush: Flush, calls: Iterable[PendingWrite]) -> FlushAnswer:
        """Write a flush, again and unchanged while the store is away or its fate is unknown.

        Once the oldest call has waited as long as the store's patience, it raises
        ``StoreUnavailable`` (nothing was written), or ``EventFateUnknown`` where a reply was lost.
        A resend that is blocked, perhaps by the first try itself, tells nothing of the fate. Half
        of the patience is left for a resend where a try may hang.
        """
        context = self._context
        deadline = min(call.since for call in calls) + context.patience
        least = context.patience * LEAST_TRY
        unknown = False
        backoff = Backoff()
        tries = 0
        while True:
            limit: float | None = None
            if self._may_hang:
                left = deadline - context.clock.monotonic()
                limit = max(min(left, context.patience / 2), least)
            tries += 1
            asked = context.clock.monotonic()
            cause: Exception
            try:
                async with asyncio.timeout(limit):
                    answer = await self._write_once(flush)
                context.changes.note_answer()
                if tries == 1 and context.due_clock.told:  # a later answer may be the first try's
                    context.due_clock.note(answer.now, asked)
                return answer
            except TimeoutError:
                cause = (FateUnknown if flush.sent else StoreAway)("it does not answer")
            except (FateUnknown, FlushBlocked, StoreAway) as error:
                if isinstance(error, FlushBlocked) and not unknown:
                    raise
                cause = error
            except FlushRefused:
                raise
            except EventFateUnknown:
                self._doubt(flush, calls)
                raise
            except Exception as error:  # of a resend, a defect tells nothing of the first try
                if not unknown:
                    raise
                cause = error
            if isinstance(cause, FateUnknown) and not unknown:
                unknown = True
                deadline = max(deadline, context.clock.monotonic() + least)
            left = deadline - context.clock.monotonic()
            if left <= 0:
                if unknown:
                    self._doubt(flush, calls)
                    raise EventFateUnknown(context.patience) from cause
                raise as_unavailable(context.name, cause) from cause
            await backoff.wait(left)

    def _doubt(self, flush: Flush, calls: Iterable[PendingWrite]) -> None:
        """The fate of a flush is not known: the ends of its tapes are read before they are written,
        and who follows looks when the store answers."""
        self._context.changes.doubt()
        place = 0
        for call in calls:  # its rows are in their order
            if isinstance(call, PendingEvents):
                call.cursor.key = None
                if isinstance(call, PendingGiveUp | PendingFinish):
                    call.cursor.doubt = Doubt(flush, flush.rows[place])
                place += len(call.events)

    async def _split(
        self,
        lane: str,
        calls: Sequence[PendingWrite],
        error: FlushRefused | FlushBlocked,
        cause: Exception | None = None,
    ) -> None:
        if len(calls) > 1:
            middle = len(calls) // 2
            await self._commit(lane, self._hold(calls[:middle]))
            await self._commit(lane, self._hold(calls[middle:]))
            return
        (call,) = calls
        if isinstance(error, FlushBlocked):
            self._park(call, error)
        elif isinstance(call, PendingEvents) and not call.reloaded:
            call.reloaded = True  # perhaps the tape was written to behind our back: look once
            call.cursor.key = None
            await self._commit(lane, calls)
        elif isinstance(cause, TapescopeError):
            self._reject(calls, cause)
        else:
            refused = StoreRefused(str(error))
            refused.__cause__ = cause or error
            self._reject(calls, refused)

    def _park(self, call: PendingWrite, error: FlushBlocked) -> None:
        """Another session holds the row: the call is tried again soon, and delays only its task."""
        left = call.since + self._context.patience - self._context.clock.monotonic()
        if left <= 0:
            busy = StoreBusy(self._context.name, f"{_name_lock(call)} ({error})")
            busy.__cause__ = error
            self._reject([call], busy)
            return
        call.in_flight = False
        if isinstance(call, PendingEvents):
            call.cursor.held.append(call)

    def _unpark_later(self, call: PendingWrite) -> None:
        """Try a parked call again soon, its task's other ones behind it, on the blocked lane.

        Only once its flush has ended: until then the task is in that flush.
        """
        cursor = call.cursor if isinstance(call, PendingEvents) else None
        if call.withdrawn:
            if cursor is not None and cursor.busy and not cursor.held:
                self._free(cursor)
            return
        if cursor is not None and cursor.held[0] is not call:
            return  # it goes with the first one

        def unpark() -> None:
            self._parked.discard(handle)
            again: list[PendingWrite] = []
            if cursor is not None:
                cursor.queue[:0] = cursor.held
                cursor.held = []
                cursor.busy = False
                self._take_cursor(cursor, again)
            elif not call.withdrawn:
                again.append(call)
            self._fly(again)
            if again:
                self._blocked.append(_Blocked(again, None))
                self._wake_blocked()

        left = call.since + self._context.patience - self._context.clock.monotonic()
        handle = asyncio.get_running_loop().call_later(min(max(left, 0.0), _PARKED), unpark)
        self._parked.add(handle)

    def _hold(self, calls: Sequence[PendingWrite]) -> Sequence[PendingWrite]:
        """Put aside the calls whose cursor has an earlier one parked: events keep their order."""
        going: list[PendingWrite] = []
        for call in calls:
            if isinstance(call, PendingEvents) and call.cursor.held:
                call.in_flight = False
                call.cursor.held.append(call)
            else:
                going.append(call)
        return going

    def _reject_impatient(
        self, calls: Sequence[PendingWrite], error: StoreUnavailable
    ) -> Sequence[PendingWrite]:
        """Give up the calls that have waited long enough; the others keep their own patience."""
        now = self._context.clock.monotonic() + _TOGETHER
        rest = [call for call in calls if call.since + self._context.patience > now]
        if len(rest) == len(calls):
            rest = []
        staying = set(rest)
        self._reject([call for call in calls if call not in staying], error)
        return rest

    def _reject(self, calls: Iterable[PendingWrite], error: Exception) -> None:
        for call in calls:
            fail(self._context, call, error)
            call.reject(error)


class _Blocked(NamedTuple):
    """Calls for the blocked lane."""

    calls: Sequence[PendingWrite]
    error: FlushBlocked | None
    """Why their flush was not carried out; ``None`` where they are tried again."""


def _name_lock(call: PendingWrite) -> str:
    """What a call waits for."""
    if isinstance(call, PendingCreate):
        keys = {"idempotency": call.row.idempotency_key, "unique": call.row.unique_key}
        held = [f"the {kind} key {key!r}" for kind, key in keys.items() if key is not None]
        if not held:
            return "another session has locked its table of tasks"
        return f"another session's open transaction holds {' or '.join(held)} of op {call.row.op!r}"
    if isinstance(call, PendingEvents):
        task_id = call.cursor.task_id
    else:
        assert isinstance(call, PendingClaim | PendingCancel)
        task_id = call.row.task_id
    return f"another session's open transaction holds the row of task {task_id}"


def _describe(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  # whatever its text raises
        return type(error).__name__
