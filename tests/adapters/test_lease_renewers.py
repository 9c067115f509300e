"""What extends leases beside a store: its turn among flushes, its connection, its end."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, closing

from tapescope import Reporter, TaskManager, find_store
from tapescope.model.leases import HeldLease
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import Claim
from tapescope.store.backend import LeaseRenewer
from tapescope.store.flush import StoreAway
from tapescope.store.port import TaskStore
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.support.postgres_sessions import session, start_task

LEASE = 60_000_000


@asynccontextmanager
async def keeping(url: str) -> AsyncGenerator[tuple[TaskStore, LeaseRenewer]]:
    """A store and its renewer, here in one loop: it needs no other, it only allows for one."""
    async with find_store(url) as store:
        renewer = store.leases.make_renewer()
        assert renewer is not None
        try:
            yield store, renewer
        finally:
            await renewer.aclose()


async def extend(renewer: LeaseRenewer, *claims: Claim) -> list[tuple[str, int]]:
    """Have the leases extended; the task and the attempt of each that was."""
    ids = [claim.task.task_id for claim in claims]
    held = await renewer.extend_leases("me", LEASE, ids)
    return [(one.task_id, one.attempt) for one in held if one.extended]


async def test_a_store_of_one_process_has_no_keeper() -> None:
    """Memory has one connection or none: its heartbeats stay on the loop."""
    async with find_store("sqlite:///:memory:") as sqlite, MemoryStore() as memory:
        assert sqlite.leases.make_renewer() is None
        assert memory.leases.make_renewer() is None


async def test_a_keeper_extends_what_it_is_asked_for(store_url: str) -> None:
    """A lease grows, and the answer names the attempt and carries the cancel on record."""
    async with keeping(store_url) as (store, renewer):
        claim, other = await start_task(store), await start_task(store, "you")
        before = claim.task.lease_expires_us or 0
        first = await extend(renewer, claim, other)
        await store.request_cancel(claim.task.task_id, message="stop")
        (held,) = await renewer.extend_leases("me", LEASE, [claim.task.task_id])
        after = (await store.get(claim.task.task_id)).lease_expires_us or 0

    assert first == [(claim.task.task_id, 1)]
    assert after > before
    assert held.cancel is not None
    assert held.cancel.message == "stop"


async def test_a_keeper_waits_for_who_writes(sqlite_url: str) -> None:
    """A file that another session has locked is asked again, and again, until it is free."""
    async with keeping(sqlite_url) as (store, renewer):
        claim = await start_task(store)
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as raw:
            raw.execute("BEGIN IMMEDIATE")
            extending = asyncio.ensure_future(extend(renewer, claim))
            await store.get(claim.task.task_id)
            assert not extending.done()
            raw.rollback()
        assert await extending == [(claim.task.task_id, 1)]


async def test_a_keeper_is_not_starved_by_appends(store_url: str) -> None:
    """Among flushes without a pause each heartbeat has its turn, long before a lease is over."""
    async with keeping(store_url) as (store, renewer):
        claims = [await start_task(store) for _ in range(50)]
        stopped = False

        async def write(claim: Claim) -> None:
            while not stopped:
                _ = await store.append(claim.attempt, [NewEvent("log", "x" * 500)] * 10)

        writers = [asyncio.ensure_future(write(claim)) for claim in claims]
        slowest = 0.0
        for _ in range(20):
            began = store.clock.monotonic()
            held = await extend(renewer, *claims)
            slowest = max(slowest, store.clock.monotonic() - began)

            assert len(held) == len(claims)
        stopped = True
        _ = await asyncio.gather(*writers)

    assert slowest < 5


async def test_a_keeper_connects_again(postgres_url: str) -> None:
    """A connection that the server has ended costs one heartbeat."""
    async with keeping(postgres_url) as (store, renewer):
        claim = await start_task(store)
        _ = await extend(renewer, claim)
        async with session(postgres_url) as other:
            _ = await other.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE '%lease_expires_at = now_us()%' AND pid <> pg_backend_pid()"
            )

            async def works_again() -> bool:
                try:
                    return bool(await extend(renewer, claim))
                except StoreAway:
                    return False

            again = await until(works_again)

    assert again


async def test_a_cancelled_heartbeat_leaves_the_keeper_usable(store_url: str) -> None:
    """Given up in the midst of a call, it is there for the next one."""
    async with keeping(store_url) as (store, renewer):
        claim = await start_task(store)
        for turns in range(6):
            beat = asyncio.ensure_future(extend(renewer, claim))
            for _ in range(turns):
                await asyncio.sleep(0)
            beat.cancel()
            _ = await asyncio.gather(beat, return_exceptions=True)
        held = await extend(renewer, claim)

    assert held == [(claim.task.task_id, 1)]


def find_threads() -> list[threading.Thread]:
    """The threads of heartbeats."""
    return [one for one in threading.enumerate() if one.name == "tapescope-leases"]


class CountingKeeper(LeaseRenewer):
    """A renewer of a third party's store: it extends nothing, and counts."""

    def __init__(self) -> None:
        self.beats = 0
        self.closed = False

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        """Count a heartbeat."""
        self.beats += 1
        return [HeldLease(task_id, 1, None) for task_id in task_ids]

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class RenewedBackend(MemoryBackend):
    """A third party's backend, with a lease renewer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.renewer = CountingKeeper()

    def make_lease_renewer(self) -> LeaseRenewer:
        return self.renewer


def test_a_closed_loop_ends_its_heartbeats() -> None:
    """A program that closes its loop and not its manager renews no lease any more."""
    loop = asyncio.new_event_loop()
    renewer: list[CountingKeeper] = []

    async def work(report: Reporter) -> None:
        await asyncio.Event().wait()

    async def begin() -> TaskManager:
        backend = RenewedBackend()
        store = MemoryStore(backend=backend)
        renewer.append(backend.renewer)
        manager = await TaskManager(await store.open(), lease=0.3, heartbeat=0.01).open()
        task = await manager.submit("work", work)
        await until(lambda: backend.renewer.beats)
        for one in asyncio.all_tasks():
            one._log_destroy_pending = False  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # the program's neglect is the point
        assert task.task_id
        return manager

    manager = loop.run_until_complete(begin())
    (thread,) = find_threads()
    loop.close()
    thread.join(10)

    assert manager.owner
    assert not thread.is_alive()
    assert renewer[0].closed


async def test_a_closed_manager_leaves_no_thread(store_url: str) -> None:
    """The heartbeats end before the store is closed."""
    async with TaskManager(store_url):
        during = len(find_threads())
    after = find_threads()

    assert during == 1
    assert after == []
