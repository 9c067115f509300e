"""Measures how large a store is, for the metrics of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tapescope.errors import TapescopeError

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["SizeReader"]

_EVERY: Final = 30.0
"""Seconds between two looks at how large the store is."""
_STALE_AFTER: Final = 60.0
"""Seconds after which a size is not told any more: none is better than one that is not so."""


class SizeReader:
    """Looks now and again, when it is asked to; whoever has a loop asks it."""

    def __init__(self, store: TaskStore) -> None:
        self._store = store
        self._due_at = 0.0
        self._read_at = 0.0

    async def read_if_due(self) -> None:
        """Measure the store, if the last look is long enough ago.

        A store that cannot be measured is none of its caller's troubles: whoever reads or writes
        tells of it. After a minute without an answer no size is told.
        """
        now = self._store.clock.monotonic()
        if now < self._due_at:
            return
        self._due_at = now + _EVERY
        try:
            await self._store.measure_size()
        except TapescopeError:
            if self._store.clock.monotonic() - self._read_at > _STALE_AFTER:
                self.leave()
        else:
            self._read_at = now

    def leave(self) -> None:
        """Tell no size any more."""
        self._store.meter.size_left(self._store.name)
