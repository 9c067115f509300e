"""How tasks and times are put for people, alike on a terminal and on a page."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tapescope.model.showing import make_printable
from tapescope.model.times import moment

if TYPE_CHECKING:
    from tapescope.model.schedules import Schedule

__all__ = [
    "describe_caller",
    "describe_slot",
    "describe_stop",
    "describe_times",
    "format_age",
    "format_duration",
    "format_local",
    "format_relative",
    "name_error",
    "shorten_id",
]

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def describe_caller(by: str | None, role: str | None) -> str:
    """Who asked for a cancel, and how that is known; empty where nothing is."""
    if role is None:
        return f"by {by}, as claimed" if by else ""
    return f"by database role {role}" + (f", {by} as claimed" if by else "")


def describe_slot(concurrency_key: str | None) -> str:
    """What a parked task waits for, to stand behind "it waits for"."""
    if not concurrency_key:
        return "a slot, or the rate, of its op"
    return make_printable(f"a slot, or the rate, of concurrency key {concurrency_key!r}")


def describe_stop(by: str | None, reason: str) -> str:
    """Who paused an op or has a worker drain, and why, to stand behind a sentence; empty where
    nothing is known. It ends no line, whatever they said."""
    who = f", by {by}" if by else ""
    return make_printable(f"{who}: {reason}" if reason else who)


def describe_times(schedule: Schedule) -> str:
    """When a schedule fires, in a few words."""
    if schedule.every is not None:
        return f"every {schedule.every:g} s"
    if schedule.cron is None:
        return "damaged"  # its row was written past tapescope
    if schedule.time_zone == "UTC":
        return schedule.cron
    return f"{schedule.cron} {schedule.time_zone}"


def shorten_id(task_id: str) -> str:
    """20 of the 36 characters: the head, which is the id's millisecond, and six of the tail.

    The heads of tasks that were made in one minute begin alike; the tails are random. With the
    millisecond a store finds the task by its key (``find_task_id``).
    """
    return f"{task_id[:13]}-{task_id[-6:]}"


def name_error(code: str | None) -> str:
    """An error code, or the class of an exception without its module."""
    return "" if code is None else code.rpartition(".")[2]


def format_age(then: int, now: int) -> str:
    """How long ago, in the largest unit that fits: ``5s``, ``12m``, ``3h``, ``40d``."""
    seconds = max(0, now - then) // 1_000_000
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return "now"


def format_relative(at: int, now: int) -> str:
    """``3h ago``, ``in 12m`` or ``now``."""
    if abs(at - now) < 1_000_000:
        return "now"
    return f"in {format_age(now, at)}" if at > now else f"{format_age(at, now)} ago"


def format_duration(seconds: float) -> str:
    """A length of time in at most six characters, as long as it is under 100 days."""
    if seconds < 9.995:
        return f"{seconds:.2f}s"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    for (length, unit), (shorter, subunit) in pairwise(_UNITS):
        if whole >= length:
            return f"{whole // length}{unit}{whole % length // shorter:02}{subunit}"
    return f"{whole}s"


def format_local(us: int) -> str:
    """``2026-01-31 13:00:00.000+01:00``: in the time zone of this process."""
    return moment(us).astimezone().isoformat(" ", "milliseconds")
