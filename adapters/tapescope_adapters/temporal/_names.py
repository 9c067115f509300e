"""What the tasks of a store are called in Temporal, and how their settings read there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.common import Priority

from tapescope.model import Task

__all__ = ["make_delay", "make_priority", "make_queue", "make_timeout", "make_wait", "starts_queue"]

_FOREVER: Final = timedelta(days=3_650)
"""Temporal wants a limit of a task that has none, and counts in nanoseconds: 292 years at most."""
_MARGIN: Final = timedelta(minutes=2)
"""Beyond a task's timeout, which is kept in process, with a code of its own: this is for a process
that does not keep it any more."""


def make_queue(store_id: str, op: str) -> str:
    """The task queue of an op: of one store, and of the workers that have registered the op."""
    return f"{starts_queue(store_id)}{op}"


def starts_queue(store_id: str) -> str:
    """What all queues of a store begin with."""
    return f"tapescope-{store_id}."


def make_timeout(task: Task) -> timedelta:
    """When Temporal gives one attempt up."""
    if task.timeout is None:
        return _FOREVER
    return min(_FOREVER, timedelta(seconds=task.timeout) + _MARGIN)


def make_wait(task: Task) -> timedelta:
    """How long Temporal is to wait with a task; a later time than it can wait for is held then."""
    now_us = round(datetime.now(UTC).timestamp() * 1e6)
    return min(_FOREVER, timedelta(microseconds=task.run_us - now_us))


def make_delay(seconds: float) -> timedelta:
    """After how many seconds a task is brought again, as Temporal can wait."""
    return timedelta(seconds=min(seconds, _FOREVER.total_seconds()))


def make_priority(task: Task) -> Priority:
    """From -9 to 9, the higher first, to Temporal's 1 to 5, the lower first: in five steps."""
    steps = ((5, 1), (1, 2), (0, 3), (-4, 4))
    return Priority(priority_key=next((key for least, key in steps if task.priority >= least), 5))
