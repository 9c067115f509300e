"""A store whose use is judged at its end, and what a person is told of a breach."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from tapescope.testing._case import Breach
from tapescope.testing._checker import check
from tapescope.testing._history import History, Recording
from tapescope.testing._memory import MemoryStore
from tapescope.testing._spans import SpanRecord
from tapescope.testing.polling import until

__all__ = ["HistoryBroken", "RecordedMemoryStore", "explain", "judged"]

S = TypeVar("S", bound=Recording)

_MOST = 40
"""Calls of a task that are told."""


class RecordedMemoryStore(Recording, MemoryStore):
    """A store in memory that notes its calls in its ``history``."""


class HistoryBroken(AssertionError):
    """What was done with a store does not fit what the store now holds."""

    def __init__(self, breaches: Sequence[Breach], history: History) -> None:
        self.breaches = tuple(breaches)
        super().__init__(explain(breaches, history))


@asynccontextmanager
async def judged(
    store: S, *, spans: Callable[[], Sequence[SpanRecord]] | None = None
) -> AsyncGenerator[S]:
    """The store, open; at its end its history is judged, and the store is closed.

    Managers on the store are to be closed by then. ``spans`` gives all that were exported, as
    ``InMemorySpanExporter.get_finished_spans`` of the SDK does. Raises ``HistoryBroken`` where an
    invariant does not hold; not where the block itself has raised.
    """
    async with store:
        yield store
        # What a runner sent and did not wait for may be on its way past its manager's end.
        await until(lambda: store.meter.ledger.in_flight == 0)
        exported = None if spans is None else spans()
        if breaches := await check(store.history, store, spans=exported):
            raise HistoryBroken(breaches, store.history)


def explain(breaches: Sequence[Breach], history: History) -> str:
    """Each breach, with the calls of its task in the order in which they began."""
    lines: list[str] = []
    for task_id in dict.fromkeys(breach.task_id for breach in breaches):
        lines += [str(breach) for breach in breaches if breach.task_id == task_id]
        calls = [call for call in history.calls if call.task_id == task_id]
        lines += [f"    {call}" for call in calls[:_MOST]]
        if len(calls) > _MOST:
            lines.append(f"    … {len(calls) - _MOST} calls more")
    return "\n".join(lines)
