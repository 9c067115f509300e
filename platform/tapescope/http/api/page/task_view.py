"""All that the page of one task shows, read in a few steps that cost the same for every tape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.http.api.page.event_rows import EventRow, Progress, find_progress, make_row
from tapescope.http.api.page.payloads import Shown, show_text, show_value
from tapescope.http.api.page.rendering import now_us
from tapescope.http.api.page.timeline import Timeline, draw_timeline
from tapescope.manager.lost_tasks import find_lost, status_of
from tapescope.model.tape import FINAL, DroppedEvent, Event, QuarantinePage, TapePage
from tapescope.model.tasks import FinalEvent, Task
from tapescope.model.wording import describe_caller, format_duration

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["Integrity", "LateRow", "TaskView", "make_late_rows", "read_task"]

_READ: Final = 1_000
"""Events of the beginning and of the end of a tape that are read, and drawn."""
_ROWS: Final = 200
"""Events of one page of the tape."""
_LATE: Final = 200
"""Late events that are drawn, and listed."""


@dataclass(frozen=True, slots=True)
class Integrity:
    """Whether the tape is what it should be, as far as the page has looked."""

    sound: bool
    told: str
    """What was checked, or what is wrong."""


@dataclass(frozen=True, slots=True)
class LateRow:
    """A late event as a row."""

    drop: DroppedEvent
    late: str
    """How late it was."""
    payload: Shown


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task, its tape, and what was kept off it."""

    task: Task
    status: str
    """Or ``lost``."""
    lost: str
    """Why it is lost; empty where it is not."""
    waited: str
    ran: str
    asked_by: str
    """Who asked for its cancel."""
    tape: TapePage
    rows: tuple[EventRow, ...]
    earlier: int | None
    """After which seq the page before begins; ``None``: this one has the tape's beginning."""
    later: int | None
    """The same of the next page; ``None``: this one has the tape's end, and goes on live."""
    drops: QuarantinePage
    late: tuple[LateRow, ...]
    timeline: Timeline
    undrawn: int
    """Events of the middle that are not in the picture."""
    progress: Progress | None
    final: FinalEvent | None
    result: Shown | None
    params: Shown | None
    traceback: Shown | None
    message: Shown | None
    """The error's."""
    integrity: Integrity


async def read_task(store: TaskStore, task: Task, after: int | None = None) -> TaskView:
    """What the page shows of the task: the end of its tape, or what comes ``after`` a seq.

    Raises ``UnknownTask``, ``BadSetting``.
    """
    ends = await _read_ends(store, task.task_id)
    if task.status.terminal != (ends.page.final_seq is not None):  # it ended between two reads
        task = await store.get(task.task_id)
        ends = await _read_ends(store, task.task_id)
    tape, events = ends.page, ends.events
    drops = await store.read_quarantine(task.task_id, limit=_LATE)
    shown: Sequence[Event] = events[-_ROWS:]
    if after is not None:
        shown = (await store.read_tape(task.task_id, after_seq=after, limit=_ROWS)).events
    first = shown[0].seq if shown else 1
    last = shown[-1].seq if shown else tape.last_seq
    now = now_us()
    lost = find_lost(store, [task], now).get(task.task_id, "")
    final = _read_final(events)
    error = None if final is None else final.error
    return TaskView(
        task=task,
        status=status_of(task, [task.task_id] if lost else []),
        lost=lost,
        waited=_say(task.created_us, events[0].ts_us if events else task.finished_us or now),
        ran="" if task.claimed_us is None else _say(task.claimed_us, task.finished_us or now),
        asked_by=""
        if task.cancel is None
        else describe_caller(task.cancel.by, task.cancel.role).removeprefix("by "),
        tape=tape,
        rows=tuple(make_row(event, task.created_us) for event in shown),
        earlier=max(0, first - 1 - _ROWS) if first > 1 else None,
        later=last if last < tape.last_seq else None,
        drops=drops,
        late=make_late_rows(drops.drops),
        timeline=draw_timeline(task, events, drops.drops, now),
        undrawn=tape.last_seq - len(events),
        progress=None if task.status.terminal else find_progress(list(events)),
        final=final,
        result=None if final is None or final.result is None else show_value(final.result),
        params=show_value(dict(task.params)) if task.params else None,
        traceback=show_text(error.traceback, tail=True)
        if error is not None and error.traceback
        else None,
        message=None if error is None else show_text(error.message),
        integrity=_check(task, ends, drops),
    )


