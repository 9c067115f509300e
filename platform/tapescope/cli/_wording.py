"""How tasks and times are put on a terminal: relative, local. Programs get ``--json``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tapescope.cli._output import can_show
from tapescope.clock import Clock
from tapescope.manager.lost_tasks import LOST, status_of
from tapescope.model.tasks import Task, TaskStatus
from tapescope.model.wording import format_duration

__all__ = [
    "PARKED",
    "UNKNOWN",
    "format_took",
    "name_status",
    "now_us",
    "put_sign",
    "waits_for_workers",
]

UNKNOWN: Final = "?"
"""How long a task ran whose clock was set back meanwhile."""
PARKED: Final = "parked"
"""What a person is told of a pending task whose key has no slot free, or its rate no place, in the
place of its status."""

_SIGNS: Final = {
    TaskStatus.SUCCEEDED: "✓",
    TaskStatus.FAILED: "✗",
    TaskStatus.CANCELLED: "⊘",
    TaskStatus.RUNNING: "▸",
    TaskStatus.PENDING: "◌",
    PARKED: "◌",
    LOST: "?",
}
_PLAIN_SIGNS: Final = {
    TaskStatus.SUCCEEDED: "+",
    TaskStatus.FAILED: "x",
    TaskStatus.CANCELLED: "-",
    TaskStatus.RUNNING: ">",
    TaskStatus.PENDING: ".",
    PARKED: ".",
    LOST: "?",
}


def now_us() -> int:
    """The time by the clock of this host, in microseconds since the Unix epoch."""
    return Clock().now()


def name_status(task: Task, lost: Iterable[str]) -> str:
    """The task's status, ``parked`` without a slot, or ``lost`` where its id is among these."""
    return PARKED if task.parked else status_of(task, lost)


def put_sign(status: str) -> str:
    """The status behind its sign, which tells it without colours."""
    signs = _SIGNS if all(map(can_show, _SIGNS.values())) else _PLAIN_SIGNS
    return f"{signs[status]} {status}"


def waits_for_workers(task: Task) -> bool:
    """Whether the task waits for a worker of its op, and not for the process that submitted it."""
    return task.status is TaskStatus.PENDING and task.lease_expires_us is None


def format_took(task: Task) -> str:
    """How long a task ran to its end: ``?`` where the clock was set back meanwhile.

    "" for one that has not ended, or never ran.
    """
    if task.finished_us is None or task.claimed_us is None:
        return ""
    took = (task.finished_us - task.claimed_us) / 1e6
    return UNKNOWN if took < 0 else format_duration(took)
