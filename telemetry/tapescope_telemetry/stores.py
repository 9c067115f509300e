"""The metrics of one store adapter: its events, its operations, its tapes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry.metrics import Observation
from opentelemetry.trace import get_current_span

from tapescope.model import (
    TAPE_UNKNOWN,
    AuditRule,
    Backlog,
    DropReason,
    StoreLoad,
    StoreSize,
    list_drops,
)
from tapescope_telemetry.backlogs import Backlogs
from tapescope_telemetry.guard import METRICS_OF_OTHERS
from tapescope_telemetry.instruments import NO_CONTEXT, Tally, counter, histogram, observe
from tapescope_telemetry.labels import LabelCaps, LabelSets
from tapescope_telemetry.ledger import EventLedger
from tapescope_telemetry.names import (
    AUDIT_CHECKED,
    AUDIT_LAST_SUCCESS,
    AUDIT_VIOLATIONS,
    CLOCK_SKEW,
    EVENT_DROPPED,
    FLUSH_SIZE,
    FLUSH_WAIT,
    FOREIGN_NOTIFICATIONS,
    OPERATION_DURATION,
    OTHER,
    SUBSCRIBER_LAG,
    SUBSCRIBERS,
    TAPE_LENGTH,
)
from tapescope_telemetry.store_internals import StoreInternals

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

__all__ = ["StoreInstruments", "StoreMeter"]

EXEMPLAR_EVERY: Final = 0.1
"""Seconds between two exemplars of one operation in one bucket.

To offer one costs a third of a measurement, the SDK keeps the last, and no scrape is as frequent.
"""
DROPS: Final = tuple(list_drops())
"""Every (reason, event type, tape outcome) of a drop of one of the platform's own events."""
DROPS_OF_OP: Final = tuple(
    drop for drop in DROPS if drop[0] in (DropReason.STALE_ATTEMPT, DropReason.DUPLICATE_FINAL)
)
"""Those of which one pages, by op. Of what comes after the end a share does, which rules read from
sums over all ops; of a task that the store does not hold, the op is unknown, too."""
SDK_SERIES: Final = 2_000
"""Series of one metric that the SDK keeps apart; it folds the others into one without labels."""
DROP_ZEROS: Final = SDK_SERIES * 7 // 10
"""Most drop series that are made before a drop needs them: the rest is room for the real ones.

The ops of a process have their zeros made in the order in which they are seen, those of the drops
that each can have, for each adapter, as long as these are enough.
"""


class StoreInstruments:
    """The instruments that the stores of one meter share."""

    def __init__(self, meter: Meter, caps: LabelCaps) -> None:
        self.caps = caps
        self.dropped = counter(meter, EVENT_DROPPED)
        self.operation = histogram(meter, OPERATION_DURATION)
        self.flush = histogram(meter, FLUSH_SIZE)
        self.flush_wait = histogram(meter, FLUSH_WAIT)
        self.tape_length = histogram(meter, TAPE_LENGTH)
        self.subscribers = Tally(meter, SUBSCRIBERS)
        self.checked = Tally(meter, AUDIT_CHECKED)
        self.violations = Tally(meter, AUDIT_VIOLATIONS)
        self.foreign = Tally(meter, FOREIGN_NOTIFICATIONS)
        self.lags: dict[object, tuple[str, Callable[[], int]]] = {}
        self._lag_labels = LabelSets(SUBSCRIBER_LAG)
        self.lag_kinds: set[str] = set()
        observe(meter, SUBSCRIBER_LAG, self._read_lags)
        self.audited_at: float | None = None
        observe(meter, AUDIT_LAST_SUCCESS, self._read_audited_at)
        self.skews: dict[str, float] = {}
        self._skew_labels = LabelSets(CLOCK_SKEW)
        observe(meter, CLOCK_SKEW, self._read_skews)
        self.internals = StoreInternals(meter)
        self.backlogs = Backlogs(meter, caps)
        self.drop_labels = LabelSets(EVENT_DROPPED)
        self.operation_labels = LabelSets(OPERATION_DURATION)
        self.flush_labels = LabelSets(FLUSH_SIZE)
        self.length_labels = LabelSets(TAPE_LENGTH)
        self.drop_zeros_left = DROP_ZEROS

    def _read_lags(self) -> list[Observation]:
        lags = list(self.lags.values())
        # A kind that was seen once stays, at 0: a gauge that vanishes cannot be told from a gap.
        slowest = dict.fromkeys(self.lag_kinds, 0)
        for kind, read in lags:
            slowest[kind] = max(read(), slowest.get(kind, 0))
        return [Observation(lag, self._lag_labels(kind)) for kind, lag in slowest.items()]

    def _read_audited_at(self) -> list[Observation]:
        return [] if self.audited_at is None else [Observation(self.audited_at)]

    def _read_skews(self) -> list[Observation]:
        return [
            Observation(seconds, self._skew_labels(adapter))
            for adapter, seconds in list(self.skews.items())
        ]