def make_late_rows(drops: Sequence[DroppedEvent]) -> tuple[LateRow, ...]:
    """Late events as rows."""
    return tuple(
        LateRow(
            drop,
            "" if drop.late_s is None else format_duration(max(0.0, drop.late_s)),
            show_value(drop.body),
        )
        for drop in drops
    )


def _say(from_us: int, to_us: int) -> str:
    return format_duration(max(0, to_us - from_us) / 1e6)


@dataclass(frozen=True, slots=True)
class _Ends:
    """A tape; of a long one the beginning and the end."""

    page: TapePage
    """Where it stands."""
    events: tuple[Event, ...]
    jump: tuple[int, int] | None = None
    """The seq before what was not read, and the one behind it; ``None``: all was read."""


async def _read_ends(store: TaskStore, task_id: str) -> _Ends:
    head = await store.read_tape(task_id, limit=_READ)
    if not head.events or head.events[-1].seq >= head.last_seq:
        return _Ends(head, head.events)
    last = head.events[-1].seq
    after = max(last, head.last_seq - _READ)
    tail = await store.read_tape(task_id, after_seq=after, limit=_READ)
    if tail.events and tail.events[-1].seq < tail.last_seq:  # so large that a page has not all
        after = tail.last_seq - 1
        tail = await store.read_tape(task_id, after_seq=after, limit=1)
    jump = None if after == last else (last, after + 1)
    return _Ends(tail, head.events + tail.events, jump)


def _read_final(events: Sequence[Event]) -> FinalEvent | None:
    if not events or events[-1].type != FINAL:
        return None
    try:
        return FinalEvent.from_event(events[-1])
    except Exception:  # noqa: BLE001  # whatever a session wrote past tapescope: the check says so
        return None


def _check(task: Task, ends: _Ends, drops: QuarantinePage) -> Integrity:
    """Compare the tape that was read with its row and with the counts of what was kept off it."""
    tape, events = ends.page, ends.events
    wrong = [f"event {event.seq} is damaged" for event in events if event.damage][:3]
    if task.damage:
        wrong.append("its row is damaged")
    seq = 0
    for event in events:
        if event.seq != seq + 1 and (seq, event.seq) != ends.jump:
            wrong.append(f"event {seq + 1} is missing")
            break
        seq = event.seq
    finals = [event.seq for event in events if event.type == FINAL]
    if len(finals) > 1:
        wrong.append(f"{len(finals)} events are a final")
    if finals and finals[-1] != tape.last_seq:
        wrong.append("the final is not the last event")
    if task.status.terminal:
        final = _read_final(events)
        if final is None:
            wrong.append("it has ended, and its last event is not a final that can be read")
        elif final.outcome.value != task.status.value:
            wrong.append(f"the row says {task.status.value}, the final {final.outcome.value}")
    if sum(drops.counts.values()) < len(drops.drops):
        wrong.append("more late events are kept than were counted")
    if wrong:
        return Integrity(False, "; ".join(wrong))
    looked = "every event" if ends.jump is None else f"{len(events):,} of {tape.last_seq:,} events"
    end = "one final, the last event, as the row says" if finals else "no final yet"
    late = f"; {tape.dropped:,} late events refused and counted" if tape.dropped else ""
    return Integrity(True, f"checked {looked}: no gap, {end}{late}")
