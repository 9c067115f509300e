"""The picture of a task's life: attempts as bars, events as marks, and what came too late.

It is drawn in a frame 1,000 wide, which the browser stretches; all words are outside of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tapescope.http.api.page.payloads import as_object
from tapescope.model.tape import (
    ATTEMPT_FAILED,
    ATTEMPT_RELEASED,
    FINAL,
    TASK_STARTED,
    DroppedEvent,
    Event,
)
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.wording import format_duration

__all__ = ["Bar", "Mark", "Timeline", "draw_timeline"]

WIDTH: Final = 1_000
_BINS: Final = 400
"""Places for marks: those of one place are one mark."""
_LONG_WAIT: Final = 4
"""A wait of so many times what follows is said, not drawn."""
_ENDS: Final = {ATTEMPT_FAILED: "failed", ATTEMPT_RELEASED: "pending"}


@dataclass(frozen=True, slots=True)
class Bar:
    """An attempt."""

    x: float
    width: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One moment, and what was then."""

    x: float
    tone: str
    title: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn; ``x`` goes from 0 to 1,000."""

    attempts: tuple[Bar, ...]
    events: tuple[Mark, ...]
    refused: tuple[Mark, ...]
    cancel: Mark | None
    final: Mark | None
    ticks: tuple[str, ...]
    """Lengths of time, at the start, the middle and the end."""
    waited: str
    """How long the task waited before what is drawn; empty where the wait is drawn, too."""
    told: str
    """All of it in a sentence."""


def draw_timeline(
    task: Task, events: Sequence[Event], drops: Sequence[DroppedEvent], now_us: int
) -> Timeline:
    """The picture of a task; ``events`` may lack some of the middle of a long tape."""
    begin, end, waited = _choose_span(task, events, drops, now_us)
    length = max(end - begin, 1)

    def place(us: int) -> float:
        return round(min(max((us - begin) / length, 0.0), 1.0) * WIDTH, 1)

    def offset(us: int) -> str:
        return format_duration(max(0, us - task.created_us) / 1e6)

    attempts = tuple(_make_bars(events, place, now_us, task))
    final = next((event for event in events if event.type == FINAL), None)
    outcome = task.status.value if task.status.terminal else ""
    told = [f"{len(attempts)} attempt{'' if len(attempts) == 1 else 's'}"]
    if task.cancel is not None:
        told.append(f"a cancel requested at {offset(task.cancel.at_us)}")
    if final is not None:
        told.append(f"{outcome} at {offset(final.ts_us)}")
    if drops:
        told.append(f"{len(drops)} late events refused")
    return Timeline(
        attempts,
        tuple(_make_marks(((place(e.ts_us), e.type) for e in events), "event")),
        tuple(_make_marks(((place(d.ts_us), f"{d.type}, refused") for d in drops), "refused")),
        None
        if task.cancel is None
        else Mark(
            place(task.cancel.at_us), "cancel", f"cancel requested at {offset(task.cancel.at_us)}"
        ),
        None
        if final is None
        else Mark(place(final.ts_us), outcome, f"final: {outcome} at {offset(final.ts_us)}"),
        tuple(offset(begin + length * share // 2) for share in range(3)),
        waited,
        "Timeline: " + ", ".join(told),
    )


def _choose_span(
    task: Task, events: Sequence[Event], drops: Sequence[DroppedEvent], now_us: int
) -> tuple[int, int, str]:
    """From when to when is drawn, and how long the wait was that is not."""
    moments = [event.ts_us for event in events] + [drop.ts_us for drop in drops]
    if task.cancel is not None:
        moments.append(task.cancel.at_us)
    if not task.status.terminal:
        moments.append(now_us)
    if task.finished_us is not None:
        moments.append(task.finished_us)
    end = max(moments, default=task.created_us)
    first = min((event.ts_us for event in events), default=end)
    wait = first - task.created_us
    if events and wait > max(_LONG_WAIT * (end - first), 1_000_000):
        return first, end, format_duration(wait / 1e6)
    return min(task.created_us, first), end, ""


def _make_bars(events: Sequence[Event], place: Any, now_us: int, task: Task) -> Iterable[Bar]:
    started: Event | None = None
    for event in events:
        if event.type == TASK_STARTED:
            if started is not None:  # its end is in what was not read, or was never written
                yield _make_bar(started, event.ts_us, "lost", place)
            started = event
        elif started is not None and event.type in (*_ENDS, FINAL):
            tone = _ENDS.get(event.type) or _outcome(event)
            yield _make_bar(started, event.ts_us, tone, place)
            started = None
    if started is not None:
        runs = task.status is TaskStatus.RUNNING
        yield _make_bar(started, now_us, "running" if runs else "lost", place)


def _make_bar(started: Event, until_us: int, tone: str, place: Any) -> Bar:
    x = place(started.ts_us)
    took = format_duration(max(0, until_us - started.ts_us) / 1e6)
    title = f"attempt {started.attempt}: {tone} after {took}"
    return Bar(x, max(place(until_us) - x, 3.0), tone, title)


def _outcome(event: Event) -> str:
    return str(as_object(event.body).get("outcome", "lost"))


def _make_marks(moments: Iterable[tuple[float, str]], tone: str) -> Iterable[Mark]:
    places: dict[int, list[str]] = {}
    for x, said in moments:
        places.setdefault(int(x * _BINS / WIDTH), []).append(said)
    for place, names in sorted(places.items()):
        title = names[0] if len(names) == 1 else f"{len(names)} events, the first: {names[0]}"
        yield Mark(round(place * WIDTH / _BINS, 1), tone, title)
