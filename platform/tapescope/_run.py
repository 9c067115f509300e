"""One run of a task: claim → span → runner → settle, with one way out for each outcome.

A run is one asyncio task. Our cancel reaches it exactly once, and only while the runner is awaited,
so it always lands in the runner. Who is to blame for it is a flag of ours, not ``cancelling()``: a
runner's own ``asyncio.timeout()`` and ``TaskGroup`` keep working.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts

from tapescope._calls import Finished
from tapescope._retry import wait_before_retry
from tapescope._run_host import Phase, RunHost
from tapescope._run_tape import RunTape
from tapescope._run_writes import claim_task, forget_cancels, write_final, write_retry
from tapescope._runner import Runner, start_thread
from tapescope._verdict import LOST, TIMEOUT, Blame, Verdict, judge, judge_fenced
from tapescope.errors import TapescopeError
from tapescope.reporter import Reporter, ThreadReporter
from tapescope.tape import Outcome
from tapescope.tasks import Attempt, CancelReason, CancelRequest, Claim, Final, Task, TaskStatus

if TYPE_CHECKING:
    from tapescope._ending import Ending
    from tapescope_telemetry import RunSpan

__all__ = ["Run"]

_log = logging.getLogger("tapescope")

Ended = tuple[Any, BaseException | None]
"""What a runner returned, or what it raised."""


class Run:
    """A task that was submitted here, from its place in the queue to its end."""

    __slots__ = (
        "_deadline",
        "_fenced_at",
        "_host",
        "_job",
        "_outside_cancel",
        "_span",
        "_state",
        "_tape",
        "_thread",
        "_thread_ended",
        "_timer",
        "attempt",
        "blame",
        "ending",
        "phase",
        "requested",
        "runner",
        "task",
    )

    def __init__(self, host: RunHost, task: Task, runner: Runner, ending: Ending) -> None:
        self._host = host
        self.runner = runner
        self._job: asyncio.Task[None] | None = None
        self.attempt: Attempt | None = None
        self._span: RunSpan | None = None
        self._tape: RunTape | None = None
        self._thread: asyncio.Future[Ended] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._fenced_at: float | None = None
        self._outside_cancel = False
        self._thread_ended = False
        self._state: str | None = None
        self.task = task
        self.ending = ending
        self.phase = Phase.WAITING
        self.blame: Blame = None
        self.requested: CancelRequest | None = None
        """The cancel we were told of, whether it came in time or not."""
        self._enter("pending")

    @property
    def waits(self) -> bool:
        """Whether it waits for a slot."""
        return self.phase is Phase.WAITING

    @property
    def started(self) -> bool:
        """Whether it was given a slot."""
        return self._job is not None

    @property
    def fenced(self) -> bool:
        """Whether the runner went on past its grace: the run ends without it."""
        return self._fenced_at is not None

    # --- what others ask of it --------------------------------------------------------------------

    def start(self) -> None:
        """Begin, in an asyncio task of its own with an empty context."""
        self.phase = Phase.CLAIMING
        self._job = asyncio.get_running_loop().create_task(
            self._live(), name=f"tapescope-run-{self.task.task_id}", context=contextvars.Context()
        )

    def cancel(self, request: CancelRequest) -> None:
        """Stop the runner because of a request on record; any number of times, the first counts.

        While it is being claimed the request is remembered, and the runner is not begun.
        """
        if self.requested is None and self.phase is not Phase.ENDED:
            self.requested = request
        if self.blame is None and self.phase in (Phase.CLAIMING, Phase.RUNNING):
            self.blame = request
            if self.phase is Phase.RUNNING:
                self._stop_runner(request)

    def renew(self) -> None:
        """The lease was extended: from here on, as long as it holds, a ``final`` may be tried."""
        if self.phase is Phase.RUNNING:
            self._deadline = self._host.store.clock.monotonic() + self._host.lease

    def lose_lease(self) -> None:
        """The task is no longer ours: stop the runner; it settles nothing (invariant I5)."""
        if self.phase is Phase.RUNNING and self.blame is None:
            self.blame = LOST
            why, at = "the lease was lost", self._host.store.clock.now()
            self._stop_runner(CancelRequest(CancelReason.SUPERSEDED, why, None, at))

    def cancelled_before_start(self, request: CancelRequest) -> None:
        """The store ended the pending task as cancelled: there is nothing to run."""
        if self.phase is Phase.WAITING:
            text = "Task %s (%s) was cancelled before it started: %s"
            self._log(logging.INFO, text, request.reason.value)
            self._end(Final.cancelled(request))

    def give_up_waiting(self, error: Exception | None) -> None:
        """End without having begun; ``error`` says why that could not be put on record."""
        if self.phase is Phase.WAITING:
            self._end(None, error)

    # --- the pipeline -----------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            claim = await self._claim()
            if claim is None:
                self._end(None)  # cancelled while it waited, or somebody else has it
                return
            self._begin(claim)
            verdict = await self._work()
            if verdict is None:
                self._rest()  # fenced: it was settled without its runner
            else:
                await self._settle(verdict)
        except GeneratorExit:
            self._abandon()
            raise
        except TapescopeError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end a task unseen
            _log.exception("The run of task %s ended with a defect.", self.task.task_id)
            self._lose(error)

    async def _claim(self) -> Claim | None:
        host, store = self._host, self._host.store
        claim, self._outside_cancel = await claim_task(
            store, self.task, host.owner, host.lease, lambda: self.blame is not None
        )
        self._deadline = store.clock.monotonic() + host.lease
        return claim

    def _begin(self, claim: Claim) -> None:
        """Open the run span, a root linked to the submit's, and make it current for the run."""
        host, task, attempt = self._host, claim.task, claim.attempt
        self.task, self.attempt = task, attempt
        self._span = span = host.telemetry.start_run_span(
            task.op, task.task_id, attempt.number, attempt.owner, task.traceparent
        )
        contexts.attach(span.context)  # never detached: the context is this run's alone
        host.store.trace(attempt, span.trace_id, span.context)
        self._tape = RunTape(host.store, attempt, span, host.coalesce_progress)
        if task.claimed_at is not None:
            waited = (task.claimed_at - task.run_at) / 1e6
            host.telemetry.tasks.queue_wait(task.op, waited, span.context)
        self._enter("running")

    async def _work(self) -> Verdict | None:
        """Await the runner and judge how it ended; ``None`` when somebody else settles the run."""
        result: Any = None
        error: BaseException | None = None
        try:
            if self._outside_cancel or self.blame is not None:
                error = asyncio.CancelledError()  # it came before the runner was begun
            else:
                self._arm(self.task.timeout, self._time_out)
                self.phase = Phase.RUNNING
                try:
                    result, error = await self._call_runner()
                except BaseException as raised:  # SystemExit is an outcome, too
                    if isinstance(raised, GeneratorExit) and not self._is_current():
                        raise  # the coroutine is being closed, its loop is gone
                    error = raised
            if self._job is not None and self._job.cancelling():
                forget_cancels()
            if self._fenced_at is not None:
                return self._judge_fenced() if self.runner.in_thread else None
            self.phase = Phase.SETTLING
            self._disarm()
            verdict = judge(self.blame, result, error, self.task.timeout)
            if self._thread is not None and not self._thread_ended:
                self._fence()  # cancelled from outside: the thread goes on, nobody waits for it
            return verdict
        finally:
            del error, result  # an exception that its own frame holds would outlive the run

    async def _call_runner(self) -> Ended:
        assert self._tape is not None
        if not self.runner.in_thread:
            found = self.runner.call(Reporter(self._tape), **self.task.params)
            return (await found if inspect.isawaitable(found) else found), None
        self._thread = asyncio.get_running_loop().create_future()
        reporter = ThreadReporter(self._tape)
        name = f"tapescope-{self.task.op}"
        start_thread(self.runner, reporter, self.task.params, name, self._hear_thread)
        return await self._thread

    def _hear_thread(self, result: Any, error: BaseException | None) -> None:
        self._thread_ended = True
        if self._fenced_at is not None:
            self._rest()
        elif self._thread is not None and not self._thread.done():
            # Not as the future's exception: asyncio takes some of them for its own affair.
            self._thread.set_result((result, error))

    # --- stopping the runner ----------------------------------------------------------------------

    def _time_out(self) -> None:
        self._timer = None
        if self.phase is Phase.RUNNING and self.blame is None:
            self.blame = TIMEOUT
            message = f"the timeout of {self.task.timeout:g} s has passed"
            at = self._host.store.clock.now()
            self._stop_runner(CancelRequest(CancelReason.SUPERSEDED, message, None, at))

    def _stop_runner(self, request: CancelRequest) -> None:
        """The one cancel of this attempt; a thread cannot be interrupted and sees the request."""
        assert self._tape is not None
        assert self._job is not None
        self._tape.stop = request
        self._enter("cancelling")
        self._arm(self._host.cancel_grace, self._grace_over)
        if not self.runner.in_thread:
            self._job.cancel()

    def _grace_over(self) -> None:
        self._timer = None
        ended = self._thread is not None and self._thread.done()
        if self.phase is Phase.RUNNING and not ended:
            self._fence()
            if self._thread is not None:
                self._thread.set_result((None, None))  # the run goes on without its thread
            else:
                self._host.keep(self._settle_fenced())

    def _fence(self) -> None:
        """From here on the runner works for nobody: what it still writes will be dropped."""
        assert self._tape is not None
        host, task = self._host, self.task
        self.phase = Phase.SETTLING
        self._fenced_at = host.store.clock.monotonic()
        if self._tape.stop is None:
            message, at = "the run was cancelled from outside", host.store.clock.now()
            self._tape.stop = CancelRequest(CancelReason.SUPERSEDED, message, None, at)
        host.telemetry.tasks.zombie(task.op, 1)
        _log.warning(
            "The runner of task %s (%s) does not stop and is fenced.", task.task_id, task.op
        )
        host.fence(self)

    def _rest(self) -> None:
        """The runner of a fenced run has ended at last."""
        assert self._fenced_at is not None
        assert self._span is not None
        host, op = self._host, self.task.op
        seconds = host.store.clock.monotonic() - self._fenced_at
        host.telemetry.tasks.overrun(op, seconds, self._span.context)
        host.telemetry.tasks.zombie(op, -1)
        _log.info("The runner of task %s (%s) ran on for %.3f s.", self.task.task_id, op, seconds)
        host.lay_to_rest(self)

    def _judge_fenced(self) -> Verdict:
        assert self.blame is not None
        return judge_fenced(self.blame, self.task.timeout)

    async def _settle_fenced(self) -> None:
        assert self._span is not None
        contexts.attach(self._span.context)  # a task of its own, with a context of its own
        try:
            await self._settle(self._judge_fenced())
        except TapescopeError as error:
            self._lose(error)

    # --- the end ----------------------------------------------------------------------------------

    async def _settle(self, verdict: Verdict) -> None:
        """Write the ``final``, end the span, tell who waits, in this order."""
        assert self.attempt is not None
        assert self._tape is not None
        self._tape.seal()
        if self.blame == LOST:
            self._give_up_lease()
            return
        if verdict.may_be_retried and self.task.retries_spent < self.task.retries:
            await self._retry(verdict)
            return
        finished, verdict = await write_final(
            self._host.store, self.attempt, verdict, lambda: self._deadline
        )
        if finished.won:
            self._tell(verdict, finished)
            self._end(verdict.final)
        else:
            await self._give_way(finished)

    async def _retry(self, verdict: Verdict) -> None:
        """Put the failed attempt on the tape and hand the task back, unless a cancel came first."""
        assert self.attempt is not None
        assert self._tape is not None
        assert self._span is not None
        host, task = self._host, self.task
        wait = wait_before_retry(host.retry_delay, task.retries_spent)
        run_at = host.store.clock.now() + round(wait * 1_000_000)
        given, verdict = await write_retry(
            host.store, self.attempt, verdict, run_at, lambda: self._deadline
        )
        error = verdict.final.error
        assert error is not None
        if given.final is not None:
            self._tell(Verdict(given.final), Finished(True, None, given.outcome, given.last_seq))
            self._end(given.final)
        elif given.dropped is not None:
            await self._give_way(Finished(False, given.dropped, given.outcome, given.last_seq))
        else:
            self._span.end(
                "retried",
                error=verdict.error,
                error_type=error.code,
                message=error.message,
                cancel_requested=self.requested is not None,
                tape_length=given.last_seq,
                tape_dropped=self._tape.dropped,
            )
            host.telemetry.tasks.retried(task.op, error.code, self._span.context)
            self._log(logging.WARNING, "Task %s (%s) will be tried again after: %s", error.code)
            self._leave()
            host.retry(
                self,
                replace(
                    task,
                    status=TaskStatus.PENDING,
                    owner=None,
                    claimed_at=None,
                    lease_expires_at=None,
                    run_at=run_at,
                    retries_spent=task.retries_spent + 1,
                ),
            )

    def _give_up_lease(self) -> None:
        """Whoever took the task over ends it; of this run only its span is left to end (I8)."""
        assert self._span is not None
        assert self._tape is not None
        self._span.end(
            "lost",
            error_type="lease_lost",
            message="the lease was lost, and another attempt may have the task",
            cancel_reason=CancelReason.SUPERSEDED.value,
            cancel_requested=True,
            tape_dropped=self._tape.dropped,
        )
        self._log(logging.ERROR, "Task %s (%s) %s", "was taken over: its lease was lost here")
        self._end(None)

    def _tell(self, verdict: Verdict, finished: Finished) -> None:
        assert self._span is not None
        assert self._tape is not None
        final, task = verdict.final, self.task
        cancel = final.cancel or self.requested
        failed = final.error if final.outcome is Outcome.FAILED else None
        self._span.end(
            final.outcome.value,
            error=verdict.error,
            error_type=None if failed is None else failed.code,
            message="" if failed is None else failed.message,
            cancel_reason=None if cancel is None else cancel.reason.value,
            cancel_requested=cancel is not None,
            tape_length=finished.last_seq,
            tape_dropped=self._tape.dropped,
        )
        if failed is not None:
            self._log(logging.WARNING, "Task %s (%s) failed: %s", failed.code)
        elif final.outcome is Outcome.CANCELLED and cancel is not None:
            self._log(logging.INFO, "Task %s (%s) was cancelled: %s", cancel.reason.value)
        else:
            _log.debug("Task %s (%s) succeeded.", task.task_id, task.op)

    async def _give_way(self, finished: Finished) -> None:
        """The tape is no longer ours: the span tells what the store holds, or that it is lost."""
        assert self._span is not None
        reason = None if finished.dropped is None else finished.dropped.value
        if finished.outcome is None:
            self._span.end("lost", error_type=reason, message="another attempt has the task")
        else:
            try:
                row = await self._host.store.get(self.task.task_id)
            except TapescopeError:
                row = self.task  # the outcome is known all the same; its reason is not
            self._span.end(
                finished.outcome.value,
                error_type=row.error_code,
                cancel_reason=None if row.cancel is None else row.cancel.reason.value,
                cancel_requested=row.cancel is not None,
                tape_length=finished.last_seq,
            )
        self._log(logging.WARNING, "Task %s (%s): its final was dropped: %s", reason)
        self._end(None)

    def _lose(self, error: Exception) -> None:
        """The tape stays open: the end of this run could not be written."""
        if self._span is not None:
            self._span.end("lost", error=error)
        self._log(logging.ERROR, "The end of task %s (%s) is lost: %s", error)
        self._end(None, error)

    def _abandon(self) -> None:
        """The loop is gone: nothing can be awaited any more, but the span shall be ended (I8)."""
        if self._span is not None:
            self._span.end("lost", error_type="loop_closed", message="the event loop was closed")

    def _end(self, final: Final | None, error: Exception | None = None) -> None:
        if self.phase is Phase.ENDED:
            return
        self._leave()
        self.ending.resolve(final, error)
        self._host.end(self)

    def _leave(self) -> None:
        self.phase = Phase.ENDED
        self._disarm()
        self._enter(None)

    # --- small things -----------------------------------------------------------------------------

    def _enter(self, state: str | None) -> None:
        """Count the task in its new state and no longer in the old one."""
        self._host.telemetry.tasks.moved(self.task.op, self._state, state)
        self._state = state

    def _arm(self, seconds: float | None, then: Callable[[], None]) -> None:
        self._disarm()
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_current(self) -> bool:
        try:
            return asyncio.current_task() is self._job
        except RuntimeError:  # no loop is running
            return False

    def _log(self, level: int, text: str, about: object) -> None:
        if _log.isEnabledFor(level):
            span = self._span
            task_id, op = self.task.task_id, self.task.op
            told = {
                "trace_id": span and span.trace_id,
                "span_id": span and span.span_id,
                "task_id": task_id,
                "op": op,
            }
            _log.log(level, text, task_id, op, about, extra=told, stacklevel=2)
