"""A look at what was committed to the file since the last one, by whatever process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from tapescope.store import encode
from tapescope_adapters._sql import Queries

__all__ = ["NOTHING_SEEN", "Look", "Seen"]


class Seen(NamedTuple):
    """What a look saw, and how far."""

    version: int
    """``PRAGMA data_version``: it changes when another connection has committed."""
    last_n: int = -1
    """The newest event, -1 where it was not asked for."""
    last_id: int = -1
    """The newest task's key, likewise."""
    news: Sequence[tuple[str, int]] = ()
    """(task id, last seq) of tapes that may have grown."""
    arrived: bool = False
    """Whether tasks may have come to wait for a claim."""


NOTHING_SEEN: Final = Seen(-1)


class Look:
    """Called in the reader's thread. ``followed`` is ``None`` where every task is."""

    def __init__(
        self, sql: Queries, last: Seen, followed: Sequence[str] | None, *, arrivals: bool
    ) -> None:
        self._sql, self._last, self._followed, self._arrivals = sql, last, followed, arrivals

    def __call__(self, conn: sqlite3.Connection) -> Seen:
        """What there is to see."""
        last = self._last
        version: int = conn.execute("PRAGMA data_version").fetchone()[0]
        if version == last.version:
            return last._replace(news=(), arrived=False)
        news: list[tuple[str, int]] = []
        if self._followed:
            ends = conn.execute(self._sql["read_ends"], (encode(self._followed, "followed"),))
            news = _sound(ends)
        if not self._arrivals:  # nor does a subscriber follow every task
            return Seen(version, news=news)
        # One statement, for it must be as of one moment: what comes later is for the next look.
        asked = (last.last_n if last.last_n >= 0 else 2**62,)
        last_n, last_id, given_up = conn.execute(self._sql["read_arrivals"], asked).fetchone()
        if last.last_n < 0:
            return Seen(version, last_n, last_id, news, arrived=True)
        if self._followed is None:
            found = conn.execute(self._sql["read_news"], (last.last_n, last_n))
            news = _sound(found)
        # Keys are never given out again, so that one past the highest is a new task's.
        arrived = bool(given_up) or last_id > last.last_id
        return Seen(version, last_n, max(last_id, last.last_id), news, arrived)


def _sound(ends: Iterable[tuple[Any, Any]]) -> list[tuple[str, int]]:
    """(task id, last seq); a number that cannot be read says only that there is something."""
    return [
        (task_id, last_seq if isinstance(last_seq, int) else 0)
        for task_id, last_seq in ends
        if isinstance(task_id, str)
    ]
