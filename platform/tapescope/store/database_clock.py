"""The clock that due times go by: the database's, where it has one of its own."""

from __future__ import annotations

from typing import Final

from tapescope.clock import Clock

__all__ = ["DatabaseClock"]

_COARSE: Final = 0.1
"""Seconds between question and answer from which an answer is not taken while an older one is
good."""
_GOOD_FOR: Final = 60.0
"""Seconds for which an answer is good: two clocks drift apart by less than a millisecond in it."""


class DatabaseClock(Clock):
    """The database's time, reckoned from its last answer by the steady clock of this process.

    So a due time is right whatever the wall clock of this process says, and however that is set
    meanwhile (docs/decisions/0034). Until a database has told its time, it is the process's.
    """

    def __init__(self, own: Clock) -> None:
        self._own = own
        self._theirs: int | None = None
        self._at = 0.0
        self._own_then = 0

    @property
    def told(self) -> bool:
        """Whether the database has a clock of its own, and has told its time."""
        return self._theirs is not None

    @property
    def doubtful(self) -> bool:
        """Whether to ask again before a due time is reckoned: the answer is old, or the process was
        suspended, or its wall clock was set."""
        if self._theirs is None:
            return False
        passed = self.monotonic() - self._at
        by_wall = (self._own.now() - self._own_then) / 1e6
        return passed > _GOOD_FOR or abs(by_wall - passed) > _COARSE

    def now(self) -> int:
        """Microseconds since the Unix epoch, UTC."""
        if self._theirs is None:
            return self._own.now()
        return self._theirs + round((self.monotonic() - self._at) * 1_000_000)

    def monotonic(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._own.monotonic()

    def note(self, theirs: int, asked: float) -> None:
        """The database told this time; it was asked at ``asked``, in monotonic seconds."""
        answered = self.monotonic()
        if answered - asked > _COARSE and self._theirs is not None and not self.doubtful:
            return
        self._theirs, self._at, self._own_then = theirs, (asked + answered) / 2, self._own.now()
