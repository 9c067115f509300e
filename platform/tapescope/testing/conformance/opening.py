"""What opening may do: who only looks, or acts on what is there, never makes a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from tapescope.errors import StoreClosed, StoreNotFound, StoreReadOnly
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Attempt, ErrorInfo, FinalEvent, NewTask
from tapescope.store.follow import follow_tape
from tapescope.store.opening import OpenMode
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OTHER, OWNER, create, log, start

_SERVANTS: Final = [OpenMode.READ, OpenMode.EXISTING]
_MAKERS: Final = [OpenMode.CREATE, OpenMode.MIGRATE_ALONE, OpenMode.MIGRATE]

_Verb = Callable[[TaskStore, Attempt, str], Awaitable[object]]
_WRITES: Final[dict[str, _Verb]] = {
    "create": lambda store, attempt, task_id: store.create(NewTask(new_task_id(), "work")),
    "create_within": lambda store, attempt, task_id: store.create_within(
        object(), NewTask(new_task_id(), "work")
    ),
    "claim_due": lambda store, attempt, task_id: store.claim_due(OTHER, ["work"], 1, LEASE),
    "append": lambda store, attempt, task_id: store.append(attempt, [log("late")]),
    "finish_if_running": lambda store, attempt, task_id: store.finish_if_running(
        attempt, FinalEvent.succeeded()
    ),
    "retry_later": lambda store, attempt, task_id: store.retry_later(
        attempt, ErrorInfo("x", "no"), 1
    ),
    "release": lambda store, attempt, task_id: store.release(attempt),
    "request_cancel": lambda store, attempt, task_id: store.request_cancel(task_id),
    "extend": lambda store, attempt, task_id: store.leases.extend(OWNER, LEASE),
    "rescue_expired": lambda store, attempt, task_id: store.leases.rescue_expired(
        dead_owners=[OWNER]
    ),
    "register": lambda store, attempt, task_id: store.ops.register([KnownOp("work", None, 3)]),
    "acquire": lambda store, attempt, task_id: store.leadership.acquire(OWNER, LEASE),
    "record_job": lambda store, attempt, task_id: store.leadership.record_job(OWNER, "audited"),
    "resign": lambda store, attempt, task_id: store.leadership.resign(OWNER),
    "repair": lambda store, attempt, task_id: store.maintenance.repair(task_id, by="me"),
    "prune": lambda store, attempt, task_id: store.maintenance.prune(older_than=0.0),
    "prune_quarantine": lambda store, attempt, task_id: store.maintenance.prune_quarantine(
        older_than=0.0
    ),
}
"""Each verb that writes, on a store with an attempt that runs and a task that has ended."""


class OpeningConformance(StoreSuite):
    """What opening may do: who only looks, or acts on what is there, never makes a store."""

    async def test_a_store_that_works_says_so(self, store: TaskStore) -> None:
        """A probe of a sound store raises nothing and writes nothing; its clock is near ours."""
        await create(store)
        before = await store.list()
        await store.probe()
        skew = await store.measure_skew()

        assert await store.list() == before
        assert skew is None or abs(skew) < 60
        assert abs(store.due_clock.now() - store.clock.now()) < 60_000_000

    @pytest.mark.parametrize("mode", _SERVANTS)
    async def test_missing_store_is_not_made(self, stores: Stores, mode: OpenMode) -> None:
        """The error says so, however often it is tried, and the store stays closed."""
        store = stores.make(open_mode=mode)
        for _ in range(2):
            with pytest.raises(StoreNotFound):
                await store.open()
            assert (await store.maintenance.schema_versions()).found == 0

        with pytest.raises(StoreClosed):
            await store.count()

    @pytest.mark.parametrize("mode", _MAKERS)
    async def test_missing_store_is_made(self, stores: Stores, mode: OpenMode) -> None:
        """A store that may be made is made, and has the version that the code knows."""
        store = await stores.open(open_mode=mode)
        await create(store)
        versions = await store.maintenance.schema_versions()

        assert versions.found == versions.known > 0
        assert versions.compatible

    @pytest.mark.parametrize("mode", [*_SERVANTS, *_MAKERS])
    async def test_store_that_is_there_is_opened(self, store: TaskStore, mode: OpenMode) -> None:
        """Every mode opens a store that is up to date, with what it holds."""
        task_id = await create(store)
        await store.aclose()
        store.open_mode = mode
        await store.open()

        assert (await store.get(task_id)).task_id == task_id

    async def test_reader_reads_all(self, store: TaskStore) -> None:
        """What is read of a store is the same from a store that may only be read."""
        ended = await _make_ended(store)
        await store.append(ended, [log("late")])
        await create(store)
        before = await _read_all(store, ended.task_id)
        await store.aclose()
        store.open_mode = OpenMode.READ
        await store.open()

        assert await _read_all(store, ended.task_id) == before

    async def test_reader_writes_nothing(self, store: TaskStore) -> None:
        """Every verb that writes raises ``StoreReadOnly``, and all is as it was."""
        running = await start(store)
        ended = await _make_ended(store)
        await store.append(ended, [log("late")])
        await create(store)
        before = [await _read_all(store, one.task_id) for one in (ended, running)]
        await store.aclose()
        store.open_mode = OpenMode.READ
        await store.open()
        refused: list[str] = []
        for name, verb in _WRITES.items():
            try:
                await verb(store, running, ended.task_id)
            except StoreReadOnly:
                refused.append(name)
        after = [await _read_all(store, one.task_id) for one in (ended, running)]

        assert refused == list(_WRITES)
        assert after == before


async def _make_ended(store: TaskStore) -> Attempt:
    """The attempt of a task that succeeded."""
    attempt = await start(store)
    await store.append(attempt, [log("on it")])
    await store.finish_if_running(attempt, FinalEvent.succeeded())
    return attempt


async def _read_all(store: TaskStore, task_id: str) -> list[Any]:
    """What every reading verb says of the store, and of one of its tasks."""
    look = store.maintenance
    task = await store.get(task_id)
    return [
        task,
        await store.list(),
        await store.count(),
        await store.next_due(["work"]),
        await store.read_tape(task_id),
        await store.read_quarantine(),
        await store.find_traced("f" * 32),
        await store.read_traced([task_id]),
        await store.ops.read(),
        await store.leases.read_owners(),
        await store.leases.find_ended([task_id]),
        await look.audit(),
        await look.read_repairs(),
        await look.find_open(),
        await look.prune(older_than=0.0, dry_run=True),
        await look.prune_quarantine(older_than=0.0, dry_run=True),
        await look.schema_versions(),
        [event async for event in follow_tape(store, task_id)] if task.finished_us else [],
    ]
