"""A program that brings about every row of the cancel table, its telemetry set up by ``setup``.

Each row's task has an op of its own, so that a reader finds its spans by name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # started as a file: the root is not on the path yet
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tapescope import EventDropped, Reporter, TaskHandle, TaskManager, ThreadReporter
from tapescope.engine import Reconciler
from tapescope.store import Flush, FlushAnswer, StoreAway, TaskStore
from tapescope.testing import MemoryStore, until
from tapescope_adapters.postgres import PostgresStore
from tapescope_adapters.sqlite._backend import SqliteBackend
from tapescope_telemetry import Telemetry, setup
from tests.support.queue_engine import QueueEngine

GRACE = 0.05
forever = asyncio.Event


class Backend(SqliteBackend):
    """A backend that is away for as long as it is told to be."""

    away = False

    async def write(self, flush: Flush) -> FlushAnswer:
        if self.away:
            raise StoreAway("the cable was pulled")
        return await super().write(flush)


def make_store(url: str, telemetry: Telemetry, patience: float = 10.0) -> TaskStore:
    """A SQLite store of that backend."""
    path = url.removeprefix("sqlite:///")
    backend = Backend(path, durability="commit")
    return TaskStore(backend, telemetry=telemetry, patience=patience)


async def give(report: Reporter) -> str:
    """Return."""
    return "done"


async def fail(report: Reporter) -> None:
    """Raise."""
    raise ValueError("no such folder")


async def leave(report: Reporter) -> None:
    """Raise what would end a program."""
    raise SystemExit(3)


async def wait(report: Reporter) -> None:
    """Be there until cancelled."""
    await report.log("info", "here")
    await forever().wait()


async def raise_in_cleanup(report: Reporter) -> None:
    """Answer a cancel with an error."""
    try:
        await wait(report)
    finally:
        raise RuntimeError("cannot delete")


async def return_late(report: Reporter) -> str:
    """Answer a cancel with a result."""
    try:
        await wait(report)
    except asyncio.CancelledError:
        return "done all the same"
    return "never"


async def swallow(report: Reporter) -> None:
    """Go on after a cancel, past the grace, and report once more."""
    try:
        await wait(report)
    except asyncio.CancelledError:
        while report.cancel_requested:
            try:
                await report.log("info", "late")
            except EventDropped:
                return


def go_on(report: ThreadReporter) -> None:
    """The same in a thread."""
    with contextlib.suppress(EventDropped):
        while True:
            report.log("info", "here")


async def cancel_itself(report: Reporter) -> None:
    """A cancel that was not requested."""
    raise asyncio.CancelledError


async def begun(task: TaskHandle) -> None:
    """Wait for the runner's first report."""
    async for event in task.follow():
        if event.type == "log":
            return


async def end(task: TaskHandle) -> None:
    """Wait for the ``final``, whatever it says."""
    await asyncio.gather(task.result(), return_exceptions=True)


async def main(url: str, telemetry: Telemetry, flush: Callable[[], object]) -> None:
    """Row by row. The metrics have the size of the file as long as a manager measures it."""
    async with make_store(url, telemetry) as store:
        async with TaskManager(
            store, cancel_grace=GRACE, retry_delay=0.01, lease=30, heartbeat=0.1
        ) as manager:
            await end_by_themselves(manager)
            await asyncio.to_thread(flush)
            await cancel_each(manager)
            await fire(manager)
            await bear(manager)
            lost = await manager.submit("lease_lost", wait)
            await begun(lost)
            while not await store.leases.rescue_expired(dead_owners=[manager.owner]):
                pass  # a heartbeat may hold the row just then
            await end(lost)
        await shut_down(store)
    async with make_store(url, telemetry, patience=0.5) as store:
        await lose_store(store)
    await rescue_other(url, telemetry)
    async with make_store(url, telemetry) as store, TaskManager(store) as manager:
        await manager.audit()


async def end_by_themselves(manager: TaskManager) -> None:
    """The rows without a cancel."""
    await end(await manager.submit("returns", give))
    await end(await manager.submit("raises", fail))
    await end(await manager.submit("retries", fail, retries=1))
    await end(await manager.submit("exits", leave))
    await end(await manager.submit("unrequested", cancel_itself))
    await end(await manager.submit("times_out", wait, timeout=0.05))


async def cancel_each(manager: TaskManager) -> None:
    """The rows with one."""
    before = await manager.submit("before", give, delay=600)
    await before.cancel()
    between = await manager.submit("between", fail, retries=1)
    async for event in between.follow():
        if event.type == "attempt_failed":
            await between.cancel()
    await end(between)
    runners: dict[str, Any] = {
        "cancelled": wait,
        "cleanup_raises": raise_in_cleanup,
        "returns_late": return_late,
        "swallows": swallow,
        "thread_goes_on": go_on,
    }
    for op, runner in runners.items():
        task = await manager.submit(op, runner)
        await begun(task)
        await task.cancel("enough")
        await task.cancel("again", reason="superseded")
        await end(task)


