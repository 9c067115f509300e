"""No background loop ends of what it meets; each shows signs of life, and readiness hears them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from tapescope import Reporter, TaskManager
from tapescope.maintenance import maintainer
from tapescope.manager import backlog_reader
from tapescope.manager.pool import RunPool
from tapescope.model.leases import HeldLease
from tapescope.model.tasks import Claim
from tapescope.model.telemetry import LoopName
from tapescope.run.runner import Runner
from tapescope.service import Vitals
from tapescope.store.backend import LeaseRenewer
from tapescope.store.flush import FlushRefused
from tapescope.testing import MemoryBackend, MemoryStore, until
from tapescope.testing.tasks import create
from tests.support.captured_telemetry import CapturedTelemetry


class DefectError(Exception):
    """What no caller expects."""


class TroubledBackend(MemoryBackend):
    """A memory backend one of whose primitives raises a defect, until it is mended."""

    def __init__(self, troubled: str) -> None:
        super().__init__()
        self._troubled = troubled
        self.met = 0
        self.mended = threading.Event()

    def __getattribute__(self, name: str) -> Any:
        if name == "_troubled" or name != self._troubled or self.mended.is_set():
            return super().__getattribute__(name)
        self.met += 1
        raise DefectError(name)

    @property
    def outlives_process(self) -> bool:
        return True  # so that there is an audit to do


class TroubledRenewer(LeaseRenewer):
    """Extends the leases of a backend from the lease thread."""

    def __init__(self, backend: LeasingBackend) -> None:
        self._backend = backend

    async def extend_leases(
        self, owner: str, lease: int, task_ids: Sequence[str]
    ) -> Sequence[HeldLease]:
        """Extend them, or raise the defect."""
        backend = self._backend
        if not backend.mended.is_set():
            backend.met += 1
            raise DefectError("extend_leases")
        return [HeldLease(task_id, 1, None) for task_id in task_ids]

    async def aclose(self) -> None:
        """There is nothing to close."""


class LeasingBackend(TroubledBackend):
    """One whose leases are extended by a thread, and not, at first."""

    def __init__(self, troubled: str) -> None:
        super().__init__("nothing")

    def make_lease_renewer(self) -> LeaseRenewer:
        return TroubledRenewer(self)


TROUBLES = {
    "register_ops": LoopName.WORKER,
    "tell_worker": LoopName.WORKER,
    "find_drain": LoopName.WORKER,
    "claim_due": LoopName.WORKER,
    "next_due": LoopName.WORKER,
    "read_owners": LoopName.HEARTBEAT,
    "read_ops": LoopName.HEARTBEAT,
    "rescue": LoopName.HEARTBEAT,
    "probe": LoopName.HEARTBEAT,
    "list_due_schedules": LoopName.SCHEDULER,
    "next_schedule": LoopName.SCHEDULER,
    "acquire_leadership": LoopName.MAINTAINER,
    "find_open": LoopName.MAINTAINER,
    "read_backlog": LoopName.BACKLOG,
    "watch": LoopName.WATCH,
    "extend_leases": LoopName.LEASES,
}


@pytest.mark.parametrize("troubled", TROUBLES)
async def test_loop_survives_what_it_meets(
    troubled: str,
    captured: CapturedTelemetry,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect in what it calls is counted each time, told once, and over when it is over."""
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(maintainer, "_EVERY", 0.01)
    monkeypatch.setattr(backlog_reader, "_FIRST", 0.01)
    monkeypatch.setattr(backlog_reader, "_EVERY", 0.01)
    leasing = troubled == "extend_leases"
    backend = (LeasingBackend if leasing else TroubledBackend)(troubled)
    store = MemoryStore(backend=backend, telemetry=captured.telemetry)
    done = asyncio.Event()

    async def wait(report: Reporter) -> int:
        await done.wait()
        return 42

    async with store, TaskManager(store, heartbeat=0.01, poll=0.01, lease=30) as manager:
        manager.op("work")(wait)
        handle = await manager.submit("work")
        await until(lambda: backend.met >= 3)
        backend.mended.set()
        done.set()
        result = await handle.result(10)
        await until(lambda: all(check.ok for check in manager.check_health()))

    loop = TROUBLES[troubled]
    counted = {p.labels["tapescope.loop.name"]: p.value for p in captured.points(LOOP_ERRORS)}
    told = [record for record in caplog.records if "met a defect" in record.getMessage()]
    assert result == 42
    assert counted.pop(loop.value) >= 3
    assert set(counted.values()) == {0}
    assert set(counted) == set(LoopName) - {loop}
    assert [record.getMessage().split()[2] for record in told] == [loop.value]


