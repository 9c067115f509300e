"""What a store answers to the writes of a run."""

from __future__ import annotations

from typing import NamedTuple

from tapescope.model.tape import DropReason, Outcome

__all__ = ["Appended", "Finished"]


class Appended(NamedTuple):  # one is made for every append: a dataclass takes thrice as long
    """The answer to an append: its events are one attempt's, so all are stored or all dropped."""

    stored: range
    """The ``seq`` of each event, in order; empty when they were dropped."""
    dropped: DropReason | None
    """Why the events were kept off the tape; they are counted and in the quarantine."""
    last_seq: int
    """The highest ``seq`` on the tape."""


class Finished(NamedTuple):
    """The answer to a finish."""

    won: bool
    """Whether this attempt's ``final`` is the tape's."""
    dropped: DropReason | None
    """Why the ``final`` was kept off the tape; ``None`` when it won."""
    outcome: Outcome | None
    """How the task ended; ``None`` when this ``final`` lost and the task lives on."""
    last_seq: int
    """The highest ``seq`` on the tape: its length, when this ``final`` won."""
