"""Every service of a manager starts and stops by the same rules."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from tapescope import Reporter, Retention
from tapescope.maintenance import Maintainer
from tapescope.manager.backlog_reader import BacklogReader
from tapescope.manager.heartbeat import Heartbeat
from tapescope.manager.lease_thread import LeaseThread
from tapescope.manager.ops import Ops
from tapescope.manager.pool import RunPool
from tapescope.manager.worker import Worker
from tapescope.model.leases import HeldLease
from tapescope.run import RunSettings
from tapescope.service import Service
from tapescope.store.backend import LeaseRenewer
from tapescope.testing import MemoryStore
from tapescope.values import Values


class ClosableRenewer(LeaseRenewer):
    """A renewer without a database."""

    def __init__(self) -> None:
        self.closed = 0

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        """Extend nothing."""
        return []

    async def aclose(self) -> None:
        """Count it."""
        self.closed += 1


async def work(report: Reporter) -> None:
    """Do nothing."""


def make_heartbeat(pool: RunPool) -> Service:
    """The heartbeat of a store without a renewer: no thread."""
    return Heartbeat(pool, 0.01)


def make_lease_thread(pool: RunPool) -> Service:
    """The thread that renews the leases."""
    return LeaseThread(pool, ClosableRenewer(), 0.01)


def make_maintainer(pool: RunPool) -> Service:
    """A maintainer with a retention."""
    return Maintainer(
        pool.store,
        pool.owner,
        audit_every=None,
        rows_per_second=1.0,
        retention=Retention(tasks=1.0),
    )


def make_worker(pool: RunPool) -> Service:
    """A worker with an op."""
    ops = Ops()
    ops.op("work")(work)
    return Worker(pool, ops, 0.01)


def make_backlog_reader(pool: RunPool) -> Service:
    """The reader of the backlog."""
    return BacklogReader(pool.store)


Make = Callable[[RunPool], Service]

every_service = pytest.mark.parametrize(
    "make", [make_backlog_reader, make_heartbeat, make_lease_thread, make_maintainer, make_worker]
)


@asynccontextmanager
async def made(make: Make) -> AsyncGenerator[Service]:
    """A service over a memory store; at the end nothing of it runs."""
    async with MemoryStore() as store:
        settings = RunSettings(
            store,
            store.telemetry,
            "me",
            lease=30,
            settle_within=None,
            cancel_grace=1,
            coalesce_progress=0,
            retry_delay=1,
            values=Values(),
        )
        pool = RunPool(settings, max_running=1, max_zombies=1)  # a service may hold it weakly
        service = make(pool)
        yield service

        assert (count_running(service), pool.free) == (0, 1)


def count_running(service: Service) -> int:
    """The asyncio tasks and the threads that have the service's name."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    names += [thread.name for thread in threading.enumerate()]
    return names.count(service.name)


@every_service
async def test_a_service_runs_from_its_start_to_its_stop(make: Make) -> None:
    """It begins with the start and has ended when the stop returns."""
    async with made(make) as service:
        before = count_running(service)
        service.start()
        during = count_running(service)
        await service.stop()

        assert (before, during, count_running(service)) == (0, 1, 0)


@every_service
async def test_a_second_start_does_nothing(make: Make) -> None:
    """Started twice, it runs once."""
    async with made(make) as service:
        service.start()
        await asyncio.sleep(0)
        service.start()

        assert count_running(service) == 1

        await service.stop()


@every_service
async def test_a_stop_before_the_start_does_nothing(make: Make) -> None:
    """It may be started after that."""
    async with made(make) as service:
        await service.stop()
        service.start()

        assert count_running(service) == 1

        await service.stop()


@every_service
async def test_a_second_stop_does_nothing(make: Make) -> None:
    """Stopped again after its end, it stays as it is."""
    async with made(make) as service:
        service.start()
        await service.stop()
        await service.stop()

        assert count_running(service) == 0


@every_service
async def test_each_of_two_stops_returns_after_the_end(make: Make) -> None:
    """A stop while another one is under way waits for the same end."""
    async with made(make) as service:
        service.start()
        await asyncio.sleep(0)
        left: list[int] = []

        async def stop() -> None:
            await service.stop()
            left.append(count_running(service))

        await asyncio.gather(stop(), stop())

        assert left == [0, 0]


@every_service
async def test_a_stop_goes_on_with_one_that_was_cancelled(make: Make) -> None:
    """The stop after a cancelled stop returns when the service has ended."""
    async with made(make) as service:
        service.start()
        stopping = asyncio.ensure_future(service.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.wait([stopping])
        await service.stop()

        assert count_running(service) == 0


@every_service
async def test_a_stopped_service_does_not_start_again(make: Make) -> None:
    """A service has one life: a start after the stop is an error, and nothing runs."""
    async with made(make) as service:
        service.start()
        await service.stop()

        with pytest.raises(RuntimeError, match=f"{service.name} was stopped"):
            service.start()

        assert count_running(service) == 0


async def test_a_stopped_lease_thread_has_closed_its_renewer() -> None:
    """However often it is stopped, it disconnects once."""
    renewer = ClosableRenewer()
    async with made(lambda pool: LeaseThread(pool, renewer, 0.01)) as service:
        service.start()
        await service.stop()
        await service.stop()

    assert renewer.closed == 1
