"""One run of a task: claim → begin its span → await the runner → settle.

A run is one asyncio task. The run's cancel reaches it exactly once, and only while the runner is
awaited, so it always lands in the runner. Why the runner was stopped is kept in ``stop_reason``,
not read from ``cancelling()``: a runner's own ``asyncio.timeout()`` and ``TaskGroup`` keep working.

A runner that goes on past its grace is fenced: the run is settled without it, and the runner is a
zombie until it ends.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from copy import deepcopy
from enum import Enum, auto
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Protocol

from tapescope.errors import (
    BadParams,
    EventFateUnknown,
    StoreUnavailable,
    TapescopeError,
    UnknownTask,
)
from tapescope.model.error_codes import RELEASED, STALLED, TIMEOUT
from tapescope.model.leases import TracedAttempt
from tapescope.model.tasks import (
    ActiveState,
    Attempt,
    CancelReason,
    CancelRequest,
    Claim,
    FinalEvent,
    Task,
)
from tapescope.run.attempt import RunRecord, RunSettings, ids_of, log_run, tell
from tapescope.run.current import CurrentRun, find_current
from tapescope.run.durable_writes import claim_task, forget_cancels, let_go
from tapescope.run.hooks import Nested, RunCall, RunHook, call_run_hook
from tapescope.run.outcome import (
    CLOSED,
    LOST,
    Limits,
    StopReason,
    Verdict,
    close_unawaited,
    describe_stop,
    judge,
    judge_damaged,
    judge_fenced,
    judge_unfit,
)
from tapescope.run.reporter import Reporter, ThreadReporter
from tapescope.run.runner import Runner, start_thread
from tapescope.shielded import EXITS
from tapescope_telemetry.logger import Logger
from tapescope_telemetry.spans import copy_untraced

__all__ = ["Completion", "Run", "RunHost", "find_current_run"]

_log = Logger("tapescope")

_ASK_FOR: Final = 1.0
"""Seconds that a store has to say where the run of the attempt before is."""

_LOOKS: Final = 4
"""How often in its ``stall_timeout`` it is looked whether a runner has reported something."""
_UNCHANGING: Final = frozenset({str, int, float, bool, type(None)})
"""Types of params that a runner cannot change."""


def find_current_run() -> Run | None:
    """The run whose runner this is called in, or in a task or thread that the runner has begun."""
    current = find_current()
    run = None if current is None else current.run
    return run if isinstance(run, Run) else None


Ended = tuple[Any, BaseException | None]
"""What a runner returned, or what it raised."""


class RunHost(Protocol):
    """What a run needs of the pool that started it."""

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Do this in a task of its own, with an empty context, and wait for it when closing.

        It is begun again when it is cancelled from outside.
        """

    def fence(self, run: Run) -> None:
        """The runner goes on without its task: its slot is free, and it is a zombie from now on."""

    def zombie_ended(self, run: Run) -> None:
        """The runner of a fenced run has ended."""

    def end(self, run: Run) -> None:
        """The run is over: its ``final`` is written or lost."""

    def retry(self, run: Run, task: Task) -> None:
        """The run is over, and its task is pending again: to be run when it is due."""


