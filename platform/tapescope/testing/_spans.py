"""What is judged of a run's span (invariant I8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from opentelemetry.trace import StatusCode

from tapescope.model.answers import Finished
from tapescope.model.tape import TASK_STARTED
from tapescope.testing._case import Case

__all__ = ["SpanRecord", "check_spans"]


class SpanStatus(Protocol):
    """The part of a finished span's status that is judged."""

    @property
    def status_code(self) -> StatusCode:
        """UNSET, OK or ERROR."""
        ...


class SpanRecord(Protocol):
    """The part of a finished span that is judged; the SDK's ``ReadableSpan`` has it."""

    @property
    def name(self) -> str:
        """``run {op}`` for those that matter here."""
        ...

    @property
    def attributes(self) -> Mapping[str, Any] | None:
        """The span's attributes."""
        ...

    @property
    def end_time(self) -> int | None:
        """``None`` for a span that has not ended."""
        ...

    @property
    def status(self) -> SpanStatus:
        """The span's status."""
        ...


def check_spans(case: Case, spans: Iterable[SpanRecord], never_run: Collection[int]) -> None:
    """I8: one ended span for each attempt, telling what the row tells.

    None for those of ``never_run``: who has claimed them has never heard of it.
    """
    by_attempt: defaultdict[int, list[SpanRecord]] = defaultdict(list)
    for span in spans:
        by_attempt[int((span.attributes or {}).get("tapescope.task.attempt", 0))].append(span)
    attempts = [event.attempt for event in case.tape if event.type == TASK_STARTED]
    for attempt in attempts:
        of_attempt = by_attempt.pop(attempt, [])
        unknown = attempt in never_run or _is_unknown_to_its_claimer(case, attempt)
        if not of_attempt and unknown:
            continue
        if len(of_attempt) != 1 or of_attempt[0].end_time is None:
            case.broken("I8", f"attempt {attempt} has {len(of_attempt)} ended run spans")
            continue
        _check_span(case, attempt, of_attempt[0])
    for attempt in by_attempt:
        case.broken("I8", f"a run span for attempt {attempt}, which was never claimed")


def _is_unknown_to_its_claimer(case: Case, attempt: int) -> bool:
    """Whether nobody learned that a claim was carried out: then it was never run."""
    calls = [call for call in case.calls if call.attempt == attempt and call.verb != "rescue"]
    return bool(calls) and all(call.verb == "claim" and not call.fate_known for call in calls)


def _check_span(case: Case, attempt: int, span: SpanRecord) -> None:
    attributes = span.attributes or {}
    outcome = attributes.get("tapescope.task.outcome")
    final = case.final
    allowed = {"retried", "released", "lost"}
    if final is not None and final.attempt == attempt:
        own = str(final.body["outcome"])
        won = any(
            isinstance(call.answer, Finished) and call.answer.won and call.attempt == attempt
            for call in case.calls
        )
        allowed = {own} if won else {own, *allowed}
    if outcome not in allowed:
        case.broken("I8", f"attempt {attempt}'s span tells {outcome!r}, not {sorted(allowed)}")
    failed = outcome in ("failed", "retried", "lost")
    if span.status.status_code is not (StatusCode.ERROR if failed else StatusCode.UNSET):
        case.broken("I8", f"a span of outcome {outcome!r} has status {span.status.status_code}")
    if outcome == "cancelled" and "tapescope.cancel.reason" not in attributes:
        case.broken("I8", "a cancelled span says no cancel.reason")
    if not failed and "error.type" in attributes:
        case.broken("I8", f"a span of outcome {outcome!r} has an error.type")
