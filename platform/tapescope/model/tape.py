"""The tape: a task's append-only event log, ended by exactly one ``final``.

This module holds the words of a tape (event types, outcomes, drop reasons) and its frozen values.
A closed set of words is an enum. A set that users extend is a tuple of the platform's own words.
The invariants I1 to I9 that docstrings cite are listed in ``docs/reference/invariants.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from tapescope.model.frozen import quickly_made
from tapescope.model.times import moment

__all__ = [
    "ATTEMPT_FAILED",
    "ATTEMPT_RELEASED",
    "COMMAND_STARTED",
    "EVENT_TYPES",
    "FINAL",
    "LINES_LEFT_OUT",
    "LOG",
    "MESSAGE_TAKEN",
    "OUTPUT_HELD",
    "PARTIAL",
    "PROGRESS",
    "RESERVED_EVENT_TYPES",
    "TAPE_OPEN",
    "TAPE_UNKNOWN",
    "TASK_STARTED",
    "DropFilter",
    "DropReason",
    "DroppedEvent",
    "Event",
    "NewEvent",
    "Outcome",
    "QuarantinePage",
    "TapePage",
    "find_drop_reason",
    "is_event_type",
    "list_drops",
]

TASK_STARTED: Final = "task_started"
"""First event of every attempt, written with its claim."""
PROGRESS: Final = "progress"
LOG: Final = "log"
PARTIAL: Final = "partial"
ATTEMPT_FAILED: Final = "attempt_failed"
"""An attempt failed without ending the task; another will follow."""
ATTEMPT_RELEASED: Final = "attempt_released"
"""An attempt gave its task back, for another worker to run; no retry is spent."""
MESSAGE_TAKEN: Final = "message_taken"
"""``{"n": …, "key": …, "sent_at": …, "body": …}``: the attempt has taken a message of its inbox."""
FINAL: Final = "final"
"""The one event that closes a tape (invariant I1)."""
COMMAND_STARTED: Final = "command_started"
"""``{"pid": …}``: the command runs, as this process of the host."""
LINES_LEFT_OUT: Final = "lines_left_out"
"""``{"lines": …, "bytes": …}``: so much output is not on the tape, between its neighbours here."""
OUTPUT_HELD: Final = "output_held"
"""``{"streams": […]}``: the command has ended, and a process that it left holds its output."""

EVENT_TYPES: Final = (
    TASK_STARTED,
    PROGRESS,
    LOG,
    PARTIAL,
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    MESSAGE_TAKEN,
    FINAL,
)
"""The event types of the platform's own. Users add types of their own to their tapes."""
RESERVED_EVENT_TYPES: Final = frozenset(
    {TASK_STARTED, ATTEMPT_FAILED, ATTEMPT_RELEASED, MESSAGE_TAKEN, FINAL, "heartbeat", "error"}
)
"""Types that only the platform may write, on a tape or on a stream."""

_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_.-]{0,63}")


@lru_cache(maxsize=1024)
def is_event_type(text: str) -> bool:
    """Whether ``text`` is well-formed as an event type: ``[a-z][a-z0-9_.-]{0,63}``."""
    return _EVENT_TYPE.fullmatch(text) is not None


