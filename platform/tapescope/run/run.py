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
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts

from tapescope.errors import TapescopeError
from tapescope.model.tasks import Attempt, CancelReason, CancelRequest, Claim, FinalEvent, Task
from tapescope.run.attempt import RunRecord, log_run
from tapescope.run.durable_writes import claim_task, forget_cancels
from tapescope.run.host import Phase, RunHost
from tapescope.run.outcome import LOST, RELEASED, TIMEOUT, StopReason, Verdict, judge, judge_fenced
from tapescope.run.reporter import Reporter, ThreadReporter
from tapescope.run.runner import Runner, start_thread

if TYPE_CHECKING:
    from tapescope.run.completion import Completion

__all__ = ["Run"]

_log = logging.getLogger("tapescope")

Ended = tuple[Any, BaseException | None]
"""What a runner returned, or what it raised."""


class Run:
    """A task that is run here, from its place in the queue, or from its claim, to its end."""

    __slots__ = (
        "_claimed",
        "_fenced_at",
        "_host",
        "_job",
        "_outside_cancel",
        "_record",
        "_state",
        "_thread",
        "_thread_ended",
        "_timer",
        "blame",
        "ending",
        "phase",
        "requested",
        "runner",
        "task",
    )

    def __init__(
        self,
        host: RunHost,
        task: Task,
        runner: Runner,
        ending: Completion,
        claim: Claim | None = None,
    ) -> None:
        """``claim`` is of a task that was claimed already: nobody else has to be asked."""
        self._host = host
        self.runner = runner
        self._claimed = claim
        self._job: asyncio.Task[None] | None = None
        self._record: RunRecord | None = None
        self._thread: asyncio.Future[Ended] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fenced_at: float | None = None
        self._outside_cancel = False
        self._thread_ended = False
        self._state: str | None = None
        self.task = task
        self.ending = ending
        self.phase = Phase.WAITING
        self.blame: StopReason = None
        self.requested: CancelRequest | None = None
        """The cancel we were told of, whether it came in time or not."""
        if claim is None:
            self._enter("pending")

    @property
    def claimed(self) -> bool:
        """Whether it began with a claim: another worker can run the task as well."""
        return self._claimed is not None

    @property
    def attempt(self) -> Attempt | None:
        """The attempt that may write to the task's tape; ``None`` until it is claimed."""
        return None if self._record is None else self._record.attempt

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

    def is_job(self, job: object) -> bool:
        """Whether it runs as this asyncio task."""
        return self._job is job

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
            if self._record is not None:
                self._record.requested = request
        if self.blame is None and self.phase in (Phase.CLAIMING, Phase.RUNNING):
            self.blame = request
            if self.phase is Phase.RUNNING:
                self._stop_runner(request)

    def release(self) -> None:
        """Stop the runner and give the task back: another worker can run it.

        A runner that returns all the same, within its grace, has done the task.
        """
        if self.blame is None and self.phase in (Phase.CLAIMING, Phase.RUNNING):
            self.blame = RELEASED
            if self.phase is Phase.RUNNING:
                why, at = "the manager was closed", self._host.store.clock.now()
                self._stop_runner(CancelRequest(CancelReason.SHUTDOWN, why, None, at))

    def renew(self, until: float) -> None:
        """The lease holds until then (monotonic seconds): so long a ``final`` may be tried."""
        if self.phase is Phase.RUNNING and self._record is not None:
            self._record.deadline = max(self._record.deadline, until)

    def lapse(self, at: float) -> None:
        """The store could not be asked: a lease that was over by then may be another's."""
        if self._record is not None and self._record.deadline <= at:
            self.lose_lease()

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
            self._end(FinalEvent.cancelled(request))

    def give_up_waiting(self, error: Exception | None) -> None:
        """End without having begun; ``error`` says why that could not be put on record."""
        if self.phase is Phase.WAITING:
            self._end(None, error)

    # --- the pipeline -----------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            claim = self._claimed or await self._claim()
            if claim is None:
                self._end(None)  # cancelled while it waited, or somebody else has it
                return
            self._begin(claim)
            verdict = await self._work()
            if verdict is None:
                self._overrun_ended()  # fenced: it was settled without its runner
            else:
                await self._settle(verdict)
        except GeneratorExit:
            if self._record is not None:
                self._record.abandon()
            raise
        except TapescopeError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end a task unseen
            self._break_down(error)

    async def _claim(self) -> Claim | None:
        host = self._host
        claim, self._outside_cancel = await claim_task(
            host.store, self.task, host.owner, host.lease, lambda: self.blame is not None
        )
        return claim

    def _begin(self, claim: Claim) -> None:
        self.task = claim.task
        self._record = RunRecord(self._host, claim)
        self._record.requested = self.requested
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
        assert self._record is not None
        tape = self._record.tape
        if not self.runner.in_thread:
            found = self.runner.call(Reporter(tape), **self.task.params)
            return (await found if inspect.isawaitable(found) else found), None
        self._thread = asyncio.get_running_loop().create_future()
        reporter = ThreadReporter(tape)
        name = f"tapescope-{self.task.op}"
        start_thread(self.runner, reporter, self.task.params, name, self._hear_thread)
        return await self._thread

    def _hear_thread(self, result: Any, error: BaseException | None) -> None:
        self._thread_ended = True
        if self._fenced_at is not None:
            self._overrun_ended()
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
        assert self._record is not None
        assert self._job is not None
        self._record.tape.stop = request
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
                self._host.spawn(self._settle_fenced())

    def _fence(self) -> None:
        """From here on the runner works for nobody: what it still writes will be dropped."""
        assert self._record is not None
        host, task, tape = self._host, self.task, self._record.tape
        self.phase = Phase.SETTLING
        self._fenced_at = host.store.clock.monotonic()
        if tape.stop is None:
            message, at = "the run was cancelled from outside", host.store.clock.now()
            tape.stop = CancelRequest(CancelReason.SUPERSEDED, message, None, at)
        host.telemetry.tasks.zombie(task.op, 1)
        _log.warning(
            "The runner of task %s (%s) does not stop and is fenced.", task.task_id, task.op
        )
        host.fence(self)

    def _overrun_ended(self) -> None:
        """The runner of a fenced run has ended at last."""
        assert self._fenced_at is not None
        assert self._record is not None
        host, op = self._host, self.task.op
        seconds = host.store.clock.monotonic() - self._fenced_at
        host.telemetry.tasks.overrun(op, seconds, self._record.span.context)
        host.telemetry.tasks.zombie(op, -1)
        _log.info("The runner of task %s (%s) ran on for %.3f s.", self.task.task_id, op, seconds)
        host.zombie_ended(self)

    def _judge_fenced(self) -> Verdict:
        assert self.blame is not None
        return judge_fenced(self.blame, self.task.timeout)

    async def _settle_fenced(self) -> None:
        assert self._record is not None
        contexts.attach(self._record.span.context)  # a task of its own, with a context of its own
        try:
            await self._settle(self._judge_fenced())
        except TapescopeError as error:
            self._lose(error)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not end a task unseen
            self._break_down(error)

    # --- the end ----------------------------------------------------------------------------------

    async def _settle(self, verdict: Verdict) -> None:
        """Write how the attempt ended, end the span, tell who waits, in this order."""
        record, task = self._record, self.task
        assert record is not None
        record.tape.seal()
        if self.blame == LOST:
            end = record.give_up_lease()
        elif verdict.releases:
            assert verdict.final.error is not None
            end = await record.release(verdict.final.error.message)
        elif verdict.may_be_retried and task.retries_spent < task.retries:
            end = await record.retry(verdict)
        else:
            end = await record.finish(verdict)
        if end.again is None:
            self._end(end.final)
        else:
            self._leave()
            self._host.retry(self, end.again)

    def _break_down(self, error: Exception) -> None:
        """What came up is no fate of the task's that we know of."""
        _log.error("The run of task %s ended with a defect.", self.task.task_id, exc_info=error)
        self._lose(error)

    def _lose(self, error: Exception) -> None:
        """The tape stays open: the end of this run could not be written."""
        if self._record is not None:
            self._record.lose(error)
        self._log(logging.ERROR, "The end of task %s (%s) is lost: %s", error)
        self._end(None, error)

    def _end(self, final: FinalEvent | None, error: Exception | None = None) -> None:
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
        log_run(level, text, self.task, about, self._record)
