"""The log of late events: the first of each task at once, the others in a summary."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from typing import Final as Constant

from tapescope_telemetry.logger import Logger
from tapescope_telemetry.spans import read_span_ids

if TYPE_CHECKING:
    from tapescope.model.tape import DropReason
    from tapescope.store._pending import TapeCursor

__all__ = ["DropLog"]

_EVERY: Constant = 60.0
"""Seconds from the first event that is held back to the summary."""
_FIRST_LINES: Constant = 20
"""Tasks whose first late event is told at once, between two summaries."""
_SUMMARY_LINES: Constant = 10
"""Tasks that have a line of their own in a summary."""
_REMEMBERED: Constant = 1_000
"""Tasks that are known to have been told, and tasks that a summary tells apart."""

_log = Logger("tapescope")


@dataclass(slots=True)
class _Held:
    """What was not told of one task."""

    op: str
    span: dict[str, str]
    reasons: Counter[str] = field(default_factory=Counter[str])


class DropLog:
    """Warns of dropped events, each line with the trace and span of the run that sent them.

    However many come, there are at most 31 lines a minute and some kilobytes of memory; every event
    is counted, in a line of its own or in a summary. Belongs to the event loop of its store, whose
    metric and quarantine have them all in any case.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[str, None] = OrderedDict()
        self._lines_left = _FIRST_LINES
        self._held: dict[str, _Held] = {}
        self._rest: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def note(self, cursor: TapeCursor, op: str | None, reason: DropReason, number: int) -> None:
        """``number`` events of this attempt were kept off the tape."""
        task_id = cursor.task_id
        op = op or cursor.op or "unknown op"
        if task_id not in self._told and self._lines_left > 0:
            self._lines_left -= 1
            self._told[task_id] = None
            if len(self._told) > _REMEMBERED:
                self._told.popitem(last=False)
            _log.warning(
                "An event of task %s (%s, attempt %d) came too late and is dropped: %s.",
                *(task_id, op, cursor.attempt, reason.value),
                extra=_find_span(cursor)
                | {"task_id": task_id, "op": op, "drop_reason": reason.value},
            )
            number -= 1
        if number:
            self._hold(cursor, op, reason, number)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self.summarise)

    def summarise(self) -> None:
        """Tell now what was held back; to be called when the store closes, too."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        held, rest = self._held, self._rest
        self._held, self._rest, self._lines_left = {}, Counter(), _FIRST_LINES
        most = sorted(held.items(), key=lambda item: -item[1].reasons.total())
        for task_id, one in most[:_SUMMARY_LINES]:
            _log.warning(
                "%d more events of task %s (%s) were dropped: %s.",
                *(one.reasons.total(), task_id, one.op, _describe(one.reasons)),
                extra=one.span | {"task_id": task_id, "op": one.op, "dropped": one.reasons.total()},
            )
        for _, one in most[_SUMMARY_LINES:]:
            rest.update(one.reasons)
        if rest:
            _log.warning(
                "%d more events of other tasks were dropped: %s.",
                *(rest.total(), _describe(rest)),
                extra={"dropped": rest.total()},
            )

    def _hold(self, cursor: TapeCursor, op: str, reason: DropReason, number: int) -> None:
        held = self._held.get(cursor.task_id)
        if held is None and len(self._held) < _REMEMBERED:
            held = self._held[cursor.task_id] = _Held(op, _find_span(cursor))
        (self._rest if held is None else held.reasons)[reason.value] += number


def _find_span(cursor: TapeCursor) -> dict[str, str]:
    """The run's span, which may have ended; none where the attempt is not of this process."""
    if cursor.context is None:
        return {}
    ids = read_span_ids(cursor.context)
    return {} if ids is None else {"trace_id": ids[0], "span_id": ids[1]}


def _describe(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} {number}" for reason, number in sorted(reasons.items()))
