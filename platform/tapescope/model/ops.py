"""Ops that can be submitted by name: what a worker writes to the store about each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_RETRIES", "KnownOp"]

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
