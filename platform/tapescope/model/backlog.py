"""What waits and what runs on a store, in numbers: the same ones from every process of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from tapescope.model.ops import Pause
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.times import moment

__all__ = [
    "Backlog",
    "BacklogCount",
    "OpBacklog",
    "WaitState",
    "count_backlog",
    "find_pauses",
    "find_served",
    "list_counts",
    "make_backlog",
    "sum_states",
]


_SECOND: Final = 1_000_000
"""In microseconds."""
COUNTED: Final = (
    *("due", "scheduled", "retrying", "running", "held"),
    *("succeeded", "failed", "cancelled"),
)
"""What ``BacklogCount.state`` may be."""
_NO_PAUSES: Final[Mapping[str, Pause]] = MappingProxyType({})
_ALL_SERVED: Final[Mapping[str, Sequence[str]]] = MappingProxyType({})
_UNSERVED: Final = 3
"""Queues without a worker that are named of an op."""


class WaitState(StrEnum):
    """How a task that has not been claimed waits: a closed set, and a metric label."""

    DUE = "due"
    """It may be claimed now."""
    SCHEDULED = "scheduled"
    """It was submitted for a time that is not here yet, or its concurrency key has no slot free, or
    its rate no place."""
    RETRYING = "retrying"
    """An attempt of it ended, and the next may begin at a time that is not here yet."""


@dataclass(frozen=True, slots=True)
class OpBacklog:
    """The tasks of one op. What is due is so to the second."""

    op: str
    due: int = 0
    scheduled: int = 0
    retrying: int = 0
    running: int = 0
    held: int = 0
    """Of those that wait, the tasks that only the process which submitted them can run."""
    oldest_due: float | None = None
    """How long ago the first task that waits fell due, in seconds; ``None``: none is due."""
    oldest_running: float | None = None
    """How long ago the oldest run was claimed, in seconds; ``None``: nothing runs."""
    workers: int = 0
    """Living workers that have registered the op, whichever queues they take."""
    unserved: tuple[str, ...] = ()
    """Queues in which a task of the op is due and that none of these workers takes: the first three
    by name. A store may look at the first 200 alone that none takes and in which something waits,
    and pass over no more than 100 tasks of a priority that only their submitter can run."""
    registered: bool = False
    """Whether a worker has registered the op in the last week."""
    timeout: float | None = None
    """Seconds that a run may take, as its worker has registered it; ``None`` for no limit."""
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    """Tasks that ended so since the store was made, with those that were pruned."""
    gone: int = 0
    """Tasks that were deleted, past tapescope, before their end."""
    paused: Pause | None = None
    """That no worker claims its tasks, for somebody has paused it; ``None``: it is not paused."""

    @property
    def waiting(self) -> int:
        """Tasks that no worker has claimed yet, whenever they are due."""
        return self.due + self.scheduled + self.retrying

    @property
    def submitted(self) -> int:
        """Tasks that were submitted since the store was made; it never falls."""
        live = self.waiting + self.running
        return live + self.succeeded + self.failed + self.cancelled + self.gone

    @property
    def unattended(self) -> bool:
        """Whether a task is due that no living worker takes, nor the process it is from.

        That of a paused op waits for its resume, whoever works.
        """
        alone = self.due > self.held and not self.workers
        return (alone or bool(self.unserved)) and self.paused is None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits and what runs on a store, as of one moment; the ops by name."""

    made_us: int
    """When the numbers were read, in microseconds since the epoch, by the store's clock."""
    age: float
    """How old they were when they were given, in seconds."""
    ops: tuple[OpBacklog, ...]

    @property
    def made_at(self) -> datetime:
        """When the numbers were read: an aware time in UTC."""
        return moment(self.made_us)


@dataclass(frozen=True, slots=True)
class BacklogCount:
    """A number that the store keeps, and what a count of its tasks gives, as of one moment."""

    op: str
    state: str
    kept: int
    found: int

    @property
    def differs(self) -> bool:
        """Whether they do not agree: of what has ended there may be less, for some was pruned."""
        if self.state in ("succeeded", "failed", "cancelled"):
            return self.kept < self.found
        return self.kept != self.found


def make_backlog(
    made_us: int,
    now_us: int,
    counts: Mapping[str, Mapping[str, int]],
    *,
    first_due: Mapping[str, int | None],
    running_since: Mapping[str, int | None],
    workers: Mapping[str, int],
    registered: Mapping[str, float | None],
    paused: Mapping[str, Pause] = _NO_PAUSES,
    unserved: Mapping[str, Sequence[str]] = _ALL_SERVED,
) -> Backlog:
    """The numbers of a store by op: counts by state, times in microseconds since the epoch."""

    def age(at: int | None) -> float | None:
        return None if at is None else max(0, made_us - at) / 1e6

    ops: Sequence[str] = sorted({*counts, *workers, *registered, *paused})
    none: Mapping[str, int] = {}
    return Backlog(
        made_us,
        max(0, now_us - made_us) / 1e6,
        tuple(
            OpBacklog(
                op,
                **counts.get(op, none),
                oldest_due=age(first_due.get(op)) if counts.get(op, none).get("due") else None,
                oldest_running=age(running_since.get(op)),
                workers=workers.get(op, 0),
                registered=op in registered,
                timeout=registered.get(op),
                paused=paused.get(op),
                unserved=tuple(unserved.get(op, ())),
            )
            for op in ops
        ),
    )


