"""What ended of late, by op: the differences of what the store has counted ever since."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from tapescope.errors import TapescopeError

if TYPE_CHECKING:
    from tapescope.model.backlog import Backlog
    from tapescope.store.port import TaskStore

__all__ = ["Rates", "Trend"]

_COLUMNS: Final = 60
"""Minutes that are counted."""
_MINUTE: Final = 60_000_000
"""In microseconds."""
_RATES_OVER: Final = 5 * _MINUTE
_EVERY: Final = 15.0
"""Seconds between two readings that nobody asked for."""
_NONE: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Rates:
    """How many tasks ended a second."""

    over: float
    """Seconds between the two readings."""
    by_op: Mapping[str, tuple[float, ...]]
    """Succeeded, failed, cancelled."""

    def shape(self, op: str) -> dict[str, float]:
        """Those of one op, by status."""
        ended = self.by_op.get(op, _NONE)
        return dict(zip(("succeeded", "failed", "cancelled"), ended, strict=True))


class Trend:
    """How many tasks ended in each minute of the last hour, as far as this server has seen.

    A store keeps how many ever ended. The difference of two readings is exact, whoever ran the
    tasks; what ended before the first reading is not known, and is not drawn. A reading is made
    where one is shown, and while ``keep`` runs: what ended between two that are minutes apart is
    drawn evenly.
    """

    def __init__(self) -> None:
        self._readings: deque[tuple[int, dict[str, tuple[int, int, int]]]] = deque(
            maxlen=_COLUMNS * 12
        )

    def note(self, backlog: Backlog) -> None:
        """Remember a reading of the store."""
        made = backlog.made_us
        if not self._readings or made > self._readings[-1][0]:
            ended = {one.op: (one.succeeded, one.failed, one.cancelled) for one in backlog.ops}
            self._readings.append((made, ended))

    @property
    def since_us(self) -> int | None:
        """When the first reading was made that is drawn."""
        return self._readings[0][0] if self._readings else None

    async def keep(self, store: TaskStore) -> None:
        """Make a reading from time to time, until it is cancelled."""
        while True:
            with suppress(TapescopeError):  # the next reading has what ended meanwhile
                self.note(await store.backlog.read())
            await asyncio.sleep(_EVERY)

    def find_rates(self) -> Rates | None:
        """How many ended a second, over some minutes; ``None`` before there are two readings."""
        if len(self._readings) < 2:
            return None
        made, after = self._readings[-1]
        asked, before = next(
            reading for reading in self._readings if reading[0] >= made - _RATES_OVER
        )
        if asked == made:  # nothing was read for long
            asked, before = self._readings[-2]
        seconds = (made - asked) / 1e6
        return Rates(
            seconds,
            {
                op: tuple(
                    max(0, new - old) / seconds
                    for new, old in zip(ended, before.get(op, _NONE), strict=True)
                )
                for op, ended in after.items()
            },
        )

    def count(self, now: int, ops: Sequence[str]) -> list[tuple[int, int, int]]:
        """What ended of these ops, by minute, the oldest first: succeeded, failed, cancelled."""
        counts = [_NONE] * _COLUMNS
        readings = list(self._readings)
        for (asked, before), (made, after) in pairwise(readings):
            ended = [0, 0, 0]
            for op in ops:
                old, new = before.get(op, _NONE), after.get(op, _NONE)
                for which in range(3):
                    ended[which] += max(0, new[which] - old[which])
            first, last = (max(0, now - at) // _MINUTE for at in (asked, made))
            for ago in range(last, first + 1):
                share = [_share(n, ago - last, first + 1 - last) for n in ended]
                if ago < _COLUMNS:
                    had = counts[_COLUMNS - 1 - ago]
                    counts[_COLUMNS - 1 - ago] = (
                        had[0] + share[0],
                        had[1] + share[1],
                        had[2] + share[2],
                    )
        return counts


def _share(n: int, part: int, parts: int) -> int:
    """What one of equal parts has of ``n`` things; all parts together have ``n``."""
    return n * (part + 1) // parts - n * part // parts
