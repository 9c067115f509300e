"""Engines on the port: the tasks that something else than the claim brings to a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from tapescope.model.tasks import Task
from tapescope.store.core import StoreCore
from tapescope.store.validation import check_engine, check_page_size, check_seconds

__all__ = ["Overdue", "StoreEngines"]

_COUNTED: Final = 10_000
"""Overdue tasks that are counted: more are as many."""


class Overdue(NamedTuple):
    """The pending tasks of an engine that it should have been asked about."""

    tasks: int
    """At most 10,000."""
    since_us: int | None
    """Since when the first is overdue, in microseconds since the epoch."""


class StoreEngines:
    """What a store knows of the tasks of engines (docs/decisions/0092).

    The pending row is the truth, and the outbox: whoever reconciles asks the engine about each
    task that is pending, now and again, for as long as it is.
    """

    def __init__(self, core: StoreCore) -> None:
        self._core = core
        self._store_id: str | None = None

    @property
    def are_kept(self) -> bool:
        """Whether a task of this store may name an engine."""
        return self._core.backend.keeps_engines

    async def read_store_id(self) -> str:
        """What names this store among all that share an engine; read once. A copy of a database
        has the same."""
        if self._store_id is None:
            self._store_id = await self._core.read(
                "read_store_id", self._core.backend.read_store_id
            )
        return self._store_id

    async def find_unconfirmed(self, engine: str, *, limit: int = 100) -> Sequence[Task]:
        """Pending tasks of ``engine`` that it is to be asked about by now, at most ``limit``.

        New ones, and those for which the time is over that ``note_confirmed`` gave. Raises
        ``BadSetting``.
        """
        engine, limit = check_engine(engine), check_page_size(limit)
        backend = self._core.backend
        return await self._core.read(
            "find_unconfirmed", lambda: backend.find_unconfirmed(engine, limit)
        )

    async def note_confirmed(self, task_ids: Sequence[str], *, again_in: float) -> None:
        """The engine has these tasks: it is asked again in ``again_in`` seconds, at the earliest.

        One that is not pending any more stays as it is. Raises ``BadSetting``.
        """
        wait = round(check_seconds("again_in", again_in) * 1e6)
        if task_ids:
            backend = self._core.backend
            await self._core.change(
                "note_confirmed", lambda: backend.note_confirmed(task_ids, wait)
            )

    async def count_overdue(self, engine: str, *, late: float) -> Overdue:
        """The pending tasks that the engine should have been asked about ``late`` seconds ago.

        Raises ``BadSetting``.
        """
        engine, by = check_engine(engine), round(check_seconds("late", late) * 1e6)
        backend = self._core.backend
        return Overdue(
            *await self._core.read(
                "count_overdue", lambda: backend.count_overdue(engine, by, _COUNTED)
            )
        )
