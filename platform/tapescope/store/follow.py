"""Following a tape: what is stored, then what is committed, each ``seq`` once, in order (I9)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tapescope.errors import DamagedTape, StoreClosed, TapeGap, UnknownTask
from tapescope.model.tape import FINAL, Event
from tapescope.model.tasks import FinalEvent
from tapescope.store.validation import check_place, is_task_id

if TYPE_CHECKING:
    from tapescope.store.notifications import Change, Subscription
    from tapescope.store.port import TaskStore

__all__ = ["TapeBatch", "await_final", "follow_batches", "follow_tape"]

Subscribe = Callable[[str], "Subscription"]

_PAGE: Final = 1_000
_KIND: Final = "follow"


@dataclass(frozen=True, slots=True)
class TapeBatch:
    """Events that a follower is told of at once, and where the tape is known to stand."""

    events: tuple[Event, ...]
    """At least one, in ``seq`` order."""
    last_seq: int
    """The highest ``seq`` that the tape is known to have."""
    final_seq: int | None
    """The ``seq`` of the ``final``; ``None`` while none is known of."""


async def follow_tape(
    store: TaskStore, task_id: str, after_seq: int = 0, subscribe: Subscribe | None = None
) -> AsyncGenerator[Event, None]:
    """Every event after ``after_seq``, live, to the ``final``; then it ends.

    A tape that has its ``final`` at or before ``after_seq`` gives nothing. Raises ``UnknownTask``,
    ``TapeGap`` when an event would be missing, and ``StoreClosed`` when the store is closed before
    the ``final`` came: the end of the events is never silence. ``subscribe`` is the store's
    ``changes`` where nothing else is given; who gives it may end the follower with an error.
    """
    with _following(store, task_id, after_seq, subscribe) as follower:
        while (batch := await follower.next_batch()) is not None:
            for event in batch.events:
                follower.seen = event.seq
                yield event


async def follow_batches(
    store: TaskStore, task_id: str, after_seq: int = 0, subscribe: Subscribe | None = None
) -> AsyncGenerator[TapeBatch, None]:
    """What ``follow_tape`` gives, as it comes: many events at once, each time with the tape's end.

    For who hands them on to another process. A batch counts as seen once the next one is asked for.
    """
    with _following(store, task_id, after_seq, subscribe) as follower:
        while (batch := await follower.next_batch()) is not None:
            yield batch
            follower.seen = batch.events[-1].seq


@contextmanager
def _following(
    store: TaskStore, task_id: str, after_seq: int, subscribe: Subscribe | None
) -> Generator[_Follower]:
    after_seq = check_place("after_seq", after_seq, of_tape=True)
    if not is_task_id(task_id):
        raise UnknownTask(task_id)
    # Subscribed before the first read: what is committed in between is told, not missed.
    with (subscribe or store.changes)(task_id) as changes:
        follower = _Follower(store, task_id, changes, after_seq)
        with store.meter.following(_KIND, follower.read_lag):
            yield follower


class _Follower:
    """Where a follower stands on its tape."""

    def __init__(
        self, store: TaskStore, task_id: str, changes: Subscription, after_seq: int
    ) -> None:
        self._store = store
        self._task_id = task_id
        self._changes = changes
        self._given = after_seq
        self._end = 0
        self._final_seq: int | None = None
        self._caught_up = False
        self.seen = after_seq
        """The last ``seq`` that the caller has taken."""

    def read_lag(self) -> int:
        """How many events the tape is known to have past what the caller has taken."""
        return max(0, self._end - self.seen, self._changes.told_seq - self.seen)

    async def next_batch(self) -> TapeBatch | None:
        """The events that follow; ``None`` after the ``final``."""
        while self._final_seq is None or self._given < self._final_seq:
            events = await (self._take_change() if self._caught_up else self._read_page())
            if events:
                return TapeBatch(events, max(self._end, self._given), self._final_seq)
        return None

    async def _read_page(self) -> tuple[Event, ...]:
        """The events of the next page; those before a gap come first, and the gap is raised."""
        page = await self._store.read_tape(self._task_id, after_seq=self._given, limit=_PAGE)
        self._end, self._final_seq = page.last_seq, page.final_seq
        events: list[Event] = []
        for event in page.events:
            if event.seq != self._given + 1:
                if not events:
                    raise TapeGap(self._task_id, self._given + 1, event.seq)
                break
            self._given = event.seq
            events.append(event)
        self._caught_up = self._given >= page.last_seq
        return tuple(events)

    async def _take_change(self) -> tuple[Event, ...]:
        """The events of the next commit; none where the tape itself must be read."""
        change = await _next(self._changes)
        fresh = _usable(change, self._given)
        if fresh is None:
            self._caught_up = False
            return ()
        events = tuple(fresh)
        if events:
            self._given = events[-1].seq
            if events[-1].type == FINAL:
                self._final_seq = self._given
        return events


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
