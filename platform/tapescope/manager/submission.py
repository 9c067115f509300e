"""``Submission``: one task to submit, and the checks of a manager's settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tapescope.errors import BadOp, BadSetting
from tapescope.model.tasks import is_op
from tapescope.model.times import as_microseconds

if TYPE_CHECKING:
    from tapescope.clock import Clock

__all__ = ["Submission", "check_count", "check_seconds"]


@dataclass(frozen=True, slots=True)
class Submission:
    """One task for ``TaskManager.submit_many``; the fields are those of ``submit``."""

    op: str
    runner: Callable[..., Any] | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    timeout: float | None = None
    idempotency_key: str | None = None
    retries: int | None = None
    delay: float | None = None
    run_at: datetime | None = None

    def check(self) -> None:
        """Raise ``BadOp`` or ``BadSetting`` for an error that can be seen without the store."""
        if not is_op(self.op):
            raise BadOp(self.op)
        if self.delay is not None:
            check_seconds("delay", self.delay)
            if self.run_at is not None:
                raise BadSetting("delay", self.delay, "None beside run_at")
        if self.run_at is not None and self.run_at.tzinfo is None:
            raise BadSetting("run_at", self.run_at, "an aware time, with its zone")

    def find_due(self, clock: Clock) -> int | None:
        """When it may begin first, in microseconds since the epoch; ``None`` for at once."""
        if self.delay is not None:
            return clock.now() + round(self.delay * 1_000_000)
        if self.run_at is not None:
            return as_microseconds(self.run_at)
        return None


def check_count(name: str, value: int) -> None:
    """Raise ``BadSetting`` for a value that is not a whole number over 0."""
    if not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise BadSetting(name, value, "a whole number over 0")


def check_seconds(name: str, value: float, *, over_zero: bool = False) -> None:
    """Raise ``BadSetting`` for a value that is not a finite number of seconds, 0 or more."""
    if not math.isfinite(value) or value < 0 or (over_zero and value == 0):
        raise BadSetting(name, value, f"a number of seconds{' over 0' if over_zero else ''}")
