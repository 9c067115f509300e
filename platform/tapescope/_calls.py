"""The write calls that wait for a flush, and what each is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

from tapescope.flush import CancelAnswer, CancelRow, ClaimAnswer, ClaimRow, CreateRow
from tapescope.tape import ATTEMPT_FAILED, FINAL, DropReason, Outcome
from tapescope.tasks import ErrorInfo, Task
from tapescope.tasks import Final as FinalEvent

__all__ = [
    "Appended",
    "Call",
    "CancelCall",
    "ClaimCall",
    "CreateCall",
    "EventsCall",
    "FinishCall",
    "Finished",
    "GiveUpCall",
    "Writer",
]


class Appended(NamedTuple):  # one is made for every append: a dataclass takes thrice as long
    """The answer to an append: its events share one fate, for they are one attempt's."""

    stored: range
    """The ``seq`` of each event, in order; empty when they were dropped."""
    dropped: DropReason | None
    """Why they were kept off the tape: they are counted and in the quarantine."""
    last_seq: int
    """The tape's end."""


class Finished(NamedTuple):
    """The answer to a finish."""

    won: bool
    """Whether this attempt's ``final`` is the tape's."""
    dropped: DropReason | None
    """Why the ``final`` was kept off the tape, when it lost."""
    outcome: Outcome | None
    """How the task ended; ``None`` when it lost and the task lives on."""
    last_seq: int
    """The tape's end: its length, when it won."""


class Writer:
    """What one store remembers of one attempt's tape: the tape has no other writer.

    ``tail`` moves only after a commit, and ``seq`` is given out when a flush is built, so a call
    that is withdrawn from the queue leaves no hole (invariant I3).
    """

    __slots__ = (
        "__weakref__",
        "attempt",
        "busy",
        "claimed",
        "context",
        "flying",
        "held",
        "key",
        "offers",
        "op",
        "owner",
        "queue",
        "ready",
        "tail",
        "task_id",
        "trace_id",
    )

    def __init__(self, task_id: str, attempt: int, owner: str) -> None:
        self.task_id, self.attempt, self.owner = task_id, attempt, owner
        self.key: int | None = None
        """The row's key; ``None``: where the tape stands must be read first; 0: no such task."""
        self.op: str = ""
        self.tail = 0
        self.offers = 0
        self.claimed: float | None = None
        """Monotonic time of the claim, when it was made here."""
        self.queue: list[EventsCall] = []
        self.held: list[EventsCall] = []
        """Calls put aside while somebody else holds the task's row."""
        self.busy = False
        """In a flush that is under way, or with calls held: a task is in one flush at a time."""
        self.flying = 0
        """Events taken into a flush and not decided yet; those put aside are among them."""
        self.ready = False
        """Listed for the next flush."""
        self.trace_id: str | None = None
        self.context: Any = None
        """The run span's OpenTelemetry context, which metrics of late events point to."""


class Call:
    """A caller that waits for its flush."""

    __slots__ = ("future", "in_flight", "since", "size", "withdrawn")

    def __init__(self, since: float, size: int = 1) -> None:
        self.since = since
        self.size = size
        """How many events it offers, or 1."""
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.in_flight = False
        """Part of the flush that is under way: too late to withdraw."""
        self.withdrawn = False

    def reject(self, error: BaseException) -> None:
        """Answer with an error, unless the caller is gone."""
        if not self.future.done():
            self.future.set_exception(error)

    def answer(self, answer: object) -> None:
        """Answer, unless the caller is gone."""
        if not self.future.done():
            self.future.set_result(answer)


class CreateCall(Call):
    """A task to create; answered with the ``Task`` that now holds its place."""

    __slots__ = ("params", "row")

    def __init__(self, since: float, row: CreateRow, params: Mapping[str, Any]) -> None:
        super().__init__(since)
        self.row, self.params = row, params
        self.future: asyncio.Future[tuple[Task, bool]]


class ClaimCall(Call):
    """A claim; answered with a ``ClaimAnswer``, or ``None`` when somebody else has the task."""

    __slots__ = ("row", "task", "writer")

    def __init__(self, since: float, row: ClaimRow, task: Task) -> None:
        super().__init__(since)
        self.row, self.task = row, task
        self.writer = Writer(row.task_id, row.attempt + 1, row.owner)
        self.future: asyncio.Future[ClaimAnswer | None]


class CancelCall(Call):
    """A cancel request; answered with a ``CancelAnswer``, or ``None`` for an unknown task."""

    __slots__ = ("row",)

    def __init__(self, since: float, row: CancelRow) -> None:
        super().__init__(since)
        self.row = row
        self.future: asyncio.Future[CancelAnswer | None]


class EventsCall(Call):
    """Events of one attempt; answered with ``Appended``. Each is (type, JSON text, ts)."""

    __slots__ = ("events", "reloaded", "writer")
    finishes = False
    """Whether the attempt writes nothing after it; then it goes before others' appends."""

    def __init__(self, since: float, writer: Writer, events: list[tuple[str, str, int]]) -> None:
        Call.__init__(self, since, len(events))
        self.writer, self.events = writer, events
        self.reloaded = False
        """Whether the tape's end was read again after the database refused this call."""


class FinishCall(EventsCall):
    """A ``final``; answered with ``Finished``."""

    __slots__ = ("final",)
    finishes = True

    def __init__(self, since: float, writer: Writer, final: FinalEvent, body: str, ts: int) -> None:
        super().__init__(since, writer, [(FINAL, body, ts)])
        self.final = final


class GiveUpCall(EventsCall):
    """An ``attempt_failed`` that gives the task up; answered with ``GivenUp``."""

    __slots__ = ("error", "run_at", "spends")
    finishes = True

    def __init__(
        self,
        since: float,
        writer: Writer,
        body: str,
        ts: int,
        error: ErrorInfo,
        run_at: int | None,
        spends: int,
    ) -> None:
        super().__init__(since, writer, [(ATTEMPT_FAILED, body, ts)])
        self.error, self.run_at, self.spends = error, run_at, spends