LOOP_ERRORS = "tapescope.loop.errors"


class TroubledStep(MemoryBackend):
    """A memory backend to which a step in the midst of each heartbeat cannot come."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error
        self.probed = 0

    async def read_owners(self) -> Sequence[str]:
        raise self._error

    async def probe(self) -> None:
        self.probed += 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(DefectError("read_owners"), id="defect"),
        pytest.param(FlushRefused("it may not"), id="refused"),
    ],
)
async def test_what_one_step_of_a_heartbeat_meets_is_not_the_others(error: Exception) -> None:
    """The steps behind it are made, and the heartbeat is known to have failed."""
    backend = TroubledStep(error)
    async with MemoryStore(backend=backend) as store, TaskManager(store, heartbeat=0.01) as manager:
        await until(lambda: backend.probed >= 2)

        assert not all(check.ok for check in manager.check_health())


async def test_a_claimed_task_that_cannot_be_started_keeps_no_other_from_it(
    captured: CapturedTelemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the tasks that were claimed together the others run, and the defect is counted."""
    adopt, met = RunPool.adopt, list[str]()

    def fail_at_first(pool: RunPool, claim: Claim, runner: Runner) -> None:
        if not met:
            met.append(claim.task.task_id)
            raise DefectError("adopt")
        adopt(pool, claim, runner)

    async def work(_: Reporter) -> None:
        pass

    monkeypatch.setattr(RunPool, "adopt", fail_at_first)
    async with MemoryStore(telemetry=captured.telemetry) as store:
        ids = [await create(store) for _ in range(3)]
        async with TaskManager(store, poll=600, lease=600) as manager:
            manager.op("work")(work)
            for id_ in ids[1:]:
                await manager.handle(id_).result(10)

    (counted,) = captured.points(LOOP_ERRORS, loop_name="worker")
    assert (met, counted.value) == (ids[:1], 1)


def test_silent_loop_is_stuck_and_one_that_ended_dead() -> None:
    """Each is named; what is not wanted, or is not asked for signs of life, is no trouble."""
    counted: list[LoopName] = []
    stuck = Vitals(LoopName.WORKER, counted.append, stuck_after=1e-9)
    unasked = Vitals(LoopName.WATCH, counted.append)
    assert (stuck.find_trouble(), unasked.find_trouble()) == ("", "")
    for vitals in (stuck, unasked):
        vitals.beat()
    assert "worker has not moved" in stuck.find_trouble()
    assert unasked.find_trouble() == ""
    stuck.rest()
    assert stuck.find_trouble() == ""
    stuck.die()

    assert stuck.find_trouble() == "worker has ended"
    assert counted == []


async def test_process_with_a_dead_loop_is_not_ready() -> None:
    """A worker that can never claim, for its store is not open, has ended: readiness says so."""

    async def work(report: Reporter) -> None:
        """Do nothing."""

    async with TaskManager(MemoryStore(), heartbeat=0.01) as manager:
        manager.op("work")(work)
        await until(lambda: not loops_of(manager).ok)
        said = loops_of(manager).detail

    assert said == "worker has ended"


def loops_of(manager: TaskManager) -> Any:
    """The check of the loops."""
    return next(check for check in manager.check_health() if check.name == "loops")
