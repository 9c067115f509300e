"""An attempt that has begun: its tape, its span, and the write that ends both.

``RunRecord.settle`` has one branch for each way to end: the write comes first, then the end of the
span, then the log. The run tells the waiting handles after that.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tapescope.model.answers import Finished
from tapescope.model.error_codes import LEASE_LOST, LOOP_CLOSED, RELEASED
from tapescope.model.frozen import quickly_made
from tapescope.model.tape import Outcome
from tapescope.model.tasks import (
    AttemptOutcome,
    CancelReason,
    CancelRequest,
    Claim,
    ErrorInfo,
    FinalEvent,
    Task,
)
from tapescope.model.times import format_time
from tapescope.run.durable_writes import write_final, write_release, write_retry
from tapescope.run.keeper import Keeper
from tapescope.run.outcome import LOST, Verdict
from tapescope.run.redaction import Redactor
from tapescope.run.resources import Resources
from tapescope.run.retry_policy import Refusal, RetryPlan, RetryPolicy
from tapescope.run.tape_writer import TapeWriter
from tapescope.store.task_rows import as_given_up
from tapescope_telemetry.failures import hide_texts, is_raised_here
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.model.leases import GivenUp, TracedAttempt
    from tapescope.run.hooks import RunHooks
    from tapescope.run.runner import Runner
    from tapescope.store.port import TaskStore
    from tapescope.values import Values
    from tapescope_telemetry import Telemetry

__all__ = ["RunEnd", "RunRecord", "RunSettings", "ids_of", "log_run", "tell"]

_log = Logger("tapescope")

_LONG: Final = 60.0
"""Seconds after which a run that goes on is told of; again after twice as long, and so on."""

_USUAL: Final = RetryPolicy()
"""When a failed attempt is made again, where neither op nor submit has a policy."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What all runs of one manager have in common. Times are in seconds."""

    store: TaskStore
    telemetry: Telemetry
    owner: str
    """The manager, as the rows of its running tasks name it."""
    lease: float
    """How long a claim holds."""
    settle_within: float | None
    """How long the store is tried for an attempt's last write; ``None``: while the lease holds."""
    cancel_grace: float
    """How long a cancelled runner may clean up before it is fenced."""
    coalesce_progress: float
    """Within this time a newer progress report replaces the one before it; 0 keeps every one."""
    retry_delay: float
    """How long a failed task waits for its first retry."""
    values: Values
    """How params, results and events are stored."""
    redactor: Redactor | None = None
    """What is asked before anything of a run is kept or told."""
    chance: Callable[[], float] = random.random
    """Gives a number from 0 up to 1: how much of its jitter a wait loses."""
    hooks: RunHooks | None = None
    """Who knows which hooks are around the runs of an op."""
    resources: Resources = field(default_factory=lambda: Resources({}, 0.0))
    """What is open for the runners."""


@quickly_made
@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run's attempt ended."""

    final: FinalEvent | None = None
    """The tape's ``final``; ``None`` when only the store knows it, or when there is none yet."""
    retry: Task | None = None
    """The task as it is pending again, where another attempt follows."""


