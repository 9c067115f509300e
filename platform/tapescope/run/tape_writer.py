"""The writing end of a run's tape: the reporters write through it and read a cancel from it."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from tapescope.clock import Clock
from tapescope.errors import EventDropped, NowaitBacklogFull
from tapescope.model.tape import PROGRESS, DropReason, NewEvent
from tapescope.run.inbox import Inbox

if TYPE_CHECKING:
    from tapescope.model.answers import Appended
    from tapescope.model.tape import TapePage
    from tapescope.model.tasks import Attempt, CancelRequest
    from tapescope.store.port import TaskStore
    from tapescope_telemetry import RunSpan

__all__ = ["NOWAIT_LIMIT", "TapeWriter"]

_UNHEARD_LIMIT: Final = 1_000
"""Events of one run that may be on their way without anybody who hears of their errors."""

NOWAIT_LIMIT: Final = 1_000
"""Events of one run that ``emit_nowait`` may have outstanding."""


class TapeWriter:
    """Appends one attempt's events, in order; keeps the first error of those not awaited.

    It goes on working after the run was fenced: the store then drops the events, and the runner is
    told so by ``EventDropped``.
    """

    __slots__ = (
        "__weakref__",
        "_held",
        "_inbox",
        "_lock",
        "_loop",
        "_outstanding",
        "_progress_at",
        "_stop",
        "_stopped",
        "_store",
        "_timer",
        "_unheard",
        "_unraised",
        "_window",
        "attempt",
        "coalesced",
        "dropped",
        "reporting",
        "reports",
        "span",
    )

    def __init__(
        self,
        store: TaskStore,
        attempt: Attempt,
        span: RunSpan,
        window: float,
    ) -> None:
        """``window``: seconds in which progress is coalesced."""
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._window = window
        self._progress_at = -window
        self._held: tuple[str, Any] | None = None
        """The phase and the body of a progress report that waits."""
        self._timer: asyncio.TimerHandle | None = None
        self._unraised: Exception | None = None
        self._outstanding = 0
        self._unheard = 0
        self._lock = threading.Lock()
        self.attempt = attempt
        self.span = span
        self._stop: CancelRequest | None = None
        self._stopped: asyncio.Future[None] | None = None
        self._inbox: Inbox | None = None
        self.coalesced = 0
        """Progress reports that a newer one replaced before they were offered to the store."""
        self.dropped = 0
        self.reports = 0
        """How many reports the runner has made, whatever became of them."""
        self.reporting = 0
        """How many of them wait for the store."""

    @property
    def inbox(self) -> Inbox:
        """The messages of the task."""
        if self._inbox is None:
            self._inbox = Inbox(self._store, self)
        return self._inbox

    @property
    def stop(self) -> CancelRequest | None:
        """Why the runner is to stop; ``None`` while it is not."""
        return self._stop

    @stop.setter
    def stop(self, stop: CancelRequest) -> None:
        self._stop = stop
        if self._stopped is not None and not self._stopped.done():
            self._stopped.set_result(None)

    def await_stop(self) -> asyncio.Future[None]:
        """Is done when the runner is to stop."""
        if self._stopped is None:
            self._stopped = self._loop.create_future()
            if self._stop is not None:
                self._stopped.set_result(None)
        return self._stopped

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that every append runs in."""
        return self._loop

    @property
    def clock(self) -> Clock:
        """The store's clock."""
        return self._store.clock

    @property
    def room(self) -> int:
        """Events that the tape still takes, beside those that are on their way."""
        return self._store.tape_room(self.attempt)

    async def append(self, type: str, body: Any) -> None:
        """``append_event`` of an event of the runner's own."""
        await self.append_event(NewEvent(type, body))

    async def append_event(self, event: NewEvent) -> int:
        """Put an event on the tape and return once it is stored (invariant I6), with its ``seq``.

        Raises what the store raises, ``EventDropped``, and, once, the error of an earlier event
        that was not awaited. Where that error is known beforehand, the event is not offered.
        """
        self.reports += 1
        self._raise_earlier_error()
        self._flush_held()
        self.reporting += 1
        try:
            answer = await self._store.append(self.attempt, (event,))
        finally:
            self.reporting -= 1
            self.reports += 1  # its runner had to wait for the store: its silence begins now
        if answer.dropped is not None:
            self._unraised = None  # this event's error says the same
            raise self._note_drop(answer.dropped)
        self._raise_earlier_error()
        return answer.last_seq

    async def read(self, after_seq: int) -> TapePage:
        """A page of the tape. Raises what the store raises."""
        return await self._store.read_tape(self.attempt.task_id, after_seq=after_seq)

    def append_nowait(self, type: str, body: Any) -> asyncio.Future[Appended]:
        """Queue an event after the earlier ones. Raises ``NowaitBacklogFull``, or for bad input."""
        self.reports += 1
        self._flush_held()
        self.reserve()
        return self._send(type, body)

    def reserve(self) -> None:
        """Take one of the places of events that are not awaited; from any thread."""
        with self._lock:
            if self._outstanding >= NOWAIT_LIMIT:
                raise NowaitBacklogFull(self.attempt.task_id, NOWAIT_LIMIT)
            self._outstanding += 1

    def append_reserved(self, type: str, body: Any) -> None:
        """``append_nowait`` for a reserved place; the next awaited report raises its error."""
        self.reports += 1
        self._flush_held()
        self._send_reserved(type, body)

    def append_unheard(self, type: str, body: Any, *, at_any_rate: bool = False) -> bool:
        """Queue an event of whose errors the runner is not told; from any thread.

        Gives whether there was a place for it, which one that comes ``at_any_rate`` need not have.
        Its places are not those of ``reserve``: what a runner does not know of takes nothing from
        it.
        """
        with self._lock:
            if self._unheard >= _UNHEARD_LIMIT and not at_any_rate:
                return False
            self._unheard += 1
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:  # a thread has none
            here = False
        if here:
            self._send_unheard(type, body)
            return True
        try:
            self._loop.call_soon_threadsafe(self._send_unheard, type, body)
        except RuntimeError:  # the loop is closed, and nobody will ask
            return False
        return True

    def _send_unheard(self, type: str, body: Any) -> None:
        self.reports += 1
        self._flush_held()
        try:
            future = self._store.append_nowait(self.attempt, (NewEvent(type, body),))
        except Exception:  # noqa: BLE001  # the ledger has counted it, and it is nobody's to raise
            self._free_unheard()
        else:
            future.add_done_callback(self._note_unheard)

    def _note_unheard(self, future: asyncio.Future[Appended]) -> None:
        self._free_unheard()
        if not future.cancelled() and future.exception() is None:
            self.dropped += future.result().dropped is not None

    def _free_unheard(self) -> None:
        with self._lock:
            self._unheard -= 1

    async def progress(self, phase: str, body: Any) -> None:
        """Append a ``progress`` event, or hold it for a moment where a newer one may replace it.

        A report is replaced only by the next one of its own phase, while no other event comes
        between.
        """
        if self._window <= 0:
            await self.append(PROGRESS, body)
            return
        self.reports += 1
        now = self.clock.monotonic()
        left = self._progress_at + self._window - now
        if self._held is not None and self._held[0] != phase:
            self._flush_held()
        if left <= 0 and self._held is None:
            self._progress_at = now
            await self.append(PROGRESS, body)
            return
        self._raise_earlier_error()
        if self._held is None:
            self._timer = self._loop.call_later(max(0.0, left), self._flush_held)
        else:
            self.coalesced += 1
        self._held = phase, body

    def seal(self) -> None:
        """Queue the last progress report before the ``final``, and hold none any more."""
        self._flush_held()
        self._window = 0.0

    def _flush_held(self) -> None:
        """Queue the held progress report, before the event that comes after it."""
        held, self._held = self._held, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if held is None:
            return
        self._progress_at = self.clock.monotonic()
        with self._lock:
            self._outstanding += 1  # one report at most: no reason to refuse it
        self._send_reserved(PROGRESS, held[1])

    def _send_reserved(self, type: str, body: Any) -> None:
        try:
            _ = self._send(type, body)
        except Exception as error:  # noqa: BLE001  # it is raised at the next awaited report
            self._unraised = self._unraised or error

    def _send(self, type: str, body: Any) -> asyncio.Future[Appended]:
        try:
            future = self._store.append_nowait(self.attempt, (NewEvent(type, body),))
        except BaseException:  # nothing is outstanding after any error
            self._free_place()
            raise
        future.add_done_callback(self._note_answer)
        return future

    def _note_answer(self, future: asyncio.Future[Appended]) -> None:
        self._free_place()
        if future.cancelled():
            return  # the loop is being torn down
        error = future.exception()
        if error is None and (reason := future.result().dropped) is not None:
            error = self._note_drop(reason)
        if isinstance(error, Exception):
            self._unraised = self._unraised or error

    def _free_place(self) -> None:
        with self._lock:
            self._outstanding -= 1

    def _raise_earlier_error(self) -> None:
        error, self._unraised = self._unraised, None
        if error is not None:
            raise error

    def _note_drop(self, reason: DropReason) -> EventDropped:
        self.dropped += 1
        return EventDropped(self.attempt.task_id, self.attempt.number, reason)
