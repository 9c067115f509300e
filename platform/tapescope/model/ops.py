"""Ops that can be submitted by name: what a worker writes to the store about each, and about
itself; and what a person has stopped for a while."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tapescope.model.tasks import DEFAULT_QUEUE
from tapescope.model.times import moment

__all__ = [
    "DEFAULT_RETRIES",
    "Drain",
    "KnownOp",
    "Pause",
    "PausePage",
    "WorkerPage",
    "WorkerState",
]

DEFAULT_RETRIES: Final = 3
"""The retries of a task that was submitted by name, where neither the submit nor the op has others.
With none, a killed worker would be the end of the task (docs/decisions/0010)."""


@dataclass(frozen=True, slots=True)
class KnownOp:
    """An op that a worker of the store has registered, with the defaults for a submit of it."""

    op: str
    timeout: float | None = None
    """Seconds an attempt may run; ``None`` for no limit."""
    retries: int = DEFAULT_RETRIES
    priority: int = 0
    """Among the tasks that are due the higher goes first."""
    max_concurrent: int | None = None
    """How many of its tasks with one concurrency key run at once, over the whole store; ``None``:
    any number."""
    queue: str = DEFAULT_QUEUE
    """Which workers take its tasks: those of this queue, and those of all."""
    max_waiting: int | None = None
    """How many of its tasks may wait when one more is submitted; ``None`` for no bound."""
    expires_in: float | None = None
    """Seconds from when a task is due within which its first attempt begins, or none does; ``None``
    for no limit."""
    rate_times: int | None = None
    """How many attempts of its tasks with one concurrency key begin in any window of
    ``rate_per_us``, over the whole store; ``None``: any number."""
    rate_per_us: int | None = None
    """The length of that window, in microseconds."""


@dataclass(frozen=True, slots=True)
class Pause:
    """An op whose tasks no worker claims, until it is resumed (docs/decisions/0081)."""

    op: str
    at_us: int
    """Since when, in microseconds since the epoch, by the store's clock."""
    by: str | None = None
    """Who paused it, as they said."""
    reason: str = ""
    """Why, as they said."""

    @property
    def at(self) -> datetime:
        """Since when: an aware time in UTC."""
        return moment(self.at_us)


@dataclass(frozen=True, slots=True)
class PausePage:
    """A page of paused ops, by name."""

    pauses: tuple[Pause, ...]
    next: str | None
    """Pass it as ``after`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class Drain:
    """That a worker claims no more tasks, while those that it runs go on (docs/decisions/0082)."""

    at_us: int
    """Since when, in microseconds since the epoch, by the store's clock."""
    by: str | None = None
    """Who asked for it, as they said."""
    reason: str = ""
    """Why, as they said."""

    @property
    def at(self) -> datetime:
        """Since when: an aware time in UTC."""
        return moment(self.at_us)


@dataclass(frozen=True, slots=True)
class WorkerState:
    """Who works on a store: a worker, or another owner of tasks that run.

    What runs a callable of its own, such as ``tapescope run``, is not a worker: it has no ``ops``,
    and nobody heard of it.
    """

    owner: str
    """As the rows of its tasks name it."""
    ops: tuple[str, ...] = ()
    """What it can run by name."""
    running: int = 0
    """Tasks that it runs, by their rows."""
    is_worker: bool = True
    """Whether it tells the store that it lives, as workers do."""
    alive: bool = True
    """Whether it told so within its time. Of others nothing is known but their leases."""
    since_us: int | None = None
    """When it was first heard, in microseconds since the epoch, by the store's clock."""
    heard_us: int | None = None
    """When it was last heard."""
    drain: Drain | None = None
    queues: tuple[str, ...] | None = None
    """The queues that it takes tasks from; ``None``: from all."""

    @property
    def since(self) -> datetime | None:
        """When it was first heard: an aware time in UTC."""
        return None if self.since_us is None else moment(self.since_us)

    @property
    def heard(self) -> datetime | None:
        """When it was last heard: an aware time in UTC."""
        return None if self.heard_us is None else moment(self.heard_us)

    @property
    def host(self) -> str | None:
        """The host that its owner's name begins with; ``None`` where the name has another form."""
        parts = self.owner.rsplit(":", 3)
        return parts[0] if len(parts) == 4 else None  # host:pid:start:random

    @property
    def pid(self) -> int | None:
        """Its process on that host; ``None`` where the name has another form."""
        parts = self.owner.rsplit(":", 3)
        is_number = len(parts) == 4 and parts[1].isdecimal()  # as above
        return int(parts[1]) if is_number else None


@dataclass(frozen=True, slots=True)
class WorkerPage:
    """A page of who works on a store, by owner."""

    workers: tuple[WorkerState, ...]
    next: str | None
    """Pass it as ``after`` for the next page; ``None`` at the end."""