def find_pauses(backlog: Backlog) -> Mapping[str, Pause]:
    """The ops that are paused, by name."""
    return {one.op: one.paused for one in backlog.ops if one.paused is not None}


def count_backlog(
    tasks: Iterable[Task],
    pruned: Mapping[tuple[str, str], int],
    now_us: int,
    *,
    workers: Mapping[str, int],
    registered: Mapping[str, float | None],
    paused: Mapping[str, Pause] = _NO_PAUSES,
    served: Mapping[str, Collection[str]] = _ALL_SERVED,
) -> Backlog:
    """The numbers, counted from the tasks themselves: for a store that holds few.

    ``pruned`` are, by op and status, the tasks that have ended and are not there any more;
    ``served`` the queues that are taken of the ops of which not all are (``find_served``).
    """
    counts: dict[str, dict[str, int]] = {}
    first_due: dict[str, int | None] = {}
    since: dict[str, int | None] = {}
    left: dict[str, set[str]] = {}

    def add(op: str, state: str, n: int = 1) -> None:
        mine = counts.setdefault(op, {})
        mine[state] = mine.get(state, 0) + n

    for (op, status), n in pruned.items():
        add(op, status, n)
    for task in tasks:
        op = task.op
        if task.status is TaskStatus.PENDING:
            born_due = not task.attempt and task.run_us <= task.created_us
            if not task.parked and (born_due or task.run_us // _SECOND <= now_us // _SECOND):
                add(op, "due")
            else:
                add(op, "retrying" if task.attempt else "scheduled")
            add(op, "held", int(task.lease_expires_us is not None))
            if not task.parked:
                first_due[op] = min(task.run_us, first_due.get(op) or task.run_us)
                is_free = task.run_us <= now_us and task.lease_expires_us is None
                if op in served and is_free and not task.engine and task.queue not in served[op]:
                    left.setdefault(op, set()).add(task.queue)
        else:
            add(op, task.status.value)
            if task.status is TaskStatus.RUNNING:
                claimed_us = task.claimed_us or now_us
                since[op] = min(claimed_us, since.get(op) or claimed_us)
    return make_backlog(
        now_us,
        now_us,
        counts,
        first_due=first_due,
        running_since=since,
        workers=workers,
        registered=registered,
        paused=paused,
        unserved={op: sorted(queues)[:_UNSERVED] for op, queues in left.items()},
    )


def find_served(
    workers: Iterable[tuple[Iterable[str], Collection[str] | None]],
) -> Mapping[str, Collection[str]]:
    """By op the queues that living workers take: of the ops of which no worker takes all.

    A worker has ops, and queues; ``None``: it takes all.
    """
    taken: dict[str, set[str]] = {}
    whole: set[str] = set()
    for ops, queues in workers:
        for op in ops:
            if queues is None:
                whole.add(op)
            else:
                taken.setdefault(op, set()).update(queues)
    return {op: queues for op, queues in taken.items() if op not in whole}


def list_counts(backlog: Backlog) -> list[BacklogCount]:
    """The numbers of a store that counts its tasks when it is asked: each is what it is."""
    return [
        BacklogCount(one.op, state, n, n)
        for one in backlog.ops
        for state in COUNTED
        for n in [getattr(one, state)]
    ]


def sum_states(rows: Mapping[tuple[str, str, bool], int]) -> dict[str, dict[str, int]]:
    """By op the counts of ``OpBacklog``, from the numbers that a store keeps.

    A number has an op, a state, and whether it is of tasks whose time has come. Of what waits for a
    time the others are all that ever did.
    """
    found: dict[str, dict[str, int]] = {}
    for (op, state, ready), n in rows.items():
        counts = found.setdefault(op, {})

        def add(name: str, more: int, counts: dict[str, int] = counts) -> None:
            counts[name] = counts.get(name, 0) + more

        held, name = state.startswith("held_"), state.removeprefix("held_")
        if name not in list(WaitState):
            add(state, n)
        elif not ready:  # all that ever waited for a time
            add(name, n)
            if held:
                add("held", n)
        else:
            add("due", n)
            if name != WaitState.DUE:
                add(name, -n)
            elif held:
                add("held", n)
    return found
