"""``run_op``: the function of one op, run alone as in a task."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import replace
from inspect import isawaitable
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from opentelemetry.metrics import NoOpMeterProvider

from tapescope.errors import BadSetting, TaskFailed
from tapescope.manager import Op, Ops, TaskHandle
from tapescope.manager.submission import Submission
from tapescope.model.answers import Appended
from tapescope.model.error_codes import ERROR_CODES
from tapescope.model.tape import FINAL, TASK_STARTED, Event, NewEvent
from tapescope.model.tasks import Attempt
from tapescope.run.reporter import Reporter
from tapescope.store.validation import check_count
from tapescope.sync.manager import ManagerSettings
from tapescope.testing._judged import RecordedMemoryStore
from tapescope.testing.clock import ManualClock
from tapescope.testing.managers import JudgedManager
from tapescope_telemetry import Telemetry

__all__ = ["OpRun", "run_op"]

P = ParamSpec("P")
R = TypeVar("R")

_NAME: Final = "run_op"
"""The op of a function that is none."""


@overload
def run_op(op: Op[P, R, Any], /, *args: P.args, **kwargs: P.kwargs) -> OpRun[R]: ...


@overload
def run_op(
    op: Callable[Concatenate[Reporter, P], Coroutine[Any, Any, R]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> OpRun[R]: ...


def run_op(op: Callable[..., Any], /, *args: Any, **kwargs: Any) -> OpRun[Any]:
    """Run the function of an op alone, with these arguments after the reporter::

        assert await run_op(resize, "photos", width=200) == {"photos": 200}

    It is one attempt of a task that nobody else sees, on a store in memory: arguments and result
    are checked, and go through their types and the codec, as in a worker; the reporter is a real
    one. ``op`` is an ``Op``, whose timeouts count, or an ``async def`` that could be one.

    What it raises is raised by the ``await``, as it is; ``TaskCancelled`` where it was cancelled;
    ``TaskFailed`` for an end that is not an exception of its own, such as its timeout. Raises
    ``BadParams`` at once for arguments that are not its own.
    """
    return OpRun(op, args, kwargs)


class OpRun(Generic[R]):
    """One run of an op's function, made by ``run_op`` and begun by ``await``."""

    def __init__(
        self, op: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        """Raises ``BadParams``, ``BadRunner``."""
        known = cast("Op", op) if isinstance(op, Op) else Ops().op(_NAME)(op)
        self._submission: Submission[R] = known.bind(*args, **kwargs)
        known.runner.check(self._submission.params)
        self._op = known
        self._settings = ManagerSettings()
        self._clock: ManualClock | None = None
        self._moment: _Moment | None = None
        self._handle: TaskHandle[R] | None = None
        self._raised: BaseException | None = None
        self._begun = False
        self.events: tuple[Event, ...] = ()
        """The tape, once the run has ended."""

    @property
    def clock(self) -> ManualClock:
        """The clock that the run goes by, for who moves it; asked for before the run."""
        if self._clock is None:
            self._require_not_begun()
            self._clock = ManualClock()
        return self._clock

    def configure(self, **settings: Unpack[ManagerSettings]) -> Self:
        """Run it in a manager with these settings: ``codec``, ``redact``, ``cancel_grace``, …"""
        self._require_not_begun()
        self._settings = self._settings | settings
        return self

    def cancel_at(self, type: str, nth: int = 1, *, message: str = "") -> Self:
        """Cancel the run when the ``nth`` event of this type is on its tape.

        The report of that event is the place at which an ``async def`` is stopped; a function in a
        thread reads ``cancel_requested`` once that report has returned. Raises ``BadSetting`` for
        an event that no reporter makes.
        """
        self._require_not_begun()
        if type in (TASK_STARTED, FINAL):
            raise BadSetting("type", type, "that of an event which the runner reports")
        self._moment = _Moment(self, type, check_count("nth", nth), message)
        return self

    async def cancel(self, message: str = "") -> None:
        """Cancel it while it runs, from beside it. Raises ``RuntimeError`` where it does not."""
        if self._handle is None:
            raise RuntimeError("The run is not under way: begin it in a task of its own first.")
        await self._handle.cancel(message)

    def __await__(self) -> Generator[Any, None, R]:
        return self._run().__await__()

    async def _run(self) -> R:
        self._require_not_begun()
        self._begun = True
        store = _MomentStore(self._moment, self._clock)
        op = copy.copy(self._op)
        op.runner = replace(op.runner, call=self._call, retry=None)
        submission = replace(self._submission, runner=op, retries=0, timeout=op.timeout)
        settings = ManagerSettings(drain=0.0) | self._settings
        async with JudgedManager(store, work=False, **settings) as manager:
            handle = self._handle = await manager.submit_bound(submission)
            try:
                return await handle.result()
            except TaskFailed as error:
                if self._raised is not None and error.error.code not in ERROR_CODES:
                    raise self._raised from None
                raise
            finally:
                self._handle = None
                self.events = await _read_whole(handle)

    def _call(self, *given: Any, **params: Any) -> Any:
        try:
            result = self._op.runner.call(*given, **params)
        except BaseException as error:
            self._raised = error
            raise
        return self._watch(result) if isawaitable(result) else result

    async def _watch(self, result: Awaitable[Any]) -> Any:
        try:
            return await result
        except BaseException as error:
            self._raised = error
            raise

    def _require_not_begun(self) -> None:
        if self._begun:
            raise RuntimeError("This run was begun before: make another one with run_op.")


class _Moment:
    """When a run is to be cancelled."""

    def __init__(self, run: OpRun[Any], type: str, nth: int, message: str) -> None:
        self._run, self._type, self._left, self._message = run, type, nth, message

    async def note(self, events: Sequence[NewEvent]) -> None:
        """These events are on the tape."""
        before = self._left
        self._left -= sum(event.type == self._type for event in events)
        if before > 0 >= self._left:
            await self._run.cancel(self._message)


class _MomentStore(RecordedMemoryStore):
    """A store in memory that says when events are on a tape, before their report returns."""

    def __init__(self, moment: _Moment | None, clock: ManualClock | None) -> None:
        super().__init__(telemetry=Telemetry(meter_provider=NoOpMeterProvider()), clock=clock)
        self._moment = moment
        self._noting = set[asyncio.Future[None]]()

    async def append(self, attempt: Attempt, events: Sequence[NewEvent]) -> Appended:
        """``TaskStore.append``."""
        answer = await super().append(attempt, events)
        if self._moment is not None and answer.stored:
            await self._moment.note(events)
        return answer

    def append_nowait(
        self, attempt: Attempt, events: Sequence[NewEvent]
    ) -> asyncio.Future[Appended]:
        """``TaskStore.append_nowait``."""
        future = super().append_nowait(attempt, events)
        if (moment := self._moment) is not None:

            def note(done: asyncio.Future[Appended]) -> None:
                if not done.cancelled() and done.exception() is None and done.result().stored:
                    noting = asyncio.ensure_future(moment.note(events))
                    self._noting.add(noting)
                    noting.add_done_callback(self._noting.discard)

            future.add_done_callback(note)
        return future


async def _read_whole(handle: TaskHandle[Any]) -> tuple[Event, ...]:
    events: list[Event] = []
    while True:
        page = await handle.tape(after_seq=len(events))
        events += page.events
        if len(events) >= page.last_seq:
            return tuple(events)
