"""A connection whose calls block, and the thread of the caller that lends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

__all__ = ["LentConnection", "RunsInThread"]

T = TypeVar("T")


class RunsInThread(Protocol):
    """Has work done in the thread of a caller, which waits for it."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Do it there; gives its answer, or raises what it raised."""
        ...


@dataclass(frozen=True, slots=True)
class LentConnection:
    """What ``create_within`` is given by a caller without an event loop.

    The connection is used in ``run`` alone: drivers and frameworks tie theirs to a thread, and a
    loop would stand still meanwhile.
    """

    connection: object
    run: RunsInThread