class StoreMeter:
    """What a store counts. Made by ``Telemetry.store``: one for each adapter.

    The hot path touches ``ledger`` only. Drops of a user's own event types, and drops after the end
    by op, have no zeros made for them: the first one shows as a series that begins at 1.
    """

    def __init__(self, adapter: str, instruments: StoreInstruments) -> None:
        self.adapter: Final = adapter
        self.ledger: Final = EventLedger(instruments.caps)
        self._on = instruments
        self._expected: set[str] = set()
        self._zeroed: list[str] = []
        self._flush_labels = instruments.flush_labels(adapter)
        self._length_labels = instruments.length_labels(adapter)
        self._exemplar_due: dict[str, list[float]] = {}
        self.now: Callable[[], float] = time.monotonic
        self.expect(OTHER)
        self.audited(0, {})
        self.foreign_notified(0)

    def expect(self, op: str) -> None:
        """Make the drop series of this op exist at zero, once, while there is room for them."""
        op = self._on.caps.drop_ops(op)
        if op in self._expected:
            return
        self._expected.add(op)
        series = len(_possible_drops(op))
        if self._on.drop_zeros_left >= series:
            self._on.drop_zeros_left -= series
            self._zeroed.append(op)
            self._count_zeros(op)

    def repeat_zeros(self) -> None:
        """Count every zero again, for a provider that came after the first ones."""
        for op in tuple(self._zeroed):
            self._count_zeros(op)

    def dropped(
        self,
        reason: str,
        event_type: str,
        op: str | None,
        outcome: str | None,
        n: int = 1,
        context: Context | None = None,
    ) -> None:
        """Count ``n`` late events, in the ledger and by reason (a closed set), with an exemplar.

        ``outcome`` is the tape's, ``TAPE_OPEN`` for a stale attempt on an open tape and ``None``
        where there is no such tape; ``op`` is ``None`` where it is not known. ``context`` holds the
        run's span, ended or not; ``None`` means the caller's own context.
        """
        on = self._on
        self.ledger.drop(n)
        op = OTHER if op is None else op
        self.expect(op)
        labels = on.drop_labels(
            reason,
            on.caps.event_types(event_type),
            on.caps.drop_ops(op),
            self.adapter,
            TAPE_UNKNOWN if outcome is None else outcome,
        )
        on.dropped.add(n, labels, context)

    def operation(
        self,
        name: str,
        seconds: float,
        error_type: str | None = None,
        context: Context | None = None,
    ) -> None:
        """Record a call of the port (``name`` is the verb's) and, if it failed, with what.

        A failure always offers an exemplar, the others one a bucket every ``EXEMPLAR_EVERY``.
        """
        on = self._on
        if not on.operation.is_heard():
            return
        if error_type is not None:
            error = on.caps.error_types(error_type)
        else:
            error = None
            if not self._take_exemplar(name, seconds, context):
                context = NO_CONTEXT
        labels = on.operation_labels(name, self.adapter, error)
        on.operation.record(seconds if seconds > 0 else 0.0, labels, context)

    def _take_exemplar(self, name: str, seconds: float, context: Context | None) -> bool:
        """Whether to offer an exemplar; a call that is not sampled does not use up the interval."""
        due = self._exemplar_due.get(name)
        if due is None:
            due = self._exemplar_due[name] = [0.0] * (len(OPERATION_DURATION.boundaries) + 1)
        bucket, now = bisect_left(OPERATION_DURATION.boundaries, seconds), self.now()
        if now < due[bucket]:
            return False
        with METRICS_OF_OTHERS:
            own = get_current_span(context).get_span_context()
            if own.trace_flags.sampled or not own.is_valid:
                due[bucket] = now + EXEMPLAR_EVERY
            return True
        return False

    def flush(self, size: int) -> None:
        """Record the number of events that one transaction wrote."""
        self._on.flush.record(size, self._flush_labels)

    def hears_waits(self) -> bool:
        """Whether ``waited`` may reach anybody: what it is told has to be looked for."""
        return self._on.flush_wait.is_heard()

    def waited(self, seconds: float) -> None:
        """Record how long the first call of a flush had waited when the flush began."""
        self._on.flush_wait.record(seconds if seconds > 0 else 0.0, self._flush_labels, NO_CONTEXT)

    def tape_closed(self, length: int, context: Context | None = None) -> None:
        """Record the length of a tape that has its ``final`` now."""
        self._on.tape_length.record(length, self._length_labels, context)

    @contextmanager
    def following(self, kind: str, lag: Callable[[], int]) -> Generator[None]:
        """A follower of this kind (a closed set) is there for as long as this is entered.

        ``lag`` says how many events it is behind its tape; it is asked at each collection, from any
        thread.
        """
        token = object()
        self._on.subscribers.add(1, kind)
        self._on.lag_kinds.add(kind)
        self._on.lags[token] = (kind, lag)
        try:
            yield
        finally:
            del self._on.lags[token]
            self._on.subscribers.add(-1, kind)

    def skewed(self, seconds: float) -> None:
        """The database's clock was found so far ahead of this process's; below 0: behind."""
        self._on.skews[self.adapter] = seconds

    def foreign_notified(self, n: int = 1) -> None:
        """So many notifications came that no store has sent."""
        self._on.foreign.add(n, self.adapter)

    def backlog_read(self, store: str, backlog: Backlog) -> None:
        """The store of this name was found to hold so much."""
        self._on.backlogs.keep(store, backlog)

    def tell_totals(self) -> None:
        """Tell the totals that the stores keep as well, as an exporter does."""
        self._on.backlogs.tell_totals()

    def backlog_left(self, store: str) -> None:
        """The backlog of the store of this name is not read any more."""
        self._on.backlogs.forget(store)

    def watch_load(self, read: Callable[[], StoreLoad]) -> None:
        """A store was opened: ask this method of it at each collection, from any thread."""
        self._on.internals.watch(self.adapter, read)

    def unwatch_load(self, read: Callable[[], StoreLoad]) -> None:
        """The store was closed."""
        self._on.internals.unwatch(self.adapter, read)

    def sized(self, store: str, size: StoreSize) -> None:
        """The store of this name was measured."""
        self._on.internals.keep(self.adapter, store, size)
        if size.audited_us:
            self.audit_succeeded(size.audited_us / 1e6)

    def size_left(self, store: str) -> None:
        """The store of this name is not measured any more."""
        self._on.internals.forget(self.adapter, store)

    def audited(self, checked: int, violations: Mapping[str, int]) -> None:
        """An audit looked at so many tapes and found these violations, by rule (a closed set)."""
        self._on.checked.add(checked, self.adapter)
        for rule in AuditRule:
            self._on.violations.add(violations.get(rule, 0), rule, self.adapter)

    def audit_succeeded(self, timestamp: float) -> None:
        """An audit of a whole store came to its end at this time, whatever it found."""
        self._on.audited_at = max(timestamp, self._on.audited_at or 0.0)

    def _count_zeros(self, op: str) -> None:
        for reason, event_type, outcome in _possible_drops(op):
            labels = self._on.drop_labels(reason, event_type, op, self.adapter, outcome)
            self._on.dropped.add(0, labels, NO_CONTEXT)


def _possible_drops(op: str) -> tuple[tuple[str, str, str], ...]:
    return DROPS if op == OTHER else DROPS_OF_OP
