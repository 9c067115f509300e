"""Processes that are killed, frozen and ended: each tape ends in one final, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from temporalio.client import Client

from tapescope import TaskManager
from tapescope.model import TaskStatus
from tapescope.testing import until
from tests.temporal.looks import list_types, read_status, until_running, until_status
from tests.temporal.server import TemporalProcess
from tests.temporal.workers import WorkerProcess

pytestmark = [pytest.mark.temporal, pytest.mark.timeout(180)]

HEARTBEAT = 2.0


def _engine(url: str) -> object:
    from tapescope_adapters.temporal import TemporalEngine

    return TemporalEngine(url, heartbeat=HEARTBEAT)


@pytest_asyncio.fixture
async def submitter(postgres_url: str, own_server: TemporalProcess) -> AsyncGenerator[TaskManager]:
    """A process that submits, and works on nothing."""
    async with TaskManager(
        postgres_url,
        engine=_engine(own_server.url),  # type: ignore[arg-type]  # found by name, for the extra
        work=False,
        audit_every=None,
    ) as manager:
        yield manager


async def _judge(manager: TaskManager, task_ids: list[str]) -> None:
    """Each ended once, and the tapes keep the rules."""
    for task_id in task_ids:
        assert (await list_types(manager, task_id)).count("final") == 1
    report = await manager.audit(grace=0.0)
    assert report.violations == ()


async def test_a_killed_workers_tasks_are_made_again(
    postgres_url: str, own_server: TemporalProcess, submitter: TaskManager, tmp_path: Path
) -> None:
    """By the other worker; none fails, whatever ops are known, and each spends one retry."""
    url, log = own_server.url, tmp_path / "log"
    with WorkerProcess(postgres_url, url, log) as first:
        handles = [
            await submitter.submit("steps", params={"n": 30, "pause": 0.1}, retries=3)
            for _ in range(5)
        ]
        for handle in handles:
            await until_running(submitter, handle.task_id)
        first.kill()
        with WorkerProcess(postgres_url, url, log):
            results = [await handle.result(timeout=120) for handle in handles]
            tasks = [await handle.status() for handle in handles]

    assert results == [30] * 5
    assert {(task.attempt, task.retries_spent) for task in tasks} == {(2, 1)}
    await _judge(submitter, [handle.task_id for handle in handles])


async def test_a_frozen_workers_late_writes_are_dropped(
    postgres_url: str, own_server: TemporalProcess, submitter: TaskManager, tmp_path: Path
) -> None:
    """It goes on where it stood, long after its lease: the other has the task by then."""
    url, log = own_server.url, tmp_path / "log"
    with WorkerProcess(postgres_url, url, log) as first:
        handle = await submitter.submit("steps", params={"n": 60, "pause": 0.1}, retries=3)
        await until_running(submitter, handle.task_id)
        first.freeze()
        with WorkerProcess(postgres_url, url, log):

            async def taken() -> bool:
                return (await handle.status()).attempt == 2

            await until(taken, within=60)
            first.thaw()
            assert await handle.result(timeout=90) == 60

            async def dropped() -> bool:
                return bool((await handle.drops()).drops)

            await until(dropped, within=30)

    assert await list_types(submitter, handle.task_id) == [
        *("task_started", "attempt_failed"),
        *("task_started", "final"),
    ]
    await _judge(submitter, [handle.task_id])


async def test_a_worker_that_is_told_to_end_gives_its_task_back(
    postgres_url: str, own_server: TemporalProcess, submitter: TaskManager, tmp_path: Path
) -> None:
    """No retry is spent, and its status is 0."""
    url, log = own_server.url, tmp_path / "log"
    with WorkerProcess(postgres_url, url, log) as first:
        handle = await submitter.submit("steps", params={"n": 40, "pause": 0.1}, retries=3)
        await until_running(submitter, handle.task_id)
        assert await asyncio.to_thread(first.terminate) == 0
        with WorkerProcess(postgres_url, url, log):
            assert await handle.result(timeout=90) == 40
    task = await handle.status()

    assert (task.attempt, task.retries_spent) == (2, 0)
    await _judge(submitter, [handle.task_id])


@pytest.mark.parametrize("keeps", [True, False], ids=["with its data", "without its data"])
async def test_a_killed_server_takes_no_task_with_it(
    postgres_url: str,
    own_server: TemporalProcess,
    submitter: TaskManager,
    tmp_path: Path,
    keeps: bool,
) -> None:
    """What runs goes on, what waits is brought later, and a submit works meanwhile."""
    running = [
        await submitter.submit("steps", params={"n": 50, "pause": 0.1}, retries=3) for _ in range(3)
    ]
    with WorkerProcess(postgres_url, own_server.url, tmp_path / "log"):
        for handle in running:
            await until_running(submitter, handle.task_id)
        waits = await submitter.submit("other", delay=6.0)
        own_server.kill()
        meanwhile = await submitter.submit("other")
        if not keeps:
            own_server.lose_data()
        own_server.start()
        results = [await handle.result(timeout=90) for handle in [*running, waits, meanwhile]]
        tasks = [await handle.status() for handle in running]

    assert results == [50] * 3 + ["other"] * 2
    assert {(task.attempt, task.retries_spent) for task in tasks} == {(1, 0)}
    await _judge(submitter, [handle.task_id for handle in [*running, waits, meanwhile]])


async def test_a_blocked_loop_loses_no_task(
    postgres_url: str, own_server: TemporalProcess, submitter: TaskManager, tmp_path: Path
) -> None:
    """Longer than Temporal waits for a sign of life, and than the lease."""
    with WorkerProcess(postgres_url, own_server.url, tmp_path / "log"):
        handle = await submitter.submit("block", params={"seconds": 5.0}, retries=3)
        assert await handle.result(timeout=60) == "done"

    assert (await handle.status()).attempt == 1
    await _judge(submitter, [handle.task_id])


@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_worker_that_dies_while_its_task_is_cancelled_leaves_it_cancelled(
    postgres_url: str,
    own_server: TemporalProcess,
    submitter: TaskManager,
    tmp_path: Path,
    where: str,
) -> None:
    """Temporal asks nobody again after a cancel: the lease's rescue ends it, and what was asked
    there, with no reason, the reconciler learns."""
    url, log = own_server.url, tmp_path / "log"
    client = await Client.connect(own_server.target)
    with WorkerProcess(postgres_url, url, log) as first:
        handle = await submitter.submit("steps", params={"n": 600, "pause": 0.1}, retries=3)
        await until_running(submitter, handle.task_id)
        first.freeze()
        if where == "here":
            await handle.cancel("enough")
        else:
            await client.get_activity_handle(handle.task_id).cancel()
        first.kill()
        with WorkerProcess(postgres_url, url, log):

            async def ended() -> bool:
                return (await handle.status()).status is TaskStatus.CANCELLED

            await until(ended, within=60)

    assert (await handle.status()).attempt == 1
    await _judge(submitter, [handle.task_id])


async def test_a_manager_opens_while_its_server_is_away(
    postgres_url: str, own_server: TemporalProcess, tmp_path: Path
) -> None:
    """A submit works; what it made is brought once the server is there."""
    own_server.kill()
    async with TaskManager(
        postgres_url,
        engine=_engine(own_server.url),  # type: ignore[arg-type]  # as above
        work=False,
        audit_every=None,
    ) as manager:
        handle = await manager.submit("other")
        with WorkerProcess(postgres_url, own_server.url, tmp_path / "log"):
            own_server.start()
            assert await handle.result(timeout=90) == "other"
        await own_server.wait_up()
        client = await Client.connect(own_server.target)
        await until_status(client, handle.task_id, "COMPLETED")


async def test_each_worker_takes_what_is_its_own(
    postgres_url: str, own_server: TemporalProcess, submitter: TaskManager, tmp_path: Path
) -> None:
    """A worker without the engine claims none of its tasks; Temporal knows none of the others."""
    client = await Client.connect(own_server.target)
    async with TaskManager(postgres_url, work=False, audit_every=None) as plain:
        theirs = [await submitter.submit("other") for _ in range(20)]
        own = [await plain.submit("other") for _ in range(20)]
        with WorkerProcess(postgres_url, None, tmp_path / "log"):
            for handle in own:
                assert await handle.result(timeout=60) == "other"
            assert {(await one.status()).attempt for one in theirs} == {0}
        with WorkerProcess(postgres_url, own_server.url, tmp_path / "log"):
            for handle in theirs:
                assert await handle.result(timeout=90) == "other"

    assert {await read_status(client, handle.task_id) for handle in own} == {None}
    await _judge(submitter, [handle.task_id for handle in [*theirs, *own]])
