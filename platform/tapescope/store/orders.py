"""The orders that a backend is given beside a flush, and the rows that it gives back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

from tapescope.codec import decode, encode
from tapescope.model.leases import RescueResult
from tapescope.model.tape import FINAL
from tapescope.model.tasks import CancelRequest, ErrorInfo, FinalEvent, Task, TaskStatus
from tapescope.model.times import FIRST_TIME
from tapescope.store.flush import EventRow

__all__ = [
    "FIRST_EXPIRED",
    "FIRST_FOLLOWER",
    "FIRST_FOREIGN_OFFER",
    "LAST_CHILD",
    "DueDrop",
    "DueOrder",
    "DueRow",
    "DueTask",
    "Expired",
    "ExpiredOrder",
    "Follower",
    "FollowersOrder",
    "FollowersPage",
    "ListedTasks",
    "RescueOrder",
    "RescuedRow",
    "SchemaVersions",
    "body_of_first",
    "body_of_started",
    "cancel_instead",
]

FIRST_FOREIGN_OFFER: Final = 1 << 30
"""Offers from here on are not the run's own: see docs/decisions/0006."""


class ListedTasks(NamedTuple):
    """What ``StoreBackend.list`` found."""

    tasks: Sequence[Task]
    looked_to: str | None = None
    """The last id that was looked at, where it stopped before the end and before its limit."""


class Follower(NamedTuple):
    """An open task that is to be cancelled, for its parent has ended as cancelled."""

    task_id: str
    parent_id: str
    reason: str | None
    """The parent's, as ``CancelRequest`` has it; ``None`` where it has no request that can be
    read."""
    message: str | None
    by: str | None


_NIL: Final = "00000000-0000-0000-0000-000000000000"
FIRST_FOLLOWER: Final = (_NIL, _NIL)
"""Before every (parent, child)."""
LAST_CHILD: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
"""Behind every child of a parent."""
_PARENTS: Final = 10
"""Parents that are looked at for each child that is wanted."""


class FollowersOrder(NamedTuple):
    """A call of ``find_followers``, as a backend is given it: by parent, and then by child."""

    limit: int
    after: tuple[str, str] = FIRST_FOLLOWER
    """The (parent, child) behind which it begins."""

    @property
    def parents(self) -> int:
        """How many parents with open followers it is to look at, at the most."""
        return self.limit * _PARENTS


class FollowersPage(NamedTuple):
    """What ``StoreBackend.find_followers`` found."""

    found: Sequence[Follower]
    after: tuple[str, str] | None = None
    """Where the next look begins; ``None`` once all parents were looked at."""

    @classmethod
    def of(cls, order: FollowersOrder, rows: Sequence[tuple[Any, ...]]) -> Self:
        """Of rows of a database: (child, parent, reason, message, by, number of the parent), the
        child ``None`` for the last parent of the order where none of its children is found."""
        found = [Follower(*row[:5]) for row in rows if row[0] is not None]
        if not rows or (len(rows) < order.limit and rows[-1][5] < order.parents):
            return cls(found)
        child, parent = rows[-1][:2]
        return cls(found, (parent, LAST_CHILD if child is None else child))


class Expired(NamedTuple):
    """A pending task that has expired: no attempt of it begins any more."""

    task_id: str
    op: str
    at: int
    """Since when, in microseconds since the epoch."""
    key: int
    """Of its row."""
    expires_in: int
    """Microseconds that it had from when it was due."""

    @classmethod
    def of(cls, task: Task) -> Self:
        """Of a task that ``has_expired``."""
        at = task.expires_us
        assert at is not None, "it expires"
        return cls(task.task_id, task.op, at, task.key, round((task.expires_in or 0) * 1_000_000))


FIRST_EXPIRED: Final = (FIRST_TIME, 0)
"""Before every (time, key)."""


class ExpiredOrder(NamedTuple):
    """A call of ``find_expired``, as a backend is given it: by time, and then by key."""

    limit: int
    after: tuple[int, int] = FIRST_EXPIRED
    """The (``at``, ``key``) behind which it begins."""

    def pick(self, tasks: Iterable[Task], now: int) -> list[Expired]:
        """For a store that looks at all its tasks: those that it is to give, at ``now``."""
        found = [Expired.of(task) for task in tasks if task.has_expired(now)]
        behind = sorted((one for one in found if (one.at, one.key) > self.after), key=_place)
        return behind[: self.limit]


def _place(one: Expired) -> tuple[int, int]:
    return one.at, one.key