class Outcome(StrEnum):
    """How a task ended; said by its row and by its ``final`` alike (invariant I2)."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TAPE_OPEN: Final = "open"
"""In the place of an ``Outcome``: the tape had no ``final`` when an event for it was dropped.
Stores keep the word in their counts of drops."""
TAPE_UNKNOWN: Final = "unknown"
"""In the place of an ``Outcome``: there is no tape, since the store holds no such task."""


class DropReason(StrEnum):
    """Why an event was kept off a tape: a closed set, tried in this order."""

    UNKNOWN_TASK = "unknown_task"
    """The store holds no such task."""
    STALE_ATTEMPT = "stale_attempt"
    """The attempt is an older one, or one that gave the task up (invariant I5)."""
    DUPLICATE_FINAL = "duplicate_final"
    """The tape has a ``final`` already, and this is a different one (invariant I1)."""
    AFTER_TERMINAL = "after_terminal"
    """The tape is closed (invariant I4)."""


def find_drop_reason(
    attempt: int,
    type: str,
    body: str,
    *,
    task_attempt: int | None,
    final: tuple[int | None, str | None] | None,
) -> DropReason | None:
    """Why an event that the guard refused is kept off its task's tape: the first reason that holds.

    ``body`` is JSON text. ``task_attempt`` is the attempt of the task's row, ``None`` where the
    store has no such task; ``final`` the attempt and the body of the tape's end, ``None`` while the
    task lives. The tape's own ``final``, sent again, has no reason: it is not a drop (invariant
    I1). PostgreSQL has the same rules in its function ``drop_reason``.
    """
    if task_attempt is None:
        return DropReason.UNKNOWN_TASK
    if attempt != task_attempt or final is None:
        return DropReason.STALE_ATTEMPT
    if type != FINAL:
        return DropReason.AFTER_TERMINAL
    return None if final == (attempt, body) else DropReason.DUPLICATE_FINAL


def list_drops() -> Iterator[tuple[DropReason, str, str]]:
    """Each (reason, event type, tape outcome) that a drop of one of ``EVENT_TYPES`` can have, once.

    They are what ``find_drop_reason`` says of each type on each kind of tape, written by the task's
    own attempt and by an older one. A ``task_started`` cannot be late, since it is written with its
    claim.
    """
    drops: dict[tuple[DropReason, str, str], None] = {}
    for type in EVENT_TYPES:
        if type == TASK_STARTED:
            continue
        for outcome in (TAPE_UNKNOWN, TAPE_OPEN, *Outcome):
            task_attempt = None if outcome == TAPE_UNKNOWN else 2
            final = (2, "the stored final") if outcome in tuple(Outcome) else None
            for attempt in (1, 2):
                reason = find_drop_reason(
                    attempt, type, "another body", task_attempt=task_attempt, final=final
                )
                if reason is not None:
                    drops[reason, type, outcome] = None
    yield from drops


@quickly_made
@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append. ``body`` is any JSON value; it is encoded once and never changed."""

    type: str
    body: Any = None


@quickly_made
@dataclass(frozen=True, slots=True)
class Event:
    """One event of a tape, as stored. ``seq`` counts 1, 2, 3 … on its tape (invariant I3)."""

    seq: int
    type: str
    ts_us: int
    """``ts`` in microseconds since the Unix epoch."""
    attempt: int
    body: Any
    damage: str = ""
    """What of a row cannot be read that was written past tapescope."""

    @property
    def ts(self) -> datetime:
        """When the event was offered, by the clock of the process that offered it: aware, UTC."""
        return moment(self.ts_us)


@dataclass(frozen=True, slots=True)
class TapePage:
    """A page of a tape in ``seq`` order, and where the whole tape stands."""

    task_id: str
    events: tuple[Event, ...]
    last_seq: int
    """The highest ``seq`` on the tape, 0 when it is empty."""
    final_seq: int | None
    """The ``seq`` of the ``final``; ``None`` while the tape is open."""
    dropped: int
    """How many events were kept off this tape, whether the quarantine still holds them or not."""


@dataclass(frozen=True, slots=True)
class DroppedEvent:
    """A late event as the quarantine keeps it."""

    task_id: str
    attempt: int
    type: str
    reason: DropReason
    ts_us: int
    """``ts`` in microseconds since the Unix epoch."""
    late_s: float | None
    """Seconds from the ``final`` to the offer; ``None`` where the tape was open or unknown."""
    trace_id: str | None
    body: Any
    damage: str = ""
    """What of a row cannot be read that was written past tapescope."""

    @property
    def ts(self) -> datetime:
        """When the event was offered: an aware time in UTC."""
        return moment(self.ts_us)


@dataclass(frozen=True, slots=True)
class DropFilter:
    """Which late events a page is to have: those that meet every condition that is given."""

    task_id: str | None = None
    since_us: int | None = None
    """Offered at this time or later, in microseconds since the Unix epoch."""
    until_us: int | None = None
    """Offered before this time."""
    counted: bool = True
    """Whether the page says how many drops there were: whatever the page, all of them are read."""

    @property
    def by_time(self) -> bool:
        """Whether it asks for a time, to which no index leads."""
        return self.since_us is not None or self.until_us is not None

    def admits(self, drop: DroppedEvent) -> bool:
        """Whether the event meets every condition."""
        return (
            self.task_id in (None, drop.task_id)
            and (self.since_us is None or drop.ts_us >= self.since_us)
            and (self.until_us is None or drop.ts_us < self.until_us)
        )


@dataclass(frozen=True, slots=True)
class QuarantinePage:
    """A page of dropped events, oldest first."""

    drops: tuple[DroppedEvent, ...]
    overflow: int
    """How many more were counted, but not kept; 0 where that was not asked for."""
    next: int | None
    """Pass it as ``after`` to read on; ``None`` at the end."""
    counts: Mapping[DropReason, int]
    """All drops that were counted, kept or not, by reason; empty where that was not asked for."""
