"""The port's verbs of the upkeep's turn: one manager of many does it, until it leaves."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from tapescope.errors import BadSetting
from tapescope.primitives import StorePrimitives

__all__ = ["Chore", "Turn", "TurnVerbs"]

T = TypeVar("T")

Chore = Literal["audited", "pruned"]
"""What is noted as done."""


@dataclass(frozen=True, slots=True)
class Turn:
    """It is the caller's turn; times in microseconds since the epoch, by the database's clock."""

    now: int
    audited_at: int
    """When somebody last audited the whole store; 0 for never."""
    pruned_at: int

    def is_due(self, chore: Chore, every: float) -> bool:
        """Whether it was never done, or ``every`` seconds ago."""
        last = self.audited_at if chore == "audited" else self.pruned_at
        return not last or self.now - last >= every * 1e6


class TurnVerbs(StorePrimitives):
    """The part of ``TaskStore`` by which managers share out a store's upkeep."""

    async def take_turn(self, owner: str, lease: float) -> Turn | None:
        """Have the upkeep for ``lease`` seconds, or go on having it; ``None``: somebody else has.

        Raises ``BadSetting``.
        """
        if lease <= 0:
            raise BadSetting("lease", lease, "a number of seconds over 0")
        return await self._read("take_turn", lambda: self._take_turn(owner, round(lease * 1e6)))

    async def note_chore(self, owner: str, chore: Chore) -> None:
        """Have it on record that this was done now, for whoever has the next turn.

        Nothing is noted when the turn is no longer the owner's.
        """
        await self._read("note_chore", lambda: self._note_chore(owner, chore))

    async def leave_turn(self, owner: str) -> None:
        """Let somebody else have the turn at once."""
        await self._read("leave_turn", lambda: self._leave_turn(owner))

    async def find_open(
        self, *, after: int = 0, among: Collection[int] = (), limit: int = 10_000
    ) -> tuple[int, frozenset[int]]:
        """The highest key of any task, and the keys of those that have not ended.

        Of the latter those ``among`` the ones given, and at most ``limit`` of those beyond
        ``after``, from the oldest on.
        """
        top, keys = await self._read(
            "find_open", lambda: self._find_open(after, sorted(among), limit)
        )
        return top, frozenset(keys)

    # --- what the port lends ----------------------------------------------------------------------

    @abc.abstractmethod
    async def _read(self, name: str, primitive: Callable[[], Awaitable[T]]) -> T: ...

    # --- what an adapter gives --------------------------------------------------------------------

    @abc.abstractmethod
    async def _take_turn(self, owner: str, lease: int) -> Turn | None:
        """``lease`` is in microseconds."""

    @abc.abstractmethod
    async def _note_chore(self, owner: str, chore: Chore) -> None: ...

    @abc.abstractmethod
    async def _leave_turn(self, owner: str) -> None: ...

    @abc.abstractmethod
    async def _find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]: ...
