"""The port's verb inside somebody else's transaction: a task that is committed with it or not."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from tapescope.clock import Clock
from tapescope.errors import ConnectionRefused, StoreRefused, TapescopeError
from tapescope.model.tasks import NewTask, Task
from tapescope.store._results import as_pending, match_existing
from tapescope.store.backend import StorePrimitives
from tapescope.store.flush import FlushRefused, StoreAway, as_unavailable
from tapescope.store.validation import StoreLimits, check_new_task
from tapescope_telemetry import error_type_of

if TYPE_CHECKING:
    from tapescope_telemetry import StoreMeter, Telemetry

__all__ = ["TransactionVerbs"]


class TransactionVerbs(StorePrimitives):
    """The part of ``TaskStore`` that writes on a connection which is not its own."""

    name: str
    telemetry: Telemetry
    clock: Clock
    limits: StoreLimits
    meter: StoreMeter

    @abc.abstractmethod
    def _require_open(self) -> object: ...

    async def create_within(self, connection: object, new_task: NewTask) -> tuple[Task, bool]:
        """``create`` in the caller's own transaction: committed with it, or never there.

        ``connection`` is an ``asyncpg`` one for a PostgreSQL store and an ``aiosqlite`` one for a
        SQLite store, to the same database, with a transaction begun. Nothing else of the
        transaction is touched, and nobody sees the task before its commit, this store neither; who
        waits for tasks is told at the commit. While the transaction holds a key, another ``create``
        with that key waits for it to end. On SQLite there is one cursor: from here to the commit
        all other writes of the store wait, so commit soon and ask nothing of the store before.

        The metric ``tapescope.task.submitted`` counts the call, for nobody tells the store of the
        commit: a task that is rolled back was counted. An offer of an event it is not, so invariant
        I7 is untouched.

        Raises what ``create`` raises; ``ConnectionRefused`` for a connection that cannot take the
        task; ``StoreUnavailable`` when the connection is lost or waits too long for a lock, and
        ``StoreRefused`` when the database refuses the task: roll back then, and begin anew.
        """
        self._require_open()
        if not self.joins_transactions:
            raise ConnectionRefused(
                f"the store {self.name} has no connection but its own", "Submit without one."
            )
        row, params = check_new_task(new_task, self.limits)
        start = self.clock.monotonic()
        try:
            try:
                met = await self._create_within(connection, row)
            except StoreAway as error:
                raise as_unavailable(self.name, error) from error
            except FlushRefused as error:
                raise StoreRefused(str(error)) from error
            if isinstance(met, Task):
                answer = match_existing(met, row), False
            else:
                self.telemetry.tasks.submitted(row.op)
                answer = as_pending(row, params, met.created_at, met.key), True
        except TapescopeError as error:
            waited = self.clock.monotonic() - start
            self.meter.operation("create_within", waited, error_type_of(error))
            raise
        self.meter.operation("create_within", self.clock.monotonic() - start)
        return answer
