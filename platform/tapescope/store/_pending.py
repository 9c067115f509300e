"""The write calls that wait for a flush."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tapescope.model.tape import FINAL
from tapescope.model.tasks import ErrorInfo, FinalEvent, Task
from tapescope.store.flush import (
    CancelAnswer,
    CancelRow,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    EventRow,
    Flush,
)

if TYPE_CHECKING:
    from tapescope_telemetry.spans import Caller

__all__ = [
    "Doubt",
    "PendingBirth",
    "PendingCancel",
    "PendingClaim",
    "PendingCreate",
    "PendingEvents",
    "PendingFinish",
    "PendingGiveUp",
    "PendingWrite",
    "TapeCursor",
]


class Doubt(NamedTuple):
    """The event that ends an attempt, which was sent, and whose fate is not known."""

    flush: Flush
    row: EventRow
    counted: bool = False
    """Whether it is known by now, and a ``final`` of it was counted."""


class TapeCursor:
    """What one store remembers of one attempt's tape: the tape has no other cursor.

    ``tail`` moves only after a commit, and ``seq`` is given out when a flush is built, so a call
    that is withdrawn from the queue leaves no hole (invariant I3).
    """

    __slots__ = (
        "__weakref__",
        "attempt",
        "busy",
        "claimed",
        "context",
        "doubt",
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
        "untraced",
    )

    def __init__(self, task_id: str, attempt: int, owner: str) -> None:
        self.task_id, self.attempt, self.owner = task_id, attempt, owner
        self.key: int | None = None
        """The row's key; ``None``: where the tape stands must be read first; 0: no such task."""
        self.op: str = ""
        self.tail = 0
        self.offers = 0
        self.doubt: Doubt | None = None
        """How the attempt ended, where the reply to that was lost for good."""
        self.claimed: float | None = None
        """Monotonic time of the claim, when it was made here."""
        self.queue: list[PendingEvents] = []
        self.held: list[PendingEvents] = []
        """Calls put aside while another session holds the task's row."""
        self.busy = False
        """In a flush that is under way, or with calls held: a task is in one flush at a time."""
        self.flying = 0
        """Events taken into a flush and not decided yet; those put aside are among them."""
        self.ready = False
        """Listed for the next flush."""
        self.trace_id: str | None = None
        self.untraced: tuple[str, str] | None = None
        """The trace and span of the run, until the database has them: none where none records."""
        self.context: Any = None
        """The run span's OpenTelemetry context, which metrics of late events point to."""


class PendingWrite:
    """A caller that waits for its flush."""

    __slots__ = ("future", "in_flight", "since", "size", "withdrawn")
    insists = False
    """Whether its caller, when it is cancelled, still waits for the flush that is under way."""

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


class PendingCreate(PendingWrite):
    """A task to create; answered with the ``Task`` that now holds its place."""

    __slots__ = ("_fate", "params", "row")

    def __init__(self, since: float, row: CreateRow, params: Mapping[str, Any]) -> None:
        super().__init__(since)
        self.row, self.params = row, params
        self.future: asyncio.Future[Any]
        self._fate: object = None
        """What it was answered, also when its caller was gone by then."""

    def reject(self, error: BaseException) -> None:
        """Answer with an error."""
        self._fate = error
        super().reject(error)

    def answer(self, answer: object) -> None:
        """Answer with the task, and whether it is new."""
        self._fate = answer
        super().answer(answer)

    def find_fate(self) -> asyncio.Future[Any]:
        """What becomes of the task, for who takes the place of a caller that is gone."""
        if self.future.cancelled():
            self.future = asyncio.get_running_loop().create_future()
            if isinstance(self._fate, BaseException):
                super().reject(self._fate)
            elif self._fate is not None:
                super().answer(self._fate)
        return self.future


class PendingBirth(PendingCreate):
    """A task to create and to claim at once; answered with the ``Task``, whether it is new, and the
    ``ClaimAnswer``: ``None`` where it stood there already."""

    __slots__ = ("claim", "claim_place", "cursor")

    def __init__(
        self, since: float, row: CreateRow, params: Mapping[str, Any], claim: ClaimRow
    ) -> None:
        super().__init__(since, row, params)
        self.claim = claim
        self.claim_place = 0
        """The place of its claim in the flush that it is part of."""
        self.cursor = TapeCursor(row.task_id, 1, claim.owner)


class PendingClaim(PendingWrite):
    """A claim; answered with a ``ClaimAnswer``, or ``None`` when another owner has the task."""

    __slots__ = ("cursor", "row", "task")

    def __init__(self, since: float, row: ClaimRow, task: Task) -> None:
        super().__init__(since)
        self.row, self.task = row, task
        self.cursor = TapeCursor(row.task_id, row.attempt + 1, row.owner)
        self.future: asyncio.Future[ClaimAnswer | None]


class PendingCancel(PendingWrite):
    """A cancel request; answered with a ``CancelAnswer``, or ``None`` for an unknown task."""

    __slots__ = ("asked_in", "row")

    def __init__(self, since: float, row: CancelRow, asked_in: Caller) -> None:
        super().__init__(since)
        self.row, self.asked_in = row, asked_in
        self.future: asyncio.Future[CancelAnswer | None]


class PendingEvents(PendingWrite):
    """Events of one attempt; answered with ``Appended``. Each is (type, JSON text, ts)."""

    __slots__ = ("cursor", "events", "reloaded")
    finishes = False
    """Whether the attempt writes nothing after it; then it goes before others' appends."""

    def __init__(
        self, since: float, cursor: TapeCursor, events: list[tuple[str, str, int]]
    ) -> None:
        PendingWrite.__init__(self, since, len(events))
        self.cursor, self.events = cursor, events
        self.reloaded = False
        """Whether the tape's end was read again after the database refused this call."""


class PendingFinish(PendingEvents):
    """A ``final``; answered with ``Finished``."""

    __slots__ = ("final",)
    finishes = True

    def __init__(
        self, since: float, cursor: TapeCursor, final: FinalEvent, body: str, ts: int
    ) -> None:
        super().__init__(since, cursor, [(FINAL, body, ts)])
        self.final = final


class PendingGiveUp(PendingEvents):
    """An ``attempt_failed`` or ``attempt_released`` that gives the task up; answered with
    ``GivenUp``."""

    __slots__ = ("bound", "error", "run_at", "spends")
    finishes = True
    insists = True  # asked for again, it would be the late event of an old attempt

    def __init__(
        self,
        since: float,
        cursor: TapeCursor,
        event: tuple[str, str, int],
        error: ErrorInfo | None,
        run_at: int | None,
        bound: tuple[str | None, int | None] = (None, None),
    ) -> None:
        """``error`` is why the attempt failed; ``None`` for a release, which spends no retry."""
        super().__init__(since, cursor, [event])
        self.error, self.run_at = error, run_at
        self.bound = bound
        """The owner and the lease of the pending task, as in ``GiveUpRow``."""
        self.spends = 0 if error is None else 1
