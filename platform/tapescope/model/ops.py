"""Ops that can be submitted by name: what a worker tells the store of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_RETRIES", "KnownOp"]

DEFAULT_RETRIES: Final = 3
"""How often a task that was submitted by name is made again, unless somebody says otherwise: with
none left, a killed worker would be the end of the task (docs/decisions/0010)."""


@dataclass(frozen=True, slots=True)
class KnownOp:
    """An op that a worker of a store has registered, with what a submit of it takes on."""

    op: str
    timeout: float | None = None
    """Seconds an attempt may run; ``None`` for no limit."""
    retries: int = DEFAULT_RETRIES