async def fire(manager: TaskManager) -> None:
    """A task that a schedule makes; it runs until the schedule is gone, so that there is one."""
    gone = asyncio.Event()

    async def go_on_until_gone(report: Reporter) -> None:
        await gone.wait()

    manager.op("scheduled")(go_on_until_gone)
    await manager.schedules.add("each-second", "scheduled", every=1, overlap="skip")

    async def find_made() -> str | None:
        (schedule,) = (await manager.schedules.list()).schedules
        return schedule.last_task

    task_id = await until(find_made)
    assert task_id is not None
    await manager.schedules.remove("each-second")
    gone.set()
    await end(manager.handle(task_id))


async def bear(manager: TaskManager) -> None:
    """A task that submits another one, which has a tag, and sends it a message."""

    async def hear(report: Reporter) -> None:
        await report.message()

    async def submit(report: Reporter) -> None:
        child = await manager.submit("child", hear, tags=["red"])
        await child.send("now")
        await child.result()

    await end(await manager.submit("parent", submit))


async def shut_down(store: TaskStore) -> None:
    """A manager that closes while its task runs."""
    async with TaskManager(store, cancel_grace=GRACE, drain=0.0) as manager:
        await begun(await manager.submit("shutdown", wait))


async def lose_store(store: TaskStore) -> None:
    """A store that goes away before the ``final``, for longer than the lease."""
    backend = store.backend
    assert isinstance(backend, Backend)

    async def work(report: Reporter) -> None:
        backend.away = True

    manager = await TaskManager(store, lease=0.3, heartbeat=0.1, drain=5.0).open()
    task = await manager.submit("store_gone", work)
    await end(task)
    backend.away = False
    with contextlib.suppress(Exception):  # what it could not write is raised here, too
        await manager.aclose()


async def rescue_other(url: str, telemetry: Telemetry) -> None:
    """The task of a process that was killed."""
    task_id = await asyncio.to_thread(kill_worker, url)
    async with (
        make_store(url, telemetry) as store,
        TaskManager(store, lease=3600, heartbeat=600) as manager,
    ):
        await end(manager.handle(task_id))


def kill_worker(url: str) -> str:
    """A process that began a task and was killed; the task's id. It reports nothing of it."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    with subprocess.Popen(
        [sys.executable, __file__, url, "worker"], stdout=subprocess.PIPE, text=True, env=quiet
    ) as process:
        assert process.stdout is not None
        task_id = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    return task_id


async def work_on(url: str) -> None:
    """What the process does that will be killed."""
    async with TaskManager(url) as manager:
        task = await manager.submit("worker_lost", wait)
        await begun(task)
        print(task.task_id, flush=True)
        await forever().wait()


async def be_brought(telemetry: Telemetry, flush: Callable[[], object]) -> None:
    """A task that an engine brings, one that it brings too early, and a reconciler's turn."""
    engine = QueueEngine()
    async with MemoryStore(telemetry=telemetry) as store:
        async with TaskManager(store, engine=engine, drain=0.0) as manager:
            manager.op("brought")(give)
            await end(await manager.submit("brought"))
            later = await manager.submit("brought", delay=3_600)
            await engine.desk.attempt(later.task_id)
        await Reconciler(store, engine).run_once()
        await asyncio.to_thread(flush)


async def ask_for_the_time(url: str, telemetry: Telemetry, flush: Callable[[], object]) -> None:
    """Beat once on a store that goes by a clock of its own, PostgreSQL, and read what waits there.

    The metrics have what was read as long as the manager is open.
    """
    async with (
        PostgresStore(url, telemetry=telemetry) as store,
        TaskManager(store) as manager,
    ):
        manager.op("waiting", timeout=60)(give)
        await manager.submit("waiting", delay=3_600)

        def is_read() -> bool:
            checks = {check.name: check for check in manager.check_health()}
            return "1 wait" in checks["backlog"].detail and all(c.ok for c in checks.values())

        await until(is_read)
        await asyncio.to_thread(flush)


if __name__ == "__main__":
    if sys.argv[2:] == ["worker"]:
        asyncio.run(work_on(sys.argv[1]))
    else:
        with setup() as made:
            asyncio.run(main(sys.argv[1], made.telemetry, made.flush))
            asyncio.run(be_brought(made.telemetry, made.flush))
            asyncio.run(ask_for_the_time(sys.argv[2], made.telemetry, made.flush))
        print(made.undelivered)
