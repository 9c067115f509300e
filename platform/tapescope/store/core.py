"""What the verbs of one store share: its backend, its accounts, its write queue, its patience."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from tapescope.clock import Backoff, Clock
from tapescope.codec import decode
from tapescope.errors import (
    StoreClosed,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
    TapescopeError,
)
from tapescope.model.internals import StoreLoad
from tapescope.model.tape import FINAL, Event
from tapescope.model.tasks import Attempt
from tapescope.model.telemetry import LoopName
from tapescope.service import Vitals
from tapescope.shielded import await_child, wait_shielded
from tapescope.store._group_commit import LEAST_TRY, GroupCommit
from tapescope.store._pending import PendingWrite, TapeCursor
from tapescope.store._results import StoreContext, fail
from tapescope.store._watch import CommitWatch
from tapescope.store.backend import BackendContext, StoreBackend
from tapescope.store.database_clock import DatabaseClock
from tapescope.store.flush import AttemptState, FlushRefused, StoreAway, as_unavailable
from tapescope.store.home import Home
from tapescope.store.opening import OpenMode
from tapescope.store.orders import FIRST_FOREIGN_OFFER
from tapescope.store.validation import StoreLimits, is_task_id
from tapescope_telemetry import error_type_of

if TYPE_CHECKING:
    from tapescope_telemetry import StoreMeter, Telemetry

__all__ = ["StoreCore"]

T = TypeVar("T")

_SHORTEST_WATCH = 30.0
"""Seconds without a sign of life from which the watch of other processes' commits is stuck."""