class RescueOrder(NamedTuple):
    """A call of ``rescue_expired``, as a backend is given it."""

    limit: int
    ops: Sequence[str]
    """The ops that can be run again by who rescues, or by a worker it knows of."""
    dead_owners: Sequence[str]
    ts: int
    retry: str
    """JSON text of the ``attempt_failed``."""
    failed: str
    """JSON text of the ``final`` where no retry is left."""

    def takes(self, task: Task, now: int) -> bool:
        """Whether the task's owner is lost at ``now``.

        A pending task with a lease can be run by its owner alone: it is lost with it, unless
        workers can run its op by now.
        """
        if task.lease_expires_us is None:
            return False
        if task.lease_expires_us > now and task.owner not in self.dead_owners:
            return False
        if task.status is TaskStatus.PENDING:
            return task.op not in self.ops
        return task.status is TaskStatus.RUNNING

    def judge(self, task: Task) -> RescueResult:
        """What becomes of a task whose owner is lost."""
        if task.cancel is not None:
            return RescueResult.CANCELLED
        if task.damage:
            return RescueResult.FAILED
        if task.retries_spent < task.retries and task.op in self.ops:
            return RescueResult.RETRIED
        if task.retries_spent < task.retries and task.engine is not None:
            return RescueResult.RETRIED  # its engine brings it, whatever workers tell of
        return RescueResult.FAILED

    def body(self, task: Task, result: RescueResult) -> str:
        """JSON text of the event that says so."""
        if result is RescueResult.RETRIED:
            return self.retry
        if result is RescueResult.FAILED or task.cancel is None:
            return self.failed
        return encode(FinalEvent.cancelled(task.cancel).as_json(), "message")


class RescuedRow(NamedTuple):
    """A task that a store rescued."""

    task: Task
    """As it ran: its attempt, its owner, its cancel."""
    result: RescueResult
    last_seq: int
    """The tape's end: the event that says so."""
    order: RescueOrder | None = None
    """The order that it was rescued by, where that was an earlier one, whose reply was lost."""


def cancel_instead(row: EventRow, request: CancelRequest) -> EventRow:
    """The ``final`` in the place of the row that gives the task up: no cancel on record is lost.

    The error of an ``attempt_failed`` is kept in it; an ``attempt_released`` has none.
    """
    error = decode(row.body).get("error")
    final = FinalEvent.cancelled(request, error and ErrorInfo(**error))
    return row._replace(type=FINAL, body=encode(final.as_json(), "message"))


class DueOrder(NamedTuple):
    """A call of ``claim_due``, as a backend is given it.

    A store whose replies can be lost answers the same owner's same ``number`` again with what the
    first try claimed, however the other fields read by then: see docs/decisions/0008.
    """

    number: int
    """Names the call among those of its owner on this store; it only grows."""
    again: bool
    """Whether it was sent before, and its reply perhaps lost."""
    owner: str
    ops: Sequence[str]
    limit: int
    lease: int
    """Microseconds the claims hold without a heartbeat."""
    ts: int
    started: tuple[str, str]
    """JSON text of a ``task_started``, before and behind the attempt's number."""
    failed: str
    """JSON text of the ``final`` of a task that the database does not let be claimed."""
    queues: Sequence[str] | None = None
    """The queues that tasks are taken from; ``None``: from all."""

    def takes(self, task: Task) -> bool:
        """Whether a task is of the ops and the queues that are asked for."""
        return task.op in self.ops and (self.queues is None or task.queue in self.queues)

    def body(self, attempt: int) -> str:
        """JSON text of the ``task_started`` of this attempt."""
        before, behind = self.started
        return f"{before}{attempt}{behind}"


class DueRow(NamedTuple):
    """A task that a call has claimed."""

    task: Task
    """As its row is now: what was claimed by a call whose reply was lost may have moved on."""
    attempt: int
    started_seq: int
    """The ``seq`` of its ``task_started``; of its ``final`` where it was ``refused``."""
    refused: str = ""
    """Why it could not be claimed, and so has ended as failed, with ``BAD_ROW``."""
    expired: bool = False
    """It was next, and has expired: it was not claimed, ``attempt`` and ``started_seq`` are 0, and
    it is pending until its cancel is requested."""

    def held_by(self, owner: str) -> bool:
        """Whether the attempt that was claimed is still the task's, and ``owner``'s."""
        task = self.task
        now = (task.status, task.owner, task.attempt)
        return now == (TaskStatus.RUNNING, owner, self.attempt)


def body_of_started(owner: str) -> tuple[str, str]:
    """The two parts of ``DueOrder.started``."""
    before, _, behind = encode({"attempt": 0, "owner": owner}, "owner").partition("0")
    return before, behind


@lru_cache(maxsize=16)
def body_of_first(owner: str) -> str:
    """The body of the ``task_started`` of a task's first attempt; a process has few owners."""
    return "1".join(body_of_started(owner))


@dataclass(frozen=True, slots=True)
class SchemaVersions:
    """The number of the last migration: the one in the database, and the one of this code."""

    found: int
    """0 where there is no schema yet."""
    known: int
    compatible: bool = True
    """Whether this code may use the database; one that is newer says so itself."""


@dataclass(frozen=True, slots=True)
class DueTask:
    """A task that a prune looked at, in the order of ``key``."""

    key: int
    young: bool
    """It was created after the cutoff, and so were those behind it."""
    events: int | None
    """The length of its tape when it is due; ``None``: it stays."""


@dataclass(frozen=True, slots=True)
class DueDrop:
    """A quarantined event that a prune looked at, in the order of ``key``."""

    key: int
    due: bool
