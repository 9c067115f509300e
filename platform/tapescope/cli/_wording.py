"""How tasks and times are put for people: short, relative, local. Programs get ``--json``."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tapescope.cli._output import can_show
from tapescope.clock import Clock
from tapescope.manager.identity import find_dead_owners
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.times import moment

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = [
    "LOST",
    "UNKNOWN",
    "describe_caller",
    "find_lost",
    "format_age",
    "format_duration",
    "format_local",
    "format_relative",
    "format_took",
    "name_error",
    "now_us",
    "put_sign",
    "shorten_id",
    "status_of",
]

LOST: Final = "lost"
"""What a person is told of a running task whose owner was lost, in the place of its status."""
UNKNOWN: Final = "?"
"""How long a task ran whose clock was set back meanwhile."""

_SIGNS: Final = {
    TaskStatus.SUCCEEDED: "✓",
    TaskStatus.FAILED: "✗",
    TaskStatus.CANCELLED: "⊘",
    TaskStatus.RUNNING: "▸",
    TaskStatus.PENDING: "◌",
    LOST: "?",
}
_PLAIN_SIGNS: Final = {
    TaskStatus.SUCCEEDED: "+",
    TaskStatus.FAILED: "x",
    TaskStatus.CANCELLED: "-",
    TaskStatus.RUNNING: ">",
    TaskStatus.PENDING: ".",
    LOST: "?",
}
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_CLOCKS_DIFFER: Final = 2_000_000
"""Microseconds by which the clock of this host may be ahead of the store's."""


def describe_caller(by: str | None, role: str | None) -> str:
    """Who asked for a cancel, and how that is known; empty where nothing is."""
    if role is None:
        return f"by {by}, as claimed" if by else ""
    return f"by database role {role}" + (f", {by} as claimed" if by else "")


def now_us() -> int:
    """The time by the clock of this host, in microseconds since the Unix epoch."""
    return Clock().now()


def shorten_id(task_id: str) -> str:
    """20 of the 36 characters: the head, which is the id's millisecond, and six of the tail.

    The heads of tasks that were made in one minute begin alike; the tails are random. With the
    millisecond a store finds the task by its key (``find_task_id``).
    """
    return f"{task_id[:13]}-{task_id[-6:]}"


def name_error(code: str | None) -> str:
    """An error code, or the class of an exception without its module."""
    return "" if code is None else code.rpartition(".")[2]


def put_sign(status: str) -> str:
    """The status behind its sign, which tells it without colours."""
    signs = _SIGNS if all(map(can_show, _SIGNS.values())) else _PLAIN_SIGNS
    return f"{signs[status]} {status}"


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


def format_took(task: Task) -> str:
    """How long a task ran to its end: ``?`` where the clock was set back meanwhile.

    "" for one that has not ended, or never ran.
    """
    if task.finished_us is None or task.claimed_us is None:
        return ""
    took = (task.finished_us - task.claimed_us) / 1e6
    return UNKNOWN if took < 0 else format_duration(took)


def format_local(us: int) -> str:
    """``2026-01-31 13:00:00.000+01:00``: in the time zone of this process."""
    return moment(us).astimezone().isoformat(" ", "milliseconds")


def find_lost(store: TaskStore, tasks: Iterable[Task], now: int) -> dict[str, str]:
    """Why each of these tasks that run is lost, by its id; only those that are.

    The owner is a process of this host that has ended, or it has let its lease end.
    """
    running = [task for task in tasks if task.status is TaskStatus.RUNNING]
    owners = {task.owner for task in running if task.owner is not None}
    dead = set(find_dead_owners(owners, on_one_host=store.on_one_host))
    lost: dict[str, str] = {}
    for task in running:
        until = task.lease_expires_us
        if task.owner in dead:
            lost[task.task_id] = "the process that ran it has ended"
        elif until is not None and until + _CLOCKS_DIFFER < now:
            lost[task.task_id] = f"its lease ended {format_age(until, now)} ago"
    return lost


def status_of(task: Task, lost: Iterable[str]) -> str:
    """The task's status, or ``lost`` where its id is among these."""
    return LOST if task.task_id in lost else task.status.value