class RunRecord:
    """One attempt's tape and span, from its claim to its end."""

    __slots__ = (
        "_policy",
        "_settings",
        "_shared",
        "attempt",
        "begun",
        "deadline",
        "keeper",
        "long_at",
        "requested",
        "span",
        "tape",
        "task",
    )

    def __init__(
        self,
        settings: RunSettings,
        claim: Claim,
        run_before: TracedAttempt | None,
        runner: Runner,
        *,
        shared: bool,
    ) -> None:
        """Open the run span, a root linked to the submit's and to the run of the attempt before,
        and make it current for the run.

        ``shared`` says that other workers can run the task as well.
        """
        task, attempt = claim.task, claim.attempt
        store = settings.store
        self._settings, self._shared = settings, shared
        self._policy = runner.retry or _USUAL
        self.task, self.attempt = task, attempt
        self.begun = store.clock.monotonic()
        self.long_at = self.begun + _LONG
        """When it is told next that the run goes on; both in monotonic seconds."""
        self.deadline = self.begun + settings.lease
        """The end of the lease, in monotonic seconds."""
        self.requested: CancelRequest | None = None
        """The cancel request that reached this run, in time or too late."""
        waited = None
        if task.claimed_us is not None:
            waited = max(0.0, (task.claimed_us - task.run_us) / 1e6)
        self.span = settings.telemetry.start_run_span(
            *(task.op, task.task_id, attempt.number, attempt.owner, task.traceparent, run_before),
            queue_wait=waited,
            timeout=task.timeout,
            retries_left=max(0, task.retries - task.retries_spent),
            function=runner.name if settings.telemetry.makes_spans else None,
            engine=task.engine,
        )
        self.span.attach()
        span_id = self.span.span_id if self.span.sampled else None
        store.attach_span(attempt, self.span.trace_id, self.span.context, span_id)
        self.tape = TapeWriter(store, attempt, self.span, settings.coalesce_progress)
        self.keeper = Keeper(task.op, settings.values, settings.redactor)
        if waited is not None:
            settings.telemetry.tasks.queue_wait(task.op, waited, self.span.context)

    def tell_if_long(self, now: float) -> None:
        """Log that the run goes on, if it is due: a span that has not ended is in no backend."""
        if now < self.long_at:
            return
        seconds = now - self.begun
        self.long_at = self.begun + 2 * seconds
        detail = f"has run for {seconds:.0f} s"
        log_run(logging.INFO, "Task %s (%s) %s", self.task, detail, self, running_for=seconds)

    async def settle(self, verdict: Verdict) -> RunEnd:
        """Write how the attempt ended, then end its span.

        Raises the store's error when the write cannot be made before the lease is over.
        """
        self.tape.seal()
        plan = self._plan_retry(verdict)  # of what was raised, before a hook has it
        if (redactor := self._settings.redactor) is not None:
            verdict = redactor.redact_verdict(self.task.op, verdict)
        if verdict.error is not None and self._settings.telemetry.hides_exception_texts:
            verdict = replace(verdict, error=hide_texts(verdict.error))
        if isinstance(plan, Refusal) and plan.why:
            verdict = verdict.not_retried(plan.why)
        if verdict.instead == LOST:
            return self._end_superseded()
        if verdict.instead == RELEASED:
            return await self._release(verdict)
        if isinstance(plan, RetryPlan):
            return await self._retry(verdict, plan)
        finished, verdict = await write_final(
            self._settings.store, self.attempt, verdict, self._limit_writing()
        )
        if not finished.won:
            return self._end_refused(finished)
        return self._end_finished(verdict, finished)

    def _limit_writing(self) -> Callable[[], float]:
        """Until when, in monotonic seconds, the last write is tried; the lease may be extended."""
        within = self._settings.settle_within
        if within is None:
            return lambda: self.deadline
        limit = self._settings.store.clock.monotonic() + within
        return lambda: min(self.deadline, limit)

    @property
    def _canceller(self) -> str | None:
        """The trace context of the span that a cancel was requested in, as far as it was told."""
        return None if self.requested is None else self.requested.traceparent

    def end_lost(self, error: BaseException) -> None:
        """End the span: the attempt's last write could not be made, and the tape stays open."""
        self.span.end(AttemptOutcome.LOST, error=error, canceller=self._canceller)

    def end_with_loop(self) -> None:
        """End the span (I8) of a run whose event loop is closed: nothing can be awaited there."""
        message = "the event loop was closed"
        self.span.end(
            AttemptOutcome.LOST,
            error_type=LOOP_CLOSED,
            message=message,
            canceller=self._canceller,
        )

    # --- other ends than a ``final`` --------------------------------------------------------------

    def _plan_retry(self, verdict: Verdict) -> RetryPlan | Refusal:
        settings = self._settings
        now = settings.store.due_clock.now()
        return self._policy.plan(verdict, self.task, now, settings.retry_delay, settings.chance)

    async def _retry(self, verdict: Verdict, plan: RetryPlan) -> RunEnd:
        """Put the failed attempt on the tape and hand the task back, unless a cancel came first."""
        settings, task = self._settings, self.task
        run_at = settings.store.due_clock.now() + round(plan.wait * 1_000_000)
        only_here = None if self._shared else task
        handed_back, verdict = await write_retry(
            settings.store,
            self.attempt,
            verdict,
            run_at,
            self._limit_writing(),
            only_here,
            plan.why,
        )
        if (end := self._end_unless_handed_back(handed_back)) is not None:
            return end
        error = None if verdict.final is None else verdict.final.error
        assert error is not None
        error = self._tell(error)
        self.span.end(
            AttemptOutcome.RETRIED,
            error=verdict.error,
            error_type=error.code,
            message=error.message,
            cancel_requested=self.requested is not None,
            canceller=self._canceller,
            tape_length=handed_back.last_seq,
            tape_dropped=self.tape.dropped,
        )
        settings.telemetry.tasks.retried(task.op, error.code, self.span.context)
        text = "Task %s (%s) failed and will be tried again: %s"
        next_try = format_time(run_at)
        when = f"next try in {plan.wait:.1f} s at {next_try}"
        detail = f"{_describe(error)} (attempt {task.attempt}, {when})"
        log_run(logging.WARNING, text, task, detail, self, verdict.error, next_try_at=next_try)
        return RunEnd(retry=as_given_up(task, run_at, spends=1))

    async def _release(self, verdict: Verdict) -> RunEnd:
        """Give the task back for another worker, unless a cancel is recorded; spend no retry."""
        handed_back = await write_release(
            self._settings.store, self.attempt, verdict.message, self._limit_writing()
        )
        if (end := self._end_unless_handed_back(handed_back)) is not None:
            return end
        self.span.end(
            AttemptOutcome.RELEASED,
            cancel_reason=CancelReason.SHUTDOWN.value,
            cancel_requested=self.requested is not None,
            canceller=self._canceller,
            tape_length=handed_back.last_seq,
            tape_dropped=self.tape.dropped,
        )
        text = "Task %s (%s) was released for another worker: %s"
        log_run(logging.INFO, text, self.task, verdict.message, self)
        return RunEnd()

    def _end_superseded(self) -> RunEnd:
        """End the span of a run whose lease was lost: another attempt ends the task (I8)."""
        self.span.end(
            AttemptOutcome.LOST,
            error_type=LEASE_LOST,
            message="the lease was lost, and another attempt may have the task",
            cancel_reason=CancelReason.SUPERSEDED.value,
            cancel_requested=True,
            canceller=self._canceller,
            tape_dropped=self.tape.dropped,
        )
        detail = "was taken over: its lease was lost here"
        log_run(logging.ERROR, "Task %s (%s) %s", self.task, detail, self)
        return RunEnd()

    # --- after the write --------------------------------------------------------------------------

    def _end_unless_handed_back(self, answer: GivenUp) -> RunEnd | None:
        """The attempt's end where the store did not hand the task back; ``None`` where it did."""
        if answer.final is not None:  # a cancel was recorded first: it took the retry's place
            finished = Finished(True, None, answer.outcome, answer.last_seq)
            return self._end_finished(Verdict(answer.final), finished)
        if answer.dropped is not None:
            return self._end_refused(
                Finished(False, answer.dropped, answer.outcome, answer.last_seq)
            )
        return None

    def _end_finished(self, verdict: Verdict, finished: Finished) -> RunEnd:
        final, task = verdict.final, self.task
        assert final is not None
        cancel = final.cancel or self.requested
        failed = None
        if final.outcome is Outcome.FAILED and final.error is not None:
            failed = self._tell(final.error)
        self.span.end(
            final.outcome,
            error=verdict.error,
            error_type=None if failed is None else failed.code,
            message="" if failed is None else failed.message,
            cancel_reason=None if cancel is None else cancel.reason.value,
            cancel_requested=cancel is not None,
            canceller=self._canceller if cancel is None else cancel.traceparent or self._canceller,
            tape_length=finished.last_seq,
            tape_dropped=self.tape.dropped,
        )
        if failed is not None:
            detail = f"{_describe(failed)} (attempt {task.attempt})"
            log_run(logging.WARNING, "Task %s (%s) failed: %s", task, detail, self, verdict.error)
        elif final.outcome is Outcome.CANCELLED and cancel is not None:
            log_run(logging.INFO, "Task %s (%s) was cancelled: %s", task, cancel.reason.value, self)
        else:
            log_run(
                logging.DEBUG, "Task %s (%s) succeeded in attempt %s.", task, task.attempt, self
            )
        return RunEnd(final)

    def _tell(self, error: ErrorInfo) -> ErrorInfo:
        """The error of the tape as span and log have it."""
        hidden = self._settings.telemetry.hides_exception_texts
        return replace(error, message="") if hidden else error

    def _end_refused(self, finished: Finished) -> RunEnd:
        """End the span of a run whose ``final`` the store dropped: the tape is another's by now."""
        reason = None if finished.dropped is None else finished.dropped.value
        self.span.end(
            AttemptOutcome.LOST,
            error_type=reason,
            message="the task was taken over, and the end of this run was refused",
            cancel_requested=self.requested is not None,
            canceller=self._canceller,
            tape_length=finished.last_seq,
        )
        text = "Task %s (%s): its final was dropped: %s"
        log_run(logging.WARNING, text, self.task, reason, self)
        return RunEnd()


