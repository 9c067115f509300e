"""A look at what was committed to the file since the last one, by whatever process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
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
    inboxes: Mapping[str, int] = {}
    """The newest message of each task that is followed one by one, where it has any."""


NOTHING_SEEN: Final = Seen(-1)


class Look:
    """Called in the reader's thread. ``followed`` are the tasks that are followed one by one."""

    def __init__(
        self,
        sql: Queries,
        last: Seen,
        followed: Sequence[str],
        *,
        follows_all: bool,
        arrivals: bool,
    ) -> None:
        self._sql, self._last, self._followed = sql, last, followed
        self._follows_all, self._arrivals = follows_all, arrivals

    def __call__(self, conn: sqlite3.Connection) -> Seen:
        """What there is to see."""
        last = self._last
        version: int = conn.execute("PRAGMA data_version").fetchone()[0]
        if version == last.version:
            return last._replace(news=(), arrived=False)
        news: list[tuple[str, int]] = []
        inboxes: dict[str, int] = {}
        if self._followed:
            asked = (encode(self._followed, "followed"),)
            met = conn.execute(self._sql["read_ends"], asked).fetchall()
            if not self._follows_all:
                news = _sound((task_id, last_seq) for task_id, last_seq, _ in met)
            inboxes = {task_id: n for task_id, _, n in met if n is not None}
            # Where there is a new message: a look at the inbox, wherever the tape ends.
            news += [(one, 0) for one, n in inboxes.items() if n != last.inboxes.get(one)]
        if not self._arrivals:  # nor does a subscriber follow every task
            return Seen(version, news=news, inboxes=inboxes)
        # One statement, for it must be as of one moment: what comes later is for the next look.
        since = (last.last_n if last.last_n >= 0 else 2**62,)
        last_n, last_id, given_up = conn.execute(self._sql["read_arrivals"], since).fetchone()
        if last.last_n < 0:
            return Seen(version, last_n, last_id, news, arrived=True, inboxes=inboxes)
        if self._follows_all:
            found = conn.execute(self._sql["read_news"], (last.last_n, last_n))
            news += _sound(found)
        # Keys are never given out again, so that one past the highest is a new task's.
        arrived = bool(given_up) or last_id > last.last_id
        return Seen(version, last_n, max(last_id, last.last_id), news, arrived, inboxes)


def _sound(ends: Iterable[tuple[Any, Any]]) -> list[tuple[str, int]]:
    """(task id, last seq); a number that cannot be read says only that there is something."""
    return [
        (task_id, last_seq if isinstance(last_seq, int) else 0)
        for task_id, last_seq in ends
        if isinstance(task_id, str)
    ]
