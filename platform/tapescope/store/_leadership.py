"""Leadership on the port: which manager of many does the store's maintenance."""

from __future__ import annotations

import abc
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from tapescope.errors import BadSetting
from tapescope.model.leadership import LeaderTerm, MaintenanceJob
from tapescope.store.backend import StorePrimitives

__all__ = ["LeadershipVerbs"]

T = TypeVar("T")


class LeadershipVerbs(StorePrimitives):
    """The part of ``TaskStore`` that elects the manager which looks after the store."""

    async def acquire_leadership(self, owner: str, lease: float) -> LeaderTerm | None:
        """Acquire or renew leadership for ``lease`` seconds; ``None`` while another owner leads.

        Raises ``BadSetting``.
        """
        if lease <= 0:
            raise BadSetting("lease", lease, "a number of seconds over 0")
        return await self._read(
            "acquire_leadership", lambda: self._acquire_leadership(owner, round(lease * 1e6))
        )

    async def record_job(self, owner: str, job: MaintenanceJob) -> None:
        """Record that the job was done now, for the next leader to read.

        Records nothing when ``owner`` does not lead any more.
        """
        await self._read("record_job", lambda: self._record_job(owner, job))

    async def resign_leadership(self, owner: str) -> None:
        """Give up leadership, so that another owner can acquire it at once."""
        await self._read("resign_leadership", lambda: self._resign_leadership(owner))

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
    async def _acquire_leadership(self, owner: str, lease: int) -> LeaderTerm | None:
        """``lease`` is in microseconds."""

    @abc.abstractmethod
    async def _record_job(self, owner: str, job: MaintenanceJob) -> None: ...

    @abc.abstractmethod
    async def _resign_leadership(self, owner: str) -> None: ...

    @abc.abstractmethod
    async def _find_open(
        self, after: int, among: Sequence[int], limit: int
    ) -> tuple[int, Sequence[int]]: ...