def tell(settings: RunSettings, op: str, error: BaseException) -> BaseException:
    """What spans and logs are told in the place of an exception."""
    if settings.redactor is not None:
        error = settings.redactor.redact_exception(op, error)
    return hide_texts(error) if settings.telemetry.hides_exception_texts else error


def ids_of(task: Task, record: RunRecord | None) -> dict[str, object]:
    """What a log line about a run has besides its text: where to find the run."""
    span = record and record.span
    return {
        "trace_id": span and span.trace_id,
        "span_id": span and span.span_id,
        "task_id": task.task_id,
        "op": task.op,
        "attempt": task.attempt or None,
    }


def log_run(
    level: int,
    text: str,
    task: Task,
    detail: object,
    record: RunRecord | None,
    error: BaseException | None = None,
    **extra: object,
) -> None:
    """Log a line about a run, with the ids of its span and what its runner raised.

    ``text`` has three places: for the task's id, its op and ``detail``.
    """
    if _log.is_enabled_for(level):
        _log.log(
            level,
            text,
            task.task_id,
            task.op,
            detail,
            extra=ids_of(task, record) | extra,
            error=error,
            with_traceback=error is not None and not is_raised_here(error),
            stacklevel=2,
        )


def _describe(error: ErrorInfo) -> str:
    """An error in one line: its code and the first line of its message."""
    return f"{error.code}: {error.message.strip().partition(chr(10))[0]}".rstrip(": ")
