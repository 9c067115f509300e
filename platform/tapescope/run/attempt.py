"""What a run that began has to keep in order: its tape, its span, and the write that ends both.

Each way to end an attempt is a method here: the write comes first, then the span, then the log. Who
waits for the task is told by the run, after that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from opentelemetry import context as contexts

from tapescope.model.answers import Finished
from tapescope.model.tape import Outcome
from tapescope.model.tasks import CancelReason, CancelRequest, Claim, FinalEvent, Task, TaskStatus
from tapescope.run.backoff import wait_before_retry
from tapescope.run.durable_writes import write_final, write_release, write_retry
from tapescope.run.outcome import Verdict
from tapescope.run.tape_writer import RunTape

if TYPE_CHECKING:
    from tapescope.model.leases import GivenUp
    from tapescope.run.host import RunHost

__all__ = ["RunEnd", "RunRecord", "log_run"]

_log = logging.getLogger("tapescope")


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run's attempt ended."""

    final: FinalEvent | None = None
    """The tape's ``final``; ``None`` when only the store knows it, or when there is none yet."""
    again: Task | None = None
    """The task as it is pending again, for a retry."""


class RunRecord:
    """One attempt's tape and span, from its claim to its end."""

    __slots__ = ("_host", "attempt", "deadline", "requested", "span", "tape", "task")

    def __init__(self, host: RunHost, claim: Claim) -> None:
        """Open the run span, a root linked to the submit's, and make it current for the run."""
        task, attempt = claim.task, claim.attempt
        self._host = host
        self.task, self.attempt = task, attempt
        self.deadline = host.store.clock.monotonic() + host.lease
        """Until when, in monotonic seconds, the attempt's last write is tried: its lease's end."""
        self.requested: CancelRequest | None = None
        """The cancel we were told of, whether it came in time or not."""
        self.span = host.telemetry.start_run_span(
            task.op, task.task_id, attempt.number, attempt.owner, task.traceparent
        )
        contexts.attach(self.span.context)  # never detached: the context is this run's alone
        host.store.attach_span(attempt, self.span.trace_id, self.span.context)
        self.tape = RunTape(host.store, attempt, self.span, host.coalesce_progress)
        if task.claimed_at is not None:
            waited = (task.claimed_at - task.run_at) / 1e6
            host.telemetry.tasks.queue_wait(task.op, waited, self.span.context)

    # --- the ends ---------------------------------------------------------------------------------

    async def finish(self, verdict: Verdict) -> RunEnd:
        """Write the ``final``. Raises the store's error when that cannot be done in time."""
        finished, verdict = await write_final(
            self._host.store, self.attempt, verdict, lambda: self.deadline
        )
        if not finished.won:
            return self._give_way(finished)
        self._tell(verdict, finished)
        return RunEnd(verdict.final)

    async def retry(self, verdict: Verdict) -> RunEnd:
        """Put the failed attempt on the tape and hand the task back, unless a cancel came first."""
        host, task = self._host, self.task
        wait = wait_before_retry(host.retry_delay, task.retries_spent)
        run_at = host.store.clock.now() + round(wait * 1_000_000)
        given, verdict = await write_retry(
            host.store, self.attempt, verdict, run_at, lambda: self.deadline
        )
        if (other := self._ended_otherwise(given)) is not None:
            return other
        error = verdict.final.error
        assert error is not None
        self.span.end(
            "retried",
            error=verdict.error,
            error_type=error.code,
            message=error.message,
            cancel_requested=self.requested is not None,
            tape_length=given.last_seq,
            tape_dropped=self.tape.dropped,
        )
        host.telemetry.tasks.retried(task.op, error.code, self.span.context)
        self._log(logging.WARNING, "Task %s (%s) will be tried again after: %s", error.code)
        pending = replace(
            task,
            status=TaskStatus.PENDING,
            owner=None,
            claimed_at=None,
            lease_expires_at=None,
            run_at=run_at,
            retries_spent=task.retries_spent + 1,
        )
        return RunEnd(again=pending)

    async def release(self, why: str) -> RunEnd:
        """Give the task back for another worker, unless a cancel is on record; no retry is spent.

        ``why`` is for people: it goes on the tape with the ``attempt_failed``.
        """
        given = await write_release(self._host.store, self.attempt, why, lambda: self.deadline)
        if (other := self._ended_otherwise(given)) is not None:
            return other
        self.span.end(
            "released",
            cancel_reason=CancelReason.SHUTDOWN.value,
            cancel_requested=self.requested is not None,
            tape_length=given.last_seq,
            tape_dropped=self.tape.dropped,
        )
        self._log(logging.INFO, "Task %s (%s) was released for another worker: %s", why)
        return RunEnd()

    def give_up_lease(self) -> RunEnd:
        """Whoever took the task over ends it; of this run only its span is left to end (I8)."""
        self.span.end(
            "lost",
            error_type="lease_lost",
            message="the lease was lost, and another attempt may have the task",
            cancel_reason=CancelReason.SUPERSEDED.value,
            cancel_requested=True,
            tape_dropped=self.tape.dropped,
        )
        self._log(logging.ERROR, "Task %s (%s) %s", "was taken over: its lease was lost here")
        return RunEnd()

    def lose(self, error: Exception) -> None:
        """The tape stays open: the attempt's last write could not be made."""
        self.span.end("lost", error=error)

    def abandon(self) -> None:
        """The loop is gone: nothing can be awaited any more, but the span shall be ended (I8)."""
        self.span.end("lost", error_type="loop_closed", message="the event loop was closed")

    # --- the steps of the above -------------------------------------------------------------------

    def _ended_otherwise(self, given: GivenUp) -> RunEnd | None:
        """How the attempt ended, when to give its task up was not what happened."""
        if given.final is not None:
            self._tell(Verdict(given.final), Finished(True, None, given.outcome, given.last_seq))
            return RunEnd(given.final)
        if given.dropped is not None:
            dropped = Finished(False, given.dropped, given.outcome, given.last_seq)
            return self._give_way(dropped)
        return None

    def _tell(self, verdict: Verdict, finished: Finished) -> None:
        final, task = verdict.final, self.task
        cancel = final.cancel or self.requested
        failed = final.error if final.outcome is Outcome.FAILED else None
        self.span.end(
            final.outcome.value,
            error=verdict.error,
            error_type=None if failed is None else failed.code,
            message="" if failed is None else failed.message,
            cancel_reason=None if cancel is None else cancel.reason.value,
            cancel_requested=cancel is not None,
            tape_length=finished.last_seq,
            tape_dropped=self.tape.dropped,
        )
        if failed is not None:
            self._log(logging.WARNING, "Task %s (%s) failed: %s", failed.code)
        elif final.outcome is Outcome.CANCELLED and cancel is not None:
            self._log(logging.INFO, "Task %s (%s) was cancelled: %s", cancel.reason.value)
        else:
            _log.debug("Task %s (%s) succeeded.", task.task_id, task.op)

    def _give_way(self, finished: Finished) -> RunEnd:
        """The tape is not ours any more: however it ends, or has ended, this run is lost."""
        reason = None if finished.dropped is None else finished.dropped.value
        self.span.end(
            "lost",
            error_type=reason,
            message="the task was taken over, and what this run came to was refused",
            cancel_requested=self.requested is not None,
            tape_length=finished.last_seq,
        )
        self._log(logging.WARNING, "Task %s (%s): its final was dropped: %s", reason)
        return RunEnd()

    def _log(self, level: int, text: str, about: object) -> None:
        log_run(level, text, self.task, about, self)


def log_run(level: int, text: str, task: Task, about: object, record: RunRecord | None) -> None:
    """Log a line on a run, with the ids of its span; ``text`` has three places."""
    if _log.isEnabledFor(level):
        span = record and record.span
        told = {
            "trace_id": span and span.trace_id,
            "span_id": span and span.span_id,
            "task_id": task.task_id,
            "op": task.op,
        }
        _log.log(level, text, task.task_id, task.op, about, extra=told, stacklevel=3)
