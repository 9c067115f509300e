"""The reporters of a runner: ``Reporter`` in the event loop, ``ThreadReporter`` in a thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from tapescope.codec import decode, encode
from tapescope.errors import BlockingCallOnLoop, CancelRequested, StoreClosed
from tapescope.model.tape import LOG, PARTIAL, PROGRESS

if TYPE_CHECKING:
    from tapescope.model.answers import Appended
    from tapescope.model.messages import Message
    from tapescope.model.tape import TapePage
    from tapescope.run.keeper import Keeper, RedactedBody
    from tapescope.run.tape_writer import TapeWriter

__all__ = ["Reporter", "ThreadReporter"]

T = TypeVar("T")

_CHECK_LOOP_EVERY: Final = 1.0
"""Seconds after which a waiting thread checks that its loop is not closed."""


class _Report:
    """The facts about the run, the same in both reporters."""

    __slots__ = ("_keeper", "_tape")

    def __init__(self, tape: TapeWriter, keeper: Keeper) -> None:
        self._tape = tape
        self._keeper = keeper

    @property
    def task_id(self) -> str:
        """The task this run works on."""
        return self._tape.attempt.task_id

    @property
    def attempt(self) -> int:
        """Which run of the task this is, from 1."""
        return self._tape.attempt.number

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context of the run's span, to hand to a service that the runner calls."""
        return self._tape.span.traceparent

    @property
    def tracestate(self) -> str | None:
        """The W3C ``tracestate`` that goes with ``traceparent``, where there is one."""
        return self._tape.span.tracestate

    @property
    def baggage(self) -> str | None:
        """The submitter's W3C baggage, where ``Telemetry(baggage="on")`` carries some."""
        return self._tape.span.baggage

    @property
    def cancel_requested(self) -> bool:
        """Whether the runner is to stop: the task was cancelled, timed out or lost its lease."""
        return self._tape.stop is not None

    @property
    def coalesced(self) -> int:
        """Progress reports of this run that a newer one replaced; they were never offered (I7)."""
        return self._tape.coalesced

    @property
    def tape_room(self) -> int:
        """Events that the tape still takes from this run, as far as its store knows now."""
        return self._tape.room

    def raise_if_cancelled(self) -> None:
        """Raise ``CancelRequested``, an ``asyncio.CancelledError``, if the runner is to stop."""
        stop = self._tape.stop
        if stop is not None:
            raise CancelRequested(stop.reason, stop.message)

    def _of_stop(self, message: Message | None) -> Message:
        if message is None:
            self.raise_if_cancelled()
            raise StoreClosed  # only the teardown of its loop ends a wait without a stop
        return message

    # Bodies as they are stored:

    def _progress_body(self, phase: str, current: float, total: float | None, detail: Any) -> Any:
        body: dict[str, Any] = {"phase": phase, "current": current, "total": total}
        if detail is not None:
            body["detail"] = detail
        return self._keeper.keep_our_event(PROGRESS, body, "detail")

    def _log_body(self, level: str, message: str) -> Any:
        return self._keeper.keep_our_event(LOG, {"level": level, "message": message})

    def _partial_body(self, kind: str, payload: Any) -> Any:
        body = {"kind": kind, "payload": payload}
        return self._keeper.keep_our_event(PARTIAL, body, "payload")


class Reporter(_Report):
    """Puts events on the task's tape, from a runner in the event loop.

    Each awaited report returns when its event is stored (invariant I6). It raises ``EventDropped``
    when the tape is no longer this run's; ``NotJson``, ``EventTooLarge``, ``BadEventType`` and
    ``TapeFull`` for an event that no tape takes; ``CodecFailed``; ``StoreUnavailable`` and
    ``EventFateUnknown``; and, once, the error of an earlier ``emit_nowait``.

    "Any JSON value" is any value that the manager's codec encodes, where it has one.
    """

    __slots__ = ()

    async def progress(
        self, phase: str, current: float, total: float | None = None, detail: Any = None
    ) -> None:
        """How far the work is: ``current`` of ``total`` steps of ``phase``.

        Where the manager coalesces progress, a report may return before it is stored, and a newer
        report of the same phase may take its place; the last one before the end is always stored.
        """
        body = self._progress_body(phase, current, total, detail)
        await self._in_loop(self._tape.progress(phase, body))

    async def log(self, level: str, message: str) -> None:
        """A line of the task's log."""
        await self._in_loop(self._tape.append(LOG, self._log_body(level, message)))

    async def partial(self, kind: str, payload: Any) -> None:
        """A part of the result that is ready before the whole; ``payload`` is any JSON value."""
        await self._in_loop(self._tape.append(PARTIAL, self._partial_body(kind, payload)))

    async def emit(self, type: str, body: Any = None) -> None:
        """An event of a type of your own; ``body`` is any JSON value."""
        await self._in_loop(self._tape.append(type, self._keeper.keep_event(type, body)))

    def emit_nowait(self, type: str, body: Any = None) -> asyncio.Future[Appended]:
        """``emit`` without waiting: the order is kept, and an error is raised later.

        The event is stored no later than the next awaited report, which raises the event's error,
        or the ``final``. The future has the answer for this one event; it need not be awaited.
        Raises ``NowaitBacklogFull`` past 1,000 outstanding events, and for bad input at once.
        """
        stored = self._keeper.keep_event(type, body)
        if asyncio.get_running_loop() is self._tape.loop:
            return self._tape.append_nowait(type, stored)

        async def send() -> Appended:
            return await self._tape.append_nowait(type, stored)

        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(send(), self._tape.loop))

    async def message(self, timeout: float | None = None) -> Message:  # noqa: ASYNC109  # a limit of this wait
        """The next message that was sent to the task, once there is one.

        It is on the tape, as a ``message_taken``, before the runner has it. An attempt is given all
        of the task's messages from the first one: those that an attempt before it has taken come
        again, with ``again`` set, and are not put on the tape again. Raises ``TimeoutError`` after
        ``timeout`` seconds; who stops waiting loses no message. While it waits, a runner is not
        silent (``stall_timeout``), and its slot stays its own.
        """
        taking = self._tape.inbox.take_in_thread
        if asyncio.get_running_loop() is self._tape.loop:
            return await self._tape.inbox.take(self._keeper, timeout)
        return self._of_stop(await self._in_loop(taking(self._keeper, timeout)))

    async def messages(self) -> AsyncGenerator[Message, None]:
        """The messages of the task, for ``async for``: it waits for the next one, and has no end.

        See ``message``.
        """
        while True:
            yield await self.message()

    def without_codec(self) -> Reporter:
        """A reporter of the same run that stores values as they are, whatever codec is set."""
        return Reporter(self._tape, self._keeper.without_codec())

    def redact(self, type: str, body: Any) -> RedactedBody:
        """An event's body as the manager's hook and codec leave it, for who keeps it for a while.

        ``emit`` and ``emit_nowait`` take what this gives in the place of a body, and do not ask the
        hook again. Raises ``NotJson``, ``CodecFailed``.
        """
        return self._keeper.redact(type, body)

    async def read_tape(self, *, after_seq: int = 0) -> TapePage:
        """A page of the task's tape, in ``seq`` order, after ``after_seq``: as it is stored.

        Raises ``StoreUnavailable``.
        """
        return await self._in_loop(self._tape.read(after_seq))

    def _in_loop(self, report: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """The report, or its answer where the runner has a loop of its own, in a thread."""
        try:
            if asyncio.get_running_loop() is self._tape.loop:
                return report
            return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(report, self._tape.loop))
        except RuntimeError:  # one of the loops is gone: nobody will await the report
            report.close()
            raise


