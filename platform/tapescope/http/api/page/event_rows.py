"""Events as rows of the page, in a page and as they come in a stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from tapescope.http.api.page.payloads import (
    FEW,
    PAYLOAD,
    PAYLOADS,
    Shown,
    as_object,
    show_line,
    show_text,
    show_value,
)
from tapescope.http.api.page.rendering import make_fragment
from tapescope.http.api.stream import EventStream
from tapescope.model.tape import ATTEMPT_FAILED, FINAL, LOG, PROGRESS, Event
from tapescope.model.times import format_time, moment
from tapescope.store.event_wording import describe_event, explain_event

if TYPE_CHECKING:
    from tapescope.store.follow import TapeBatch

__all__ = ["EventRow", "LiveRows", "Progress", "find_progress", "make_rows"]

_CONTEXT: Final = 20
"""Events before the one that a link leads to."""
_LEVELS: Final = {"error": "failed", "critical": "failed", "warning": "late", "warn": "late"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run says that it is."""

    phase: str
    current: float
    total: float | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of a tape as a row."""

    seq: int
    before: int
    """After which seq a page begins that shows it: a link is for good, however long the tape."""
    type: str
    attempt: int
    at: str
    """RFC 3339."""
    clock: str
    """The time of the day, UTC."""
    since: str
    """Seconds since the task was created."""
    said: str
    """One line."""
    tone: str
    """Which colour it has: a status, or ``late``; empty for none."""
    trace: Shown | None
    """The traceback of a failure."""
    payload: Shown | None


def make_rows(events: Iterable[Event], created_us: int) -> tuple[EventRow, ...]:
    """The rows of one page, of a task that was created then: the last ones have most."""
    rows: list[EventRow] = []
    left = PAYLOADS
    for event in reversed(tuple(events)):
        row = make_row(event, created_us, max(FEW, min(left, PAYLOAD)))
        left -= sum(len(part.text) for part in (row.payload, row.trace) if part is not None)
        rows.append(row)
    return tuple(reversed(rows))


def make_row(event: Event, created_us: int, most: int = PAYLOAD) -> EventRow:
    """The row of one event; ``most`` are the characters of its payload, and of its traceback."""
    trace = "\n".join(explain_event(event))
    return EventRow(
        event.seq,
        max(0, event.seq - _CONTEXT - 1),
        show_line(event.type, 64),
        event.attempt,
        format_time(event.ts_us),
        f"{moment(event.ts_us):%H:%M:%S.%f}"[:-3],
        f"{(event.ts_us - created_us) / 1e6:+.3f}",
        show_line(describe_event(event)),
        _find_tone(event),
        show_text(trace, most, tail=True) if trace else None,
        None if event.body is None else show_value(event.body, most),
    )


def _find_tone(event: Event) -> str:
    if event.damage or event.type == ATTEMPT_FAILED:
        return "failed"
    body = as_object(event.body)
    if event.type == FINAL:
        return str(body.get("outcome", ""))
    return _LEVELS.get(str(body.get("level", "")).lower(), "") if event.type == LOG else ""


def find_progress(events: list[Event]) -> Progress | None:
    """What the last report of progress among these events says, of the attempt that is last."""
    for event in reversed(events):
        if event.type != PROGRESS or event.attempt != events[-1].attempt:
            continue
        body = as_object(event.body)
        current, total = body.get("current"), body.get("total")
        if not isinstance(current, int | float):
            return None  # a body of somebody's own under our name
        known = isinstance(total, int | float) and total > 0
        return Progress(
            show_line(str(body.get("phase", "")), 60),
            current,
            total if known else None,
        )
    return None


class LiveRows(EventStream):
    """A tape as frames ``row``, whose data is the HTML of one event."""

    def __init__(self, created_us: int, path: str) -> None:
        """Of a task that was created then, and has its page at this path."""
        self._created_us = created_us
        self._path = path

    def write(self, event: Event, batch: TapeBatch) -> bytes:
        """A frame with the event's row."""
        made = make_row(event, self._created_us)
        row = make_fragment("_event.html", event=made, task_path=self._path, live=True)
        lines = "".join(f"data: {line}\n" for line in row.splitlines())
        return f"id: {event.seq}\nevent: row\n{lines}\n".encode()

    def write_error(self, problem: dict[str, Any], retry: int) -> bytes:
        """A frame ``trouble``; an ``error`` would be one of the connection to a browser."""
        return f"retry: {retry}\nevent: trouble\ndata: ".encode() + orjson.dumps(problem) + b"\n\n"
