"""Following a tape: what is stored, then what is committed, each ``seq`` once, in order (I9)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from tapescope.errors import DamagedTape, StoreClosed, TapeGap, UnknownTask
from tapescope.model.tape import FINAL, Event
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import check_place, is_task_id

if TYPE_CHECKING:
    from tapescope.store.notifications import Change, Subscription
    from tapescope.store.port import TaskStore

__all__ = ["await_final", "follow_tape"]

Subscribe = Callable[[str], "Subscription"]

_PAGE: Final = 1_000
_KIND: Final = "follow"


async def follow_tape(
    store: TaskStore, task_id: str, after_seq: int = 0, subscribe: Subscribe | None = None
) -> AsyncGenerator[Event, None]:
    """Every event after ``after_seq``, live, to the ``final``; then it ends.

    A tape that has its ``final`` at or before ``after_seq`` gives nothing. Raises ``UnknownTask``,
    ``TapeGap`` when an event would be missing, and ``StoreClosed`` when the store is closed before
    the ``final`` came: the end of the events is never silence. ``subscribe`` is the store's
    ``changes`` where nothing else is given; who gives it may end the follower with an error.
    """
    after_seq = check_place("after_seq", after_seq, of_tape=True)
    if not is_task_id(task_id):
        raise UnknownTask(task_id)
    # Subscribed before the first read: what is committed in between is told, not missed.
    with (subscribe or store.changes)(task_id) as changes:
        place = _Place(changes, after_seq)
        with store.meter.following(_KIND, place.read_lag):
            while True:
                page = await store.read_tape(task_id, after_seq=place.seq, limit=_PAGE)
                place.end = page.last_seq
                for event in _in_order(task_id, place.seq, page.events):
                    place.seq = event.seq
                    yield event
                if page.final_seq is not None and place.seq >= page.final_seq:
                    return
                if place.seq < page.last_seq:
                    continue
                while True:
                    change = await _next(changes)
                    fresh = _usable(change, place.seq)
                    if fresh is None:
                        break  # the tape itself must be read
                    for event in fresh:
                        place.seq = event.seq
                        yield event
                        if event.type == FINAL:
                            return


class _Place:
    """Where a follower stands on its tape."""

    __slots__ = ("_changes", "end", "seq")

    def __init__(self, changes: Subscription, seq: int) -> None:
        self._changes = changes
        self.seq = seq
        self.end = 0

    def read_lag(self) -> int:
        """How many events the tape is known to have past this place."""
        return max(0, self.end - self.seq, self._changes.told_seq - self.seq)


async def await_final(
    store: TaskStore, task_id: str, subscribe: Subscribe | None = None
) -> FinalEvent:
    """Wait for the task's ``final``, wherever the task runs; ``subscribe`` as in ``follow_tape``.

    Raises ``UnknownTask``, ``DamagedTape`` for a ``final`` that cannot be read, and
    ``StoreClosed`` when the store is closed first.
    """
    if not is_task_id(task_id):
        raise UnknownTask(task_id)
    with (subscribe or store.changes)(task_id) as changes:
        while True:
            page = await store.read_tape(task_id, limit=1)
            if page.final_seq is not None:
                last = await store.read_tape(task_id, after_seq=page.final_seq - 1, limit=1)
                return _read_final(task_id, last.events[0])
            while True:
                change = await _next(changes)
                if change.events and change.events[-1].type == FINAL:
                    return _read_final(task_id, change.events[-1])
                if not change.events:
                    break


def _read_final(task_id: str, event: Event) -> FinalEvent:
    try:
        return FinalEvent.from_event(event)
    except Exception as error:  # whatever a session wrote past tapescope
        lacks = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        why = event.damage or lacks
        raise DamagedTape(task_id, why) from error


async def _next(changes: Subscription) -> Change:
    try:
        return await anext(changes)
    except StopAsyncIteration:
        raise changes.why or StoreClosed() from None


def _usable(change: Change, seq: int) -> Iterable[Event] | None:
    """The events of a change that follow ``seq`` directly; ``None`` when the tape must be read."""
    if not change.events or change.events[0].seq > seq + 1:
        return None
    if change.events[-1].type == FINAL and change.events[-1].seq <= seq:
        return None  # resumed past the end: a last look at the tape says so
    return (event for event in change.events if event.seq > seq)


def _in_order(task_id: str, seq: int, events: Iterable[Event]) -> Iterator[Event]:
    for event in events:
        if event.seq != seq + 1:
            raise TapeGap(task_id, seq + 1, event.seq)
        seq = event.seq
        yield event