class ThreadReporter(_Report):
    """The same reports from a plain function, in its thread: each blocks until it is stored.

    Raises what ``Reporter`` raises; ``BlockingCallOnLoop`` on the event loop's own thread, and
    ``StoreClosed`` when that loop has ended.
    """

    __slots__ = ("_loop_thread",)

    def __init__(self, tape: TapeWriter, keeper: Keeper) -> None:
        super().__init__(tape, keeper)
        self._loop_thread = threading.get_ident()  # a reporter is made in the loop

    def progress(
        self, phase: str, current: float, total: float | None = None, detail: Any = None
    ) -> None:
        """See ``Reporter.progress``."""
        body = self._progress_body(phase, current, total, detail)
        self._wait("progress", lambda: self._tape.progress(phase, body))

    def log(self, level: str, message: str) -> None:
        """See ``Reporter.log``."""
        body = self._log_body(level, message)
        self._wait("log", lambda: self._tape.append(LOG, body))

    def partial(self, kind: str, payload: Any) -> None:
        """See ``Reporter.partial``."""
        body = self._partial_body(kind, payload)
        self._wait("partial", lambda: self._tape.append(PARTIAL, body))

    def emit(self, type: str, body: Any = None) -> None:
        """See ``Reporter.emit``."""
        stored = self._keeper.keep_event(type, body)
        self._wait("emit", lambda: self._tape.append(type, stored))

    def emit_nowait(self, type: str, body: Any = None) -> None:
        """See ``Reporter.emit_nowait``. At once only ``NotJson`` and ``CodecFailed`` are raised."""
        stored = self._keeper.keep_event(type, body)
        copy = decode(encode(stored, "event"))  # the caller may change the body before it is read
        self._tape.reserve()
        self._hand_over(lambda: self._tape.append_reserved(type, copy))

    def message(self, timeout: float | None = None) -> Message:
        """See ``Reporter.message``. Raises ``CancelRequested`` when the runner is to stop."""
        taking = self._tape.inbox.take_in_thread
        return self._of_stop(self._wait("message", lambda: taking(self._keeper, timeout)))

    def messages(self) -> Generator[Message, None, None]:
        """The messages of the task, for ``for``: see ``Reporter.messages``."""
        while True:
            yield self.message()

    def _wait(self, method: str, report: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if threading.get_ident() == self._loop_thread:
            raise BlockingCallOnLoop(method)
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        loop = self._tape.loop

        def finish(task: asyncio.Task[T]) -> None:
            if task.cancelled():
                answer.set_exception(StoreClosed())  # only the loop's teardown cancels it
            elif (error := task.exception()) is not None:
                answer.set_exception(error)
            else:
                answer.set_result(task.result())

        # The coroutine is made in the loop: a loop that ended would leave it un-awaited.
        self._hand_over(lambda: loop.create_task(report()).add_done_callback(finish))
        while True:
            try:
                return answer.result(_CHECK_LOOP_EVERY)
            except concurrent.futures.TimeoutError:
                if answer.done():
                    return answer.result()  # the report's own TimeoutError, or just now
                if loop.is_closed():
                    raise StoreClosed from None

    def _hand_over(self, call: Callable[[], object]) -> None:
        try:
            self._tape.loop.call_soon_threadsafe(call)
        except RuntimeError as error:  # the loop is closed
            raise StoreClosed from error
