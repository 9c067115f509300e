"""What a store is told for a claim of due tasks, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tapescope._json import encode
from tapescope.tasks import Task, TaskStatus

__all__ = ["DueOrder", "DueRow", "body_of_started"]


class DueOrder(NamedTuple):
    """A call of ``claim_due``, as a store adapter is given it.

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
    """The ``seq`` of its ``task_started``."""

    def held_by(self, owner: str) -> bool:
        """Whether the attempt that was claimed is still the task's, and ``owner``'s."""
        task = self.task
        now = (task.status, task.owner, task.attempt)
        return now == (TaskStatus.RUNNING, owner, self.attempt)


def body_of_started(owner: str) -> tuple[str, str]:
    """The two parts of ``DueOrder.started``."""
    before, _, behind = encode({"attempt": 0, "owner": owner}, "owner").partition("0")
    return before, behind
