"""Schedules: when tasks of an op are made by themselves, as the store keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, TypedDict

from tapescope.model.times import FIRST_TIME, format_time, moment, parse_time

__all__ = [
    "CatchUp",
    "Firing",
    "FiringOutcome",
    "Overlap",
    "Schedule",
    "ScheduleOrigin",
    "SchedulePage",
    "ScheduleTimes",
    "read_firing",
]

_FIRED: Final = "schedule:"
_TRIGGERED: Final = "trigger:"


class CatchUp(StrEnum):
    """What becomes of the firing times that passed while no worker was there."""

    SKIP = "skip"
    """Nothing is made for a time that passed more than a minute ago."""
    ONE = "one"
    """One task is made, for the last of them."""
    ALL = "all"
    """A task is made for each of them, for the last hundred at most."""


class Overlap(StrEnum):
    """What becomes of a firing while the task of the firing before has not ended."""

    ALLOW = "allow"
    """Its task is made all the same."""
    SKIP = "skip"
    """No task is made for it."""


class ScheduleTimes(TypedDict, total=False):
    """When a schedule makes a task, and what becomes of what it could not make.

    The keyword arguments of every verb that declares or adds one. One of ``cron`` and ``every`` is
    given.
    """

    cron: str | None
    """Five fields, read in ``time_zone``."""
    every: float | None
    """Seconds, 1 or more: it fires at their multiples since the Unix epoch."""
    time_zone: str
    """A name of the IANA database; ``UTC`` where none is given."""
    catch_up: CatchUp | str
    """For times that passed while no worker was there; ``one`` where nothing is given."""
    overlap: Overlap | str
    """While the task before has not ended; ``allow`` where nothing is given."""


class ScheduleOrigin(StrEnum):
    """Where a schedule was written down."""

    CODE = "code"
    """In a registry of ops: the code has it right, and a manager that opens says it again."""
    STORE = "store"
    """It was added to the store, by a call or a command."""


class FiringOutcome(StrEnum):
    """What became of a firing time."""

    FIRED = "fired"
    """A task was made, within a minute."""
    CAUGHT_UP = "caught_up"
    """A task was made, later than that."""
    OVERLAPPED = "overlapped"
    """None was made: the task before had not ended."""
    MISSED = "missed"
    """None was made: the time had passed, and the schedule's policy wants none for it."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as its row stands; times are integer microseconds since the Unix epoch."""

    name: str
    op: str
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """As they are stored: encoded by the op's types and the codec."""
    timeout: float | None = None
    """Seconds of an attempt of its tasks; ``None``: as the op has it."""
    retries: int | None = None
    """Of its tasks; ``None``: as the op has them."""
    cron: str | None = None
    """Five fields; ``None`` where it has ``every``."""
    every: float | None = None
    """Seconds between two firing times, which are multiples of it since the Unix epoch."""
    time_zone: str = "UTC"
    """In which ``cron`` is read: a name of the IANA database."""
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW
    origin: ScheduleOrigin = ScheduleOrigin.STORE
    paused: bool = False
    next_us: int | None = None
    """The firing time that comes next; ``None``: there is none any more."""
    last_us: int | None = None
    """The last firing time for which a task was made."""
    last_task: str | None = None
    """The id of that task."""
    priority: int | None = None
    """Of its tasks; ``None``: as the op has it."""
    tags: tuple[str, ...] = ()
    """Of its tasks."""
    queue: str | None = None
    """Of its tasks; ``None``: as the op has it."""
    expires_in: float | None = None
    """Seconds that its tasks have until an attempt begins; ``None``: as the op has it."""
    created_us: int = 0
    revision: int = 1
    """Counts the changes of the row: who changes it names the one that it saw."""

    @property
    def next_at(self) -> datetime | None:
        """The firing time that comes next, in UTC."""
        return None if self.next_us is None else moment(self.next_us)

    @property
    def last_at(self) -> datetime | None:
        """The last firing time for which a task was made, in UTC."""
        return None if self.last_us is None else moment(self.last_us)

    def key_of(self, firing_us: int) -> str:
        """The idempotency key of the task of a firing time: two of them cannot be."""
        return f"{_FIRED}{self.name}@{format_time(firing_us)}"

    def key_of_trigger(self, now_us: int, caller_key: str | None = None) -> str:
        """The idempotency key of a task that is made by hand, now; where its caller has a key, of
        that: whenever it is asked for again, there is one task."""
        if caller_key is not None:
            return f"{_TRIGGERED}{self.name}#{caller_key}"
        return f"{_TRIGGERED}{self.name}@{format_time(now_us)}"


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """A page of schedules, by name."""

    schedules: tuple[Schedule, ...]
    next: str | None
    """Pass it as ``after`` for the next page; ``None`` at the end."""


@dataclass(frozen=True, slots=True)
class Firing:
    """Which schedule made a task, and for when."""

    schedule: str
    at: datetime | None
    """The firing time, in UTC; of a task that was triggered, when it was. ``None`` where it was
    triggered with a key of its caller's: its task says when it was created."""
    by_hand: bool
    """Whether the task was triggered, apart from the schedule's times."""


def read_firing(idempotency_key: str | None) -> Firing | None:
    """What a task's idempotency key says of the schedule that made it; ``None``: none did."""
    for prefix in (_FIRED, _TRIGGERED):
        if idempotency_key is None or not idempotency_key.startswith(prefix):
            continue
        said = idempotency_key.removeprefix(prefix)
        name, by_key, _ = said.partition("#")
        if by_key and prefix == _TRIGGERED and "@" not in name:
            return Firing(name, None, by_hand=True) if name else None
        name, at, time = said.rpartition("@")
        try:
            us = parse_time(time) if at else FIRST_TIME - 1
        except (ValueError, TypeError):  # TypeError: it names no zone
            return None
        if us >= FIRST_TIME and format_time(us) == time:
            return Firing(name, moment(us), prefix == _TRIGGERED)
    return None