class StoreCore:
    """One store's inside, given to every part of ``TaskStore``; users never see it.

    A part reads through ``read`` and writes through ``submit`` or ``change``: there a call is
    timed, counted, and tried again while the database is away.
    """

    def __init__(
        self,
        backend: StoreBackend,
        telemetry: Telemetry,
        clock: Clock,
        limits: StoreLimits,
        patience: float,
    ) -> None:
        self.backend = backend
        self.name = backend.name
        self.telemetry = telemetry
        self.clock = clock
        self.due_clock = DatabaseClock(clock)
        self.limits = limits
        self.patience = patience
        self.instance = os.urandom(16).hex()
        self.meter: StoreMeter = telemetry.store(backend.adapter)
        self.watch_vitals = Vitals(
            LoopName.WATCH, telemetry.loop_failed, max(_SHORTEST_WATCH, 3 * patience)
        )
        self.watch = CommitWatch(backend, self.watch_vitals)
        self.changes = self.watch.changes
        self.context = StoreContext(
            *(self.name, clock, patience, self.meter, telemetry.tasks, self.changes),
            *(self.due_clock, telemetry),
        )
        self._commits: GroupCommit | None = None
        self._may_write = False
        self._cursors: WeakValueDictionary[tuple[str, int, str], TapeCursor] = WeakValueDictionary()
        self._home: Home | None = None
        """Set while the store is open."""
        self.away: str | None = None
        """``TaskStore.away``."""

    # --- life -------------------------------------------------------------------------------------

    async def open(self, mode: OpenMode) -> None:
        """Open the backend and make the write queue; an open core stays as it is."""
        self.check_home()
        if self._commits is None:
            lent = BackendContext(
                self.clock,
                self.limits,
                mode,
                self.instance,
                self.changes,
                self.watch.tell_owners,
                self.meter.foreign_notified,
                self.watch_vitals.beat,
                Vitals(LoopName.CHECKPOINT, self.telemetry.loop_failed).failed,
            )
            await self._open_or_leave_nothing(lent)
            self._commits = GroupCommit(
                self.context,
                self.backend.write,
                self._load_state,
                self._recall,
                lanes=[f"{self.instance}/{n}" for n in range(self.backend.write_lanes)],
                batch=self.limits.batch,
                queue=self.limits.queue,
                may_hang=self.backend.may_hang,
            )
            self._may_write = mode.may_write
            self._home = Home("store")
            self.meter.watch_load(self.read_load)

    async def _open_or_leave_nothing(self, lent: BackendContext) -> None:
        """Open the backend; who is cancelled meanwhile is so after all is closed again."""
        opening = asyncio.ensure_future(self.retrying(lambda: self._open_backend(lent)))
        try:
            await await_child(asyncio.shield(opening))
        except asyncio.CancelledError:
            opening.cancel()
            await wait_shielded(opening)
            if not opening.cancelled() and opening.exception() is None:
                await _to_its_end(self.backend.close())
            raise

    async def _open_backend(self, lent: BackendContext) -> None:
        await self.backend.open(lent)
        if lent.open_mode.may_write:
            try:
                await self._ask_time()  # no due time is reckoned before the database has told its
            except BaseException:  # cancelled, too: what is open would stay open
                await self.backend.close()
                raise

    async def aclose(self) -> None:
        """Answer every call taken, end every subscription, close the backend.

        Who is cancelled meanwhile is so after that: what is not closed now would stay open.
        """
        self.check_home()
        commits, self._commits, self._home = self._commits, None, None
        if commits is not None:
            self.meter.unwatch_load(self.read_load)
            await _to_its_end(self._close(commits))

    async def _close(self, commits: GroupCommit) -> None:
        loop = asyncio.get_running_loop()
        try:
            await commits.aclose()
        finally:
            if not loop.is_closed():  # else nothing here can be waited for: it ends with its loop
                self.context.drops.summarise()
                await self.watch.aclose()
                await self.backend.close()

    def require_open(self) -> GroupCommit:
        """The write queue. Raises ``StoreClosed``, ``UsedAfterFork`` and ``UsedInAnotherLoop``."""
        if self._commits is None or self._home is None:
            raise StoreClosed
        self._home.check()
        return self._commits

    def check_home(self) -> None:
        """Raise ``UsedAfterFork`` or ``UsedInAnotherLoop`` where an open store is not at home."""
        if self._home is not None:
            self._home.check()

    def require_writable(self) -> GroupCommit:
        """The write queue of a store that may be written to. Raises ``StoreReadOnly``, too."""
        commits = self.require_open()
        if not self._may_write:
            raise StoreReadOnly(self.name)
        return commits

    @property
    def waiting(self) -> int:
        """Calls and events that wait for a flush."""
        return 0 if self._commits is None else self._commits.waiting

    # --- writing ----------------------------------------------------------------------------------

    def find_cursor(self, attempt: Attempt) -> TapeCursor:
        """Where the attempt stands on its tape, as far as this store knows."""
        if isinstance(attempt.cursor, TapeCursor):
            return attempt.cursor
        name = (attempt.task_id, attempt.number, attempt.owner)
        cursor = self._cursors.get(name)
        if cursor is None:
            cursor = self._cursors[name] = TapeCursor(*name)
        return cursor

    def hold_cursor(self, cursor: TapeCursor) -> Attempt:
        """The attempt of a claim, which keeps its cursor for as long as it lives."""
        self._cursors[cursor.task_id, cursor.attempt, cursor.owner] = cursor
        return Attempt(cursor.task_id, cursor.attempt, cursor.owner, cursor)

    def enqueue(self, call: PendingWrite, commits: GroupCommit | None = None) -> GroupCommit:
        """Queue a call for the next flush; one that cannot be queued is counted as failed."""
        try:
            if commits is None:
                commits = self.require_writable()
            commits.enqueue(call)
        except TapescopeError as error:
            fail(self.context, call, error)
            raise
        return commits

    async def submit(
        self, name: str, call: PendingWrite, commits: GroupCommit | None = None
    ) -> Any:
        """Queue a call and wait for its flush; a caller that is cancelled before it withdraws.

        One of a call that ``insists`` is answered all the same, once its flush is under way.
        """
        try:
            commits = self.enqueue(call, commits)
            if call.insists:
                answer = await _insist_on_flush(call, commits)
            else:
                try:
                    answer = await call.future
                except asyncio.CancelledError:
                    commits.withdraw(call)
                    raise
        except TapescopeError as error:
            waited = self.clock.monotonic() - call.since
            self.meter.operation(name, waited, error_type_of(error))
            raise
        self.meter.operation(name, self.clock.monotonic() - call.since)
        return answer

    async def _load_state(self, cursor: TapeCursor, since: float) -> AttemptState:
        return await self.retrying(
            lambda: self.within(
                self.backend.load(cursor.task_id, cursor.attempt, cursor.owner),
                since + self.patience - self.clock.monotonic(),
            ),
            since,
        )

    async def _recall(self, cursor: TapeCursor, since: float) -> Event | None:
        """The event by which an attempt gave its task up, where the reply was lost (``Doubt``)."""
        assert cursor.doubt is not None
        flush, row, _ = cursor.doubt
        if not is_task_id(cursor.task_id):
            return None

        async def ask() -> Event | None:
            await self.backend.settle(flush)  # what is read then is what became of it
            page = await self.backend.read_tape(cursor.task_id, row.seq - 1, 1)
            event = page.events[0] if page is not None and page.events else None
            if event is None or (event.seq, event.attempt) != (row.seq, row.attempt):
                return None
            if event.type == row.type and event.body == decode(row.body):
                return event
            state = await self.backend.load(cursor.task_id, cursor.attempt, cursor.owner)
            own = state.last_offer < FIRST_FOREIGN_OFFER
            return event if own and event.type == FINAL else None  # a cancel took its place

        left = since + self.patience - self.clock.monotonic()
        return await self.retrying(lambda: self.within(ask(), left), since)

    async def change(
        self,
        name: str,
        primitive: Callable[[], Awaitable[T]],
        settle: Callable[[T], object] | None = None,
    ) -> T:
        """Call a primitive that writes, at once and not in a flush; else as ``read``.

        A caller that is cancelled waits for the try that is under way: what it wrote is given to
        ``settle``, which counts it and tells of it, so that nothing is stored unseen (invariant
        I7).
        """
        self.require_writable()
        deadline = self.clock.monotonic() + self.patience

        async def write() -> T:
            self.require_open()  # as in a read
            answer = await self.within(primitive(), deadline - self.clock.monotonic())
            if settle is not None:
                settle(answer)
            return answer

        try:
            return await self._timed(name, lambda: self.retrying(lambda: _to_its_end(write())))
        except StoreUnavailable:
            self.changes.doubt()
            raise

    # --- reading ----------------------------------------------------------------------------------

    async def read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T:
        """Call a primitive of an open store, timed under ``name``, with the store's patience."""
        self.require_open()
        deadline = self.clock.monotonic() + self.patience

        def attempt() -> Awaitable[T]:
            self.require_open()  # it may have been closed while this waited
            return self.within(primitive(), deadline - self.clock.monotonic())

        return await self._timed(name, lambda: self.retrying(attempt))

    async def within(
        self,
        work: Awaitable[T],
        left: float,
        error: Callable[[str], Exception] = StoreAway,
    ) -> T:
        """A backend's call, for at most ``left`` seconds where one may hang; then ``error``."""
        if not self.backend.may_hang:
            return await work
        try:
            async with asyncio.timeout(max(left, self.patience * LEAST_TRY)):
                return await work
        except TimeoutError as late:
            raise error("it does not answer") from late

    async def _timed(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        start = self.clock.monotonic()
        try:
            answer = await work()
        except TapescopeError as error:
            self.meter.operation(name, self.clock.monotonic() - start, error_type_of(error))
            raise
        self.meter.operation(name, self.clock.monotonic() - start)
        return answer

    async def probe(self) -> None:
        """``TaskStore.probe``."""
        await self.read("probe", self.backend.probe)

    async def measure_size(self) -> None:
        """``TaskStore.measure_size``."""
        self.require_open()
        try:
            size = await self.within(self.backend.read_size(), self.patience)
        except FlushRefused as error:
            raise StoreRefused(str(error)) from error
        except StoreAway as error:
            raise as_unavailable(self.name, error) from error
        self.meter.sized(self.name, size)

    def read_load(self) -> StoreLoad:
        """What is under way now; any thread may ask."""
        return replace(self.backend.read_load(), queued=self.waiting)

    async def measure_skew(self) -> float | None:
        """``TaskStore.measure_skew``."""
        self.require_open()
        return await self.retrying(self._ask_time)

    async def _ask_time(self) -> float | None:
        asked, own = self.clock.monotonic(), self.clock.now()
        theirs = await self.backend.read_clock()
        if theirs is None:
            return None
        self.due_clock.note(theirs, asked)
        # When in between the answer was made is not known: what lies in there is no skew.
        return (theirs - min(max(theirs, own), max(own, self.clock.now()))) / 1e6

    async def retrying(
        self, primitive: Callable[[], Awaitable[T]], since: float | None = None
    ) -> T:
        """Try while the store is away, as long as its patience lasts, then ``StoreUnavailable``.

        Raises ``StoreRefused`` for what the database would refuse again.
        """
        deadline = (self.clock.monotonic() if since is None else since) + self.patience
        backoff = Backoff()
        while True:
            try:
                answer = await primitive()
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            except StoreAway as error:
                told = as_unavailable(self.name, error)
                self.away = str(told)
                left = deadline - self.clock.monotonic()
                if left <= 0:
                    raise told from error
                await backoff.wait(left)
            else:
                self.away = None
                self.changes.note_answer()
                return answer


async def _insist_on_flush(call: PendingWrite, commits: GroupCommit) -> Any:
    try:
        return await asyncio.shield(call.future)
    except asyncio.CancelledError:
        commits.withdraw(call)
        if call.withdrawn:
            raise
    await wait_shielded(call.future)
    return call.future.result()


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Await this; who is cancelled meanwhile is so after its end."""
    task = asyncio.ensure_future(work)
    try:
        return await await_child(asyncio.shield(task))
    except asyncio.CancelledError:
        await wait_shielded(task)
        if not task.cancelled():
            task.exception()  # the caller, who would have it raised, has been cancelled
        raise
