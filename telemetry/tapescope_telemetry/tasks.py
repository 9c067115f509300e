"""The metrics of tasks: their number, their times, their cancels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import Observation

from tapescope.model import ERROR_CODES, ActiveState, CancelReason, Outcome, RescueResult
from tapescope_telemetry.instruments import (
    NO_CONTEXT,
    Tally,
    Watched,
    counter,
    histogram,
    observe,
)
from tapescope_telemetry.labels import LabelCap, LabelCaps, LabelSets
from tapescope_telemetry.names import (
    ACTIVE,
    CANCEL_DURATION,
    CANCEL_OVERRUN,
    CANCEL_REQUESTS,
    DURATION,
    LIMIT,
    OLDEST_ACTIVE,
    OTHER,
    QUEUE_WAIT,
    REFUSED,
    RESCUED,
    RETRIES,
    SUBMITTED,
    ZOMBIES,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

__all__ = ["TaskAges", "TaskMeter"]

TaskAges = Callable[[], Iterable[tuple[str, float]]]
"""A bound method that gives the op and the age in seconds of each task that has not ended; from any
thread."""


class TaskMeter:
    """What a manager counts. Made by ``Telemetry``; all times are in seconds.

    Counters start at zero for every label set that is known beforehand: for each op one of
    ``submitted``, ``refused`` and ``zombies``, one of ``active`` for each state, one of ``rescued``
    for each result and one of ``retries`` for each error code of the platform's own; and in all one
    of ``cancel.requests`` for each reason. A histogram cannot have a zero.

    ``context`` holds the span that an exemplar should point to; ``None`` means the caller's own.
    """

    def __init__(self, meter: Meter, caps: LabelCaps, on_op: Callable[[str], None]) -> None:
        self._caps = caps
        self._on_op = on_op
        self._seen: dict[str, str] = {}
        """The label of each op that was seen and has one of its own."""
        self._submitted = counter(meter, SUBMITTED)
        self._refused = counter(meter, REFUSED)
        self._retries = counter(meter, RETRIES)
        self._rescued = counter(meter, RESCUED)
        self._cancel_requests = counter(meter, CANCEL_REQUESTS)
        self._duration = histogram(meter, DURATION)
        self._queue_wait = histogram(meter, QUEUE_WAIT)
        self._cancel_duration = histogram(meter, CANCEL_DURATION)
        self._overrun = histogram(meter, CANCEL_OVERRUN)
        self._active = Tally(meter, ACTIVE)
        self._zombies = Tally(meter, ZOMBIES)
        self._limit = Tally(meter, LIMIT)
        self._ages = Watched[Iterable[tuple[str, float]]]()
        self._of_age = LabelSets(OLDEST_ACTIVE)
        observe(meter, OLDEST_ACTIVE, self._read_oldest)
        self._of_op = LabelSets(SUBMITTED)
        self._of_refused = LabelSets(REFUSED)
        self._of_retry = LabelSets(RETRIES)
        self._of_rescue = LabelSets(RESCUED)
        self._of_end = LabelSets(DURATION)
        self._of_cancel = LabelSets(CANCEL_REQUESTS)
        self._reason = LabelCap(0, CancelReason)
        """One of a newer version is on the tape, and no label."""
        self._limit.add(0)
        self.repeat_zeros()

    def seen(self, op: str) -> None:
        """Make every series of this op that is known beforehand exist, once."""
        self._label(op)

    def seen_ops(self) -> tuple[str, ...]:
        """The ops that were seen, as their labels have them."""
        return tuple(self._seen)

    def repeat_zeros(self) -> None:
        """Count every zero again, for a provider that came after the first ones."""
        for reason in CancelReason:
            self._cancel_requests.add(0, self._of_cancel(reason), NO_CONTEXT)
        for op in self.seen_ops():
            self._count_zeros(op)

    def submitted(self, op: str) -> None:
        """A task was created."""
        label = self._label(op)
        if self._submitted.is_heard():
            self._submitted.add(1, self._of_op(label))

    def refused(self, op: str) -> None:
        """A submit was refused, for as many tasks of the op wait as may."""
        label = self._label(op)
        if self._refused.is_heard():
            self._refused.add(1, self._of_refused(label))

    def queue_wait(self, op: str, seconds: float, context: Context | None = None) -> None:
        """A task waited this long from when it was due to its claim."""
        label = self._label(op)
        if self._queue_wait.is_heard():
            self._queue_wait.record(max(0.0, seconds), self._of_op(label), context)

    def active(self, op: str, state: str, n: int) -> None:
        """A task entered (+1) or left (-1) a state, one of ``ActiveState``."""
        self._active.add(n, self._label(op), state)

    def moved(self, op: str, left: str | None, entered: str | None) -> None:
        """A task left one state for another; ``None``: it is new, or gone."""
        self._active.move(self._label(op), left, entered)

    def watch_ages(self, ages: TaskAges) -> None:
        """Ask this method at each collection, until ``unwatch_ages`` or its object is gone."""
        self._ages.add(ages)

    def unwatch_ages(self, ages: TaskAges) -> None:
        """Undo ``watch_ages``; a method that is not watched is not an error."""
        self._ages.remove(ages)

    def limit(self, n: int) -> None:
        """The number of tasks that may run at once rose or fell by ``n``."""
        self._limit.add(n)

    def finished(
        self,
        op: str,
        outcome: str,
        error_type: str | None,
        seconds: float,
        *,
        cancel_reason: str | None = None,
        context: Context | None = None,
    ) -> None:
        """A task got its ``final``; to be called once, by the code that committed it.

        A cancelled one has a reason and no error, whatever its cleanup raised.
        """
        label = self._label(op)
        if not self._duration.is_heard():
            return
        if outcome == Outcome.CANCELLED:
            error, reason = None, OTHER if cancel_reason is None else self._reason(cancel_reason)
        else:
            error, reason = None if error_type is None else self._caps.error_types(error_type), None
        labels = self._of_end(label, outcome, error, reason)
        self._duration.record(max(0.0, seconds), labels, context)

    def retried(self, op: str, error_type: str, context: Context | None = None) -> None:
        """An attempt failed and the task will be tried again."""
        error = self._caps.error_types(error_type)
        self._retries.add(1, self._of_retry(self._label(op), error), context)

    def rescued(self, op: str, result: str) -> None:
        """A task was taken from an owner that was lost; ``result`` is of the closed set."""
        self._rescued.add(1, self._of_rescue(self._label(op), result))

    def cancel_requested(self, reason: str) -> None:
        """A cancel was put on record; ``reason`` is of the closed set, never the user's words."""
        self._cancel_requests.add(1, self._of_cancel(self._reason(reason)))

    def cancel_finished(self, reason: str, seconds: float, context: Context | None = None) -> None:
        """A task with a cancel on record got its ``final`` this long after the request."""
        labels = self._of_cancel(self._reason(reason))
        self._cancel_duration.record(max(0.0, seconds), labels, context)

    def overrun(self, op: str, seconds: float, context: Context | None = None) -> None:
        """A runner that went on after its cancel was final ended, this long after it."""
        self._overrun.record(max(0.0, seconds), self._of_op(self._label(op)), context)

    def zombie(self, op: str, n: int) -> None:
        """A fenced runner runs on (+1), or has ended at last (-1)."""
        self._zombies.add(n, self._label(op))

    def _read_oldest(self) -> list[Observation]:
        oldest = dict.fromkeys(self.seen_ops(), 0.0)
        for ages in self._ages.ask():
            for op, age in ages:
                label = self._caps.task_ops(op)
                oldest[label] = max(age, oldest.get(label, 0.0))
        return [Observation(age, self._of_age(op)) for op, age in oldest.items()]

    def _label(self, op: str) -> str:
        label = self._seen.get(op)
        return self._see(op) if label is None else label

    def _see(self, op: str) -> str:
        label = self._caps.task_ops(op)
        if label not in self._seen:
            self._seen[label] = label
            for state in ActiveState:
                self._active.add(0, label, state)
            self._zombies.add(0, label)
            self._count_zeros(label)
            self._on_op(label)
        return label

    def _count_zeros(self, op: str) -> None:
        self._submitted.add(0, self._of_op(op), NO_CONTEXT)
        self._refused.add(0, self._of_refused(op), NO_CONTEXT)
        for error_type in ERROR_CODES:
            self._retries.add(0, self._of_retry(op, error_type), NO_CONTEXT)
        for result in RescueResult:
            self._rescued.add(0, self._of_rescue(op, result), NO_CONTEXT)