class Completion:
    """How a task of this process ended, resolved once, after the write that makes it true.

    The handles on the task keep it, not the manager.
    """

    __slots__ = ("_waiters", "done", "error", "final")

    def __init__(self) -> None:
        self.done = False
        self.final: FinalEvent | None = None
        """What the tape says; ``None`` when only the store knows."""
        self.error: Exception | None = None
        """Why the ``final`` could not be written."""
        self._waiters: set[asyncio.Future[None]] = set()

    def resolve(self, final: FinalEvent | None, error: Exception | None) -> None:
        """Set how the task ended, and wake all that wait."""
        self.done, self.final, self.error = True, final, error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Wait until it is resolved."""
        if not self.done:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


class _Phase(Enum):
    """Where a run stands."""

    WAITING = auto()
    """For a slot; the run has no asyncio task yet."""
    CLAIMING = auto()
    RUNNING = auto()
    """The runner is awaited: the only phase in which the run is cancelled."""
    SETTLING = auto()
    ENDED = auto()


class _InnerEnd:
    """How a runner ended, as the hooks around it do not say."""

    __slots__ = ("error", "returned")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.returned = False


class Run:
    """A task that is run here, from its place in the queue, or from its claim, to its end."""

    __slots__ = (
        "__weakref__",
        "_claim",
        "_claim_cancelled",
        "_current",
        "_fenced_at",
        "_hooked",
        "_host",
        "_loop_task",
        "_phase",
        "_quiet",
        "_record",
        "_released_why",
        "_requested",
        "_settings",
        "_shared",
        "_stall_timer",
        "_state",
        "_thread",
        "_thread_ended",
        "_timer",
        "completion",
        "runner",
        "stop_reason",
        "task",
    )

    def __init__(
        self,
        host: RunHost,
        settings: RunSettings,
        task: Task,
        runner: Runner,
        completion: Completion,
        claim: Claim | None = None,
        *,
        shared: bool = False,
    ) -> None:
        """``claim`` is given for a task that was claimed already; without one, the run claims.

        ``shared`` says that another worker can run the task as well.
        """
        self._host = host
        self._settings = settings
        self._claim = claim
        self._shared = shared
        self._claim_cancelled = False
        """Whether a cancel from outside came while the task was being claimed."""
        self._record: RunRecord | None = None
        self._current: CurrentRun | None = None
        self._requested: CancelRequest | None = None
        """The cancel request that reached this run before its attempt began."""
        self._phase = _Phase.WAITING
        self._state: ActiveState | None = None
        """The state in which the task is counted among the active ones."""
        self._loop_task: asyncio.Task[None] | None = None
        self._thread: asyncio.Future[Ended] | None = None
        self._thread_ended = False
        self._timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._quiet = (0, 0)
        """How many reports the runner had made, and at how many looks since there was none more."""
        self._fenced_at: float | None = None
        self._released_why = CLOSED
        self._hooked = False
        """Whether hooks are around the runner just now."""
        self.task = task
        self.runner = runner
        self.completion = completion
        self.stop_reason: StopReason | None = None
        """Why the runner is stopped, or not begun; the first reason stays."""
        if claim is None:
            self._count_as(ActiveState.PENDING)

    @property
    def claimed(self) -> bool:
        """Whether a worker claimed the task: another one can run it as well."""
        return self._shared

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that may write to the task's tape; ``None`` until the task is claimed."""
        return None if self._record is None else self._record.attempt

    @property
    def waiting(self) -> bool:
        """Whether the run waits for a slot."""
        return self._phase is _Phase.WAITING

    @property
    def claiming(self) -> bool:
        """Whether the claim is under way, or was made and the attempt has not begun."""
        return self._phase is _Phase.CLAIMING

    @property
    def started(self) -> bool:
        """Whether the run was given a slot."""
        return self._loop_task is not None

    @property
    def fenced(self) -> bool:
        """Whether the runner went on past its grace: the run ends without it."""
        return self._fenced_at is not None

    @property
    def reports(self) -> int:
        """How often the runner has reported something so far; any thread may ask."""
        return 0 if self._record is None else self._record.tape.reports

    @property
    def ids(self) -> dict[str, object]:
        """Where to find the run, for a log line about it."""
        return ids_of(self.task, self._record)

    def runs_in(self, loop_task: object) -> bool:
        """Whether this asyncio task is the run's."""
        return self._loop_task is loop_task

    # --- what the pool asks of a run --------------------------------------------------------------

    def start(self) -> None:
        """Begin, in an asyncio task of its own with an empty context."""
        self._phase = _Phase.CLAIMING
        self._begin_loop_task()

    def cancel(self, request: CancelRequest) -> None:
        """Stop the runner because of a recorded request; any number of times, the first counts.

        While the task is being claimed the request is remembered, and the runner is not begun.
        """
        if self._record is None:
            self._requested = self._requested or request
        elif self._record.requested is None and self._phase is not _Phase.ENDED:
            self._record.requested = request
        self._stop(request)

    def release(self, why: str = CLOSED) -> None:
        """Stop the runner and give the task back: another worker can run it.

        A runner that returns all the same, within its grace, has done the task.
        """
        if self.stop_reason is None:
            self._released_why = why
        self._stop(RELEASED)

    @property
    def held_until(self) -> float | None:
        """When its lease is over (monotonic seconds); ``None`` where its attempt does not run."""
        record = self._record
        return record.deadline if record is not None and self._phase is _Phase.RUNNING else None

    def renew(self, until: float) -> None:
        """The lease holds until then (monotonic seconds): so long a ``final`` may be tried."""
        if self._phase is _Phase.RUNNING and self._record is not None:
            self._record.deadline = max(self._record.deadline, until)

    def lapse(self, at: float) -> None:
        """The store could not be asked: a lease that was over by then may be another owner's."""
        if self._record is not None and self._record.deadline <= at:
            self.lose_lease()

    def tell_if_long(self, now: float) -> None:
        """Log that the runner goes on, now and again, once that is for long (monotonic seconds)."""
        if self._phase is _Phase.RUNNING and self._record is not None:
            self._record.tell_if_long(now)

    def lose_lease(self) -> None:
        """Another owner may have the task: stop the runner, and write no end (invariant I5)."""
        if self._phase is _Phase.RUNNING:
            self._stop(LOST)

    def cancelled_before_start(self, request: CancelRequest) -> None:
        """The store ended the pending task as cancelled: there is nothing to run."""
        if self._phase is _Phase.WAITING:
            text = "Task %s (%s) was cancelled before it started: %s"
            log_run(logging.INFO, text, self.task, request.reason.value, None)
            self._end(FinalEvent.cancelled(request))

    def give_up_waiting(self, error: Exception | None) -> None:
        """End without having begun; ``error`` says why that could not be recorded."""
        if self._phase is _Phase.WAITING:
            self._end(None, error)

    # --- its asyncio task -------------------------------------------------------------------------

    def _begin_loop_task(self) -> None:
        given = self.runner.context
        context = contextvars.Context() if given is None else copy_untraced(given)
        self._loop_task = asyncio.get_running_loop().create_task(
            self._run(), name=f"tapescope-run-{self.task.task_id}", context=context
        )
        self._loop_task.add_done_callback(self._note_loop_task_end)

    def _note_loop_task_end(self, ended: asyncio.Task[None]) -> None:
        """Nearly always the run has ended itself; for one that could not, nobody must wait."""
        if self._phase is _Phase.ENDED or self.fenced:
            return
        if ended.cancelled() and self._phase is _Phase.CLAIMING and self._record is None:
            self._claim_cancelled = True  # before its first step: as a cancel that meets the claim
            self._begin_loop_task()
            return
        if not ended.cancelled():
            ended.exception()  # an exit of the process, which the loop has raised
        self._leave()

    def _leave(self) -> None:
        """The process is to end, and the run with it: its task is left to a rescue."""
        if self._record is not None:
            self._record.end_with_loop()
        self._end(None)

    # --- the pipeline -----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            claim = self._claim or await self._claim_task()
            if claim is None:
                self._end(None)  # cancelled while it waited, or claimed by another owner
                return
            retried = claim.attempt.number > 1 and self._settings.telemetry.makes_spans
            before = await self._find_run_before(claim.attempt) if retried else None
            record = self._begin(claim, before)
            verdict = await self._await_runner(record)
            if verdict is None:  # the run was settled when the runner was fenced
                if self._thread is None or self._thread_ended:
                    self._zombie_ended(record)
            else:
                await self._settle(record, verdict)
        except GeneratorExit:
            if self._record is not None:
                self._record.end_with_loop()
            raise
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end a task unseen
            self._lose(error)

    async def _claim_task(self) -> Claim | None:
        """The claim, or ``None`` where the task has ended, or is another owner's."""
        settings, task = self._settings, self.task
        try:
            claim, cancelled = await claim_task(
                settings.store,
                task,
                settings.owner,
                settings.lease,
                lambda: self.stop_reason is not None,
            )
        except (StoreUnavailable, EventFateUnknown, UnknownTask):
            raise  # there is no store to tell, or no task
        except Exception as error:
            if not await let_go(settings.store, task, settings.owner):
                raise
            text = "Task %s (%s) could not be claimed, and has failed: %s"
            told = tell(settings, task.op, error)
            log_run(logging.ERROR, text, task, told, None)
            return None
        self._claim_cancelled = self._claim_cancelled or cancelled
        return claim

    async def _find_run_before(self, attempt: Attempt) -> TracedAttempt | None:
        """The run of the attempt before, to link to. A store that is slow costs the link."""
        store = self._settings.store
        try:
            async with asyncio.timeout(_ASK_FOR):
                traced = await store.read_traced([attempt.task_id])
        except asyncio.CancelledError:
            forget_cancels()
            self._claim_cancelled = True
            return None
        except (TimeoutError, TapescopeError):
            return None
        return next((one for one in traced if one.attempt == attempt.number - 1), None)

    def _begin(self, claim: Claim, run_before: TracedAttempt | None) -> RunRecord:
        self.task = claim.task
        self._record = record = RunRecord(
            self._settings, claim, run_before, self.runner, shared=self.claimed
        )
        record.requested = self._requested
        self._current = CurrentRun(self, record, self._settings.store)
        self._current.attach()
        self._count_as(ActiveState.RUNNING)
        text = "Task %s (%s) has begun attempt %s."
        log_run(logging.DEBUG, text, self.task, record.attempt.number, record)
        return record

    async def _await_runner(self, record: RunRecord) -> Verdict | None:
        """Call the runner and judge how it ended; ``None`` when the run was settled meanwhile."""
        known = self._settings.hooks
        hooks: Sequence[RunHook] = ()
        if known is not None and known.around_runs:
            hooks = known.find_run_hooks(self.task.op)
        result: Any = None
        error: BaseException | None = None
        try:
            if self._claim_cancelled or self.stop_reason is not None:
                error = asyncio.CancelledError()  # it came before the runner was begun
            elif self.task.damage:
                self._phase = _Phase.SETTLING
                return judge_damaged(self.task.damage)
            else:
                try:
                    params = self._read_params()
                except BadParams as unfit:
                    self._phase = _Phase.SETTLING
                    return judge_unfit(unfit)
                except BaseException as raised:  # noqa: BLE001  # as below: a codec may raise it
                    error = raised
                else:
                    self._set_timer(self.task.timeout, self._time_out)
                    self._watch_for_reports()
                    self._phase = _Phase.RUNNING
                    try:
                        if hooks:
                            result, error = await self._call_hooked(record, params, hooks)
                        else:
                            result, error = await self._call_runner(record, params)
                    except BaseException as raised:  # noqa: BLE001  # SystemExit is an outcome, too
                        error = raised
                if not self._is_current():  # the coroutine is being closed, its loop is gone:
                    raise GeneratorExit from error  # whatever its cleanup made of that
            if self._loop_task is not None and self._loop_task.cancelling():
                forget_cancels()
            if self.fenced:
                # A thread is left behind by its run; a coroutine has just ended, as a zombie.
                left = self._thread is not None and not hooks
                return self._judge_fenced() if left else None
            self._phase = _Phase.SETTLING
            self._clear_timers()
            verdict = judge(
                self.stop_reason, result, error, self._limits, partial(self._keep_result, record)
            )
            if self._thread is not None and not self._thread_ended:
                self._fence(record)  # cancelled from outside: the thread goes on by itself
            return verdict
        finally:
            del error, result  # an exception that its own frame holds would outlive the run

    @property
    def _limits(self) -> Limits:
        return Limits(self.task.timeout, self.runner.stall_timeout, self._released_why)

    def _read_params(self) -> Mapping[str, Any]:
        """The runner's arguments. Raises ``BadParams`` where they are not, and ``CodecFailed``."""
        params = self._settings.values.decode_params(self._copy_params())
        self.runner.check(params)
        types = self.runner.types
        return params if types is None else types.decode_params(params)

    def _keep_result(self, record: RunRecord, result: Any) -> Any:
        types = self.runner.types
        return record.keeper.keep_result(result if types is None else types.encode_result(result))

    async def _call_hooked(
        self, record: RunRecord, params: Mapping[str, Any], hooks: Sequence[RunHook]
    ) -> Ended:
        """Call the runner inside of hooks.

        They are part of the attempt: what they return and raise is judged as the runner's. But
        where the attempt was stopped before the runner returned, no hook makes a success of that.
        """
        inner = _InnerEnd()

        async def call(_: RunCall) -> Any:
            if self.stop_reason is not None or self._phase is not _Phase.RUNNING:
                raise asyncio.CancelledError  # a hook has held the stop back: no runner is begun
            try:
                result, inner.error = await self._call_runner(record, params)
            except BaseException as error:
                inner.error = error
                raise
            if inner.error is not None:
                raise inner.error
            inner.returned = True
            return result

        told = RunCall(
            self.task.op,
            self.task.task_id,
            record.attempt.number,
            MappingProxyType(params),
            Reporter(record.tape, record.keeper),
            self.runner.in_thread,
        )
        self._hooked = True
        try:
            result = await Nested(hooks, call, call_run_hook).begin(told)
            if self.stop_reason is not None and not inner.returned:
                return None, inner.error or asyncio.CancelledError()
            return result, None
        finally:
            self._hooked = False
            inner.error = None  # an exception that its own frame holds would outlive the run

    async def _call_runner(self, record: RunRecord, params: Mapping[str, Any]) -> Ended:
        given: tuple[Any, ...] = ()
        if self.runner.resource is not None:
            given = (await self._settings.resources.find(self.runner.resource),)
        if not self.runner.in_thread:
            result = self.runner.call(Reporter(record.tape, record.keeper), *given, **params)
            return (await result if inspect.isawaitable(result) else result), None
        self._thread = asyncio.get_running_loop().create_future()
        kind = Reporter if self.runner.wraps_async else ThreadReporter
        name = f"tapescope-{self.task.op}"
        given = (kind(record.tape, record.keeper), *given)
        start_thread(self.runner, given, params, name, self._note_thread_end)
        result, error = await self._thread
        if self._hooked:
            if self.fenced:
                return None, asyncio.CancelledError()  # for the hooks: the thread goes on
            self._thread = None  # what follows is in the loop, and cancelled there
        if not inspect.isawaitable(result):
            return result, error
        if self.stop_reason is not None:  # it came before what was returned was begun
            close_unawaited(result)
            return None, asyncio.CancelledError()
        self._thread = None  # from here on it is a runner in the loop
        return await result, None

    def _copy_params(self) -> Mapping[str, Any]:
        """The task's params: what a runner makes of them is not for the next attempt to see."""
        task, params = self.task, self.task.params
        if task.retries_spent >= task.retries or {*map(type, params.values())} <= _UNCHANGING:
            return params
        return deepcopy(params)

    async def _settle(self, record: RunRecord, verdict: Verdict) -> None:
        """Write how the attempt ended, end the span, tell the waiting handles, in this order."""
        if (current := self._current) is not None:
            for say in current.before_end:
                say(current)
        end = await record.settle(verdict)
        if end.retry is None:
            self._end(end.final)
        else:
            self._close()
            self._host.retry(self, end.retry)

    def _lose(self, error: Exception) -> None:
        """Give the run up: its end could not be written, so the tape stays open."""
        told = tell(self._settings, self.task.op, error)
        if not isinstance(error, TapescopeError):
            text = "The run of task %s ended with a defect."
            _log.error(text, self.task.task_id, error=told, extra=self.ids)
        if self._record is not None:
            self._record.end_lost(told)
        text = "The end of task %s (%s) is lost: %s"
        log_run(logging.ERROR, text, self.task, told, self._record)
        self._end(None, error)

    def _end(self, final: FinalEvent | None, error: Exception | None = None) -> None:
        if self._phase is not _Phase.ENDED:
            self._close()
            self.completion.resolve(final, error)
            self._host.end(self)

    def _close(self) -> None:
        self._phase = _Phase.ENDED
        self._clear_timers()
        self._count_as(None)

    # --- stopping the runner ----------------------------------------------------------------------

    def _time_out(self) -> None:
        self._timer = None
        if self._phase is _Phase.RUNNING:
            self._stop(TIMEOUT)

    def _watch_for_reports(self) -> None:
        """Look now and again whether the runner has reported something, if it must.

        Each look begins the time to the next one: while the loop is blocked none passes, and so no
        runner is called stalled that could not run.
        """
        limit = self.runner.stall_timeout
        if limit is not None:
            pause = limit / _LOOKS
            self._stall_timer = asyncio.get_running_loop().call_later(pause, self._look_for_reports)

    def _look_for_reports(self) -> None:
        self._stall_timer = None
        if self._phase is not _Phase.RUNNING or self._record is None or self.stop_reason:
            return
        reports, looks = self._quiet
        tape = self._record.tape
        looks = looks + 1 if tape.reports == reports and not tape.reporting else 0
        self._quiet = tape.reports, looks
        if looks < _LOOKS:
            self._watch_for_reports()
        else:
            self._stop(STALLED)

    def _stop(self, reason: StopReason) -> None:
        """Stop the runner, or do not begin it. The first reason stays."""
        if self.stop_reason is not None:
            return
        if self._phase is _Phase.CLAIMING:
            self.stop_reason = reason
        elif self._phase is _Phase.RUNNING:
            self.stop_reason = reason
            self._cancel_runner(
                describe_stop(reason, self._limits, self._settings.store.clock.now())
            )

    def _cancel_runner(self, stop: CancelRequest) -> None:
        """The one cancel of this attempt; a thread cannot be interrupted and reads the stop."""
        assert self._record is not None
        assert self._loop_task is not None
        self._record.tape.stop = stop
        self._count_as(ActiveState.CANCELLING)
        self._set_timer(self._settings.cancel_grace, self._end_grace)
        if self._thread is None or (self._hooked and self._thread.cancelled()):
            self._loop_task.cancel()  # a hook may have left its thread, by a timeout of its own

    def _end_grace(self) -> None:
        assert self._record is not None
        self._timer = None
        ended = self._thread is not None and self._thread.done()
        if self._phase is _Phase.RUNNING and (self._hooked or not ended):
            self._fence(self._record)
            if self._thread is not None and not ended:
                self._thread.set_result((None, None))  # the run goes on without its thread
            if self._thread is None or self._hooked:
                self._host.spawn(partial(self._settle_fenced, self._record))

    # --- a runner that does not stop --------------------------------------------------------------

    def _fence(self, record: RunRecord) -> None:
        """From here on the runner is a zombie: what it still writes is dropped."""
        settings, task, tape = self._settings, self.task, record.tape
        self._phase = _Phase.SETTLING
        self._fenced_at = settings.store.clock.monotonic()
        if tape.stop is None:
            message, at = "the run was cancelled from outside", settings.store.clock.now()
            tape.stop = CancelRequest(CancelReason.SUPERSEDED, message, None, at)
        settings.telemetry.tasks.zombie(task.op, 1)
        text = "The runner of task %s (%s) does not stop and is fenced: %s"
        log_run(logging.WARNING, text, task, "its task ends without it", record)
        self._host.fence(self)

    def _judge_fenced(self) -> Verdict:
        assert self.stop_reason is not None
        return judge_fenced(self.stop_reason, self._limits)

    async def _settle_fenced(self, record: RunRecord) -> None:
        """Settle a run whose coroutine goes on: in an asyncio task with a context of its own."""
        record.span.attach()
        try:
            await self._settle(record, self._judge_fenced())
        except EXITS:
            self._leave()
            raise
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end a task unseen
            self._lose(error)

    def _note_thread_end(self, result: Any, error: BaseException | None) -> None:
        self._thread_ended = True
        if self.fenced:
            close_unawaited(result)
            assert self._record is not None
            if not self._hooked:  # else the hooks go on, and are the last to end
                self._zombie_ended(self._record)
        elif self._thread is not None and not self._thread.done():
            # Not as the future's exception: asyncio handles some exceptions in its own way.
            self._thread.set_result((result, error))

    def _zombie_ended(self, record: RunRecord) -> None:
        """The runner of a fenced run has ended at last."""
        assert self._fenced_at is not None
        settings, op = self._settings, self.task.op
        seconds = settings.store.clock.monotonic() - self._fenced_at
        settings.telemetry.tasks.overrun(op, seconds, record.span.context)
        settings.telemetry.tasks.zombie(op, -1)
        _log.info("The runner of task %s (%s) ran on for %.3f s.", self.task.task_id, op, seconds)
        self._host.zombie_ended(self)

    # --- its state and its timer ------------------------------------------------------------------

    def _count_as(self, state: ActiveState | None) -> None:
        """Count the task in its new state and no longer in the old one."""
        self._settings.telemetry.tasks.moved(self.task.op, self._state, state)
        self._state = state

    def _set_timer(self, seconds: float | None, then: Callable[[], None]) -> None:
        self._clear_timers()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _clear_timers(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _is_current(self) -> bool:
        try:
            return asyncio.current_task() is self._loop_task
        except RuntimeError:  # no loop is running
            return False
