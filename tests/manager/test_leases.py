"""Leases of a manager: heartbeats, lost leases, and tasks of processes that are gone."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest

from tapescope import Reporter, Submission, TaskFailed, TaskHandle, TaskManager
from tapescope.manager.identity import find_dead_owners, name_owner
from tapescope.manager.loop_watchdog import LoopWatchdog
from tapescope.model.tape import DropReason
from tapescope.model.tasks import FinalEvent, NewTask, TaskStatus
from tapescope.spool import SpooledTask, spool_folder
from tapescope.store.orders import RescuedRow, RescueOrder
from tapescope.store.validation import new_task_id
from tapescope.testing import check, settle_loop, until
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.pausing import pause_process
from tests.support.postgres_sessions import session
from tests.support.workbench import make_store, started, wait_for_cancel, working

WORKER = """
import asyncio, sys
from tapescope import Reporter, TaskManager

async def work(report: Reporter) -> None:
    try:
        while True:
            await report.progress("count", 1, 2)
            await asyncio.sleep(0.005)
    except BaseException as error:
        print("ended", type(error).__name__, flush=True)
        raise

async def main() -> None:
    async with TaskManager(sys.argv[1], lease=1.0, heartbeat=0.2, drain=600) as manager:
        task = await manager.submit("work", work, retries=int(sys.argv[2]))
        async for event in task.follow():
            if event.type == "progress":
                break
        print(task.task_id, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

asyncio.run(main())
"""


KILLED = """
import asyncio, os, signal, sys
from tapescope import TaskManager

async def work(report):
    await asyncio.Event().wait()

async def fail(report):
    raise RuntimeError("planned")

async def main() -> None:
    manager = await TaskManager(sys.argv[1], max_running=2, retry_delay=600, drain=600).open()
    running = await manager.submit("work", work)
    retried = await manager.submit("work", fail, retries=1)
    async for event in retried.follow():
        if event.type == "attempt_failed":
            break
    held = await manager.submit("work", work)
    async for event in held.follow():
        break
    tasks = [running, retried, held]
    tasks.append(await manager.submit("work", work))
    tasks.append(await manager.submit("work", work, delay=600))
    tasks.append(await manager.submit("work"))
    tasks.append(await manager.submit("work", work, idempotency_key="k"))
    print(*(task.task_id for task in tasks), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@contextmanager
def worker(url: str, retries: int = 0) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A process with a manager whose one task runs, and that task's id."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), url, str(retries)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


async def ended(task: TaskHandle) -> str:
    """Wait until the task has ended; its error code, or its status."""

    async def has_ended() -> str | None:
        row = await task.status()
        return (row.error_code or row.status.value) if row.status.terminal else None

    code: str | None = await until(has_ended, within=30)
    assert code is not None
    return code


async def test_heartbeats_keep_a_lease(any_url: str) -> None:
    """A run that is longer than its lease stays its owner's, though others look for lost tasks."""
    async with working(any_url, lease=0.4, heartbeat=0.05) as bench:

        async def work(report: Reporter) -> str:
            row = await bench.store.get(report.task_id)
            first = row.lease_expires_us or 0

            async def is_over() -> bool:
                return (
                    bench.store.clock.now() > first
                    and not await bench.store.leases.rescue_expired()
                )

            await until(is_over)
            return "done"

        task = await bench.manager.submit("work", work)

        assert await task.result() == "done"


async def test_what_waited_for_a_killed_process_is_ended(store_url: str) -> None:
    """Its callables: for a slot, for their time, for a retry. Not what others can go on with."""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", KILLED, store_url], capture_output=True, text=True
    )
    *lost, by_name, keyed = done.stdout.split()
    async with TaskManager(store_url) as manager:
        codes = [await ended(manager.handle(task_id)) for task_id in lost]
        left = [await manager.handle(task_id).status() for task_id in (by_name, keyed)]
        violations = (await manager.audit()).violations

    assert codes == ["worker_lost"] * 5
    assert [task.status for task in left] == [TaskStatus.PENDING] * 2
    assert violations == ()


async def test_a_rescue_is_told_whoever_asks_for_it(any_url: str) -> None:
    """The port tells of a rescue, as span and metric: no manager need have asked for it."""
    captured = CapturedTelemetry()
    async with make_store(any_url, captured) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claim = await store.claim_if_pending(task, "there:1:0:aa", 30.0)
        await store.leases.rescue_expired(dead_owners=["there:1:0:aa"])
        rescued = captured.value("tapescope.task.rescued", task_op="work", rescue_result="failed")
        span = captured.span()
    captured.close()

    assert claim is not None
    assert rescued == 1
    assert (span.name, span.status.status_code.name) == ("rescue work", "ERROR")
    assert (span.attributes or {})["error.type"] == "worker_lost"


async def test_a_rescue_is_told_though_its_caller_is_gone(
    any_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manager that closes cancels its heartbeat: what that rescued at that moment is counted."""
    captured, written, answered = CapturedTelemetry(), asyncio.Event(), asyncio.Event()
    async with make_store(any_url, captured) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        claim = await store.claim_if_pending(task, "there:1:0:aa", 30.0)
        rescue = store.backend.rescue

        async def rescue_slowly(order: RescueOrder) -> Sequence[RescuedRow]:
            rows = await rescue(order)
            written.set()
            await answered.wait()
            return rows

        monkeypatch.setattr(store.backend, "rescue", rescue_slowly)
        rescuing = asyncio.ensure_future(store.leases.rescue_expired(dead_owners=["there:1:0:aa"]))
        await written.wait()
        for _ in range(3):
            rescuing.cancel()
            await asyncio.sleep(0)
        waited = not rescuing.done()
        answered.set()
        with pytest.raises(asyncio.CancelledError):
            await rescuing
        violations = await check(store.history, store, dropped_metric=0)
        rescued = captured.value("tapescope.task.rescued", task_op="work", rescue_result="failed")
    captured.close()

    assert claim is not None
    assert waited
    assert (rescued, violations) == (1, [])


async def test_a_cancel_comes_with_the_heartbeat(any_url: str) -> None:
    """Where the notification of a cancel is lost, the next heartbeat carries it."""
    async with working(any_url, lease=5, heartbeat=0.05) as bench:
        task = await bench.manager.submit("work", wait_for_cancel)
        await started(task)
        bench.store.stop_listening(bench.manager.owner)  # no listener is told any more
        await bench.store.request_cancel(task.task_id)

        assert await ended(task) == "cancelled"


async def test_a_lost_lease_stops_the_run(any_url: str) -> None:
    """The runner is cancelled, its span is lost, and what it wrote too late is off the tape."""
    reasons: list[str] = []

    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        try:
            await asyncio.Event().wait()
        finally:
            reasons.append(str(report.cancel_requested))
            _ = report.emit_nowait("late", None)

    async with working(any_url, lease=5, heartbeat=0.05) as bench:
        task = await bench.manager.submit("work", work)
        await started(task)
        await until(  # a heartbeat may hold the row just then
            lambda: bench.store.leases.rescue_expired(dead_owners=[bench.manager.owner])
        )
        with pytest.raises(TaskFailed, match="did not renew"):
            await task.result()
        (span,) = await until(lambda: bench.run_spans(task.task_id))
        told = span.attributes or {}
        dropped = await until(lambda: bench.drops(task))

        assert reasons == ["True"]
        assert (span.status.status_code.name, told["tapescope.task.outcome"]) == ("ERROR", "lost")
        assert told["tapescope.cancel.reason"] == "superseded"
        assert dropped == {DropReason.AFTER_TERMINAL: 1}


class Alarm(logging.Handler):
    """Rings when something is logged that holds these words."""

    def __init__(self, words: str) -> None:
        super().__init__(logging.WARNING)
        self.words = words
        self.rung = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a record."""
        if self.words in record.getMessage():
            self.rung.set()


@contextmanager
def alarm(words: str) -> Generator[threading.Event]:
    """An event that is set once these words are logged."""
    log, handler = logging.getLogger("tapescope"), Alarm(words)
    log.addHandler(handler)
    try:
        yield handler.rung
    finally:
        log.removeHandler(handler)


async def test_a_blocked_loop_is_warned_about(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who blocks the loop past a third of the lease is named, by op and place, while it blocks."""
    async with working(store_url, lease=0.7, heartbeat=0.1) as bench:
        with alarm("is blocked by hog") as rung:

            async def hog(report: Reporter) -> bool:
                return rung.wait(20)

            idler = await bench.manager.submit("idler", wait_for_cancel)
            await started(idler)
            task = await bench.manager.submit("hog", hog)
            warned = await task.result()
            await until(lambda: "goes on" in caplog.text)
            await idler.cancel()

    assert warned
    assert "in wait (threading.py:" in caplog.text
    assert ", called by hog (test_leases.py:" in caplog.text
    assert "running here: hog, idler." in caplog.text


async def test_a_blocked_loop_is_told_of_long_before_its_leases_end(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the default lease, while it blocks; the next block soon after is only counted."""
    async with working(sqlite_url) as bench:
        with alarm("is blocked by hog") as rung:

            async def hog(report: Reporter) -> bool:
                return rung.wait(20)

            first = await (await bench.manager.submit("hog", hog)).result()
    share = re.search(r"for ([0-9.]+) s by now, (\d+) % of a lease", caplog.text)

    assert first
    assert share is not None
    assert float(share[1]) < 5  # of 10 s, when a third of the lease is over
    assert share[2] != "33"


async def test_blocks_that_come_often_are_warned_of_now_and_then(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning in half a minute, which says how many there were; a block that is dangerous to
    a lease is warned of at once."""
    watchdog, loop = LoopWatchdog(threading.get_ident(), 30.0), asyncio.get_running_loop()

    async def block(seconds: float) -> None:
        for _ in range(round(seconds * 4) + 1):  # the loop does not run meanwhile
            watchdog.check(loop, lambda _: {"hog"}, 0.25, 0.0)
        await settle_loop()  # its sign of life
        watchdog.check(loop, lambda _: set[str](), 0.25, 0.0)

    for _ in range(5):
        await block(1)
    often = caplog.text.count("is blocked by")
    await block(12)
    dangerous = caplog.text.count("is blocked by")
    for _ in range(200):
        watchdog.check(loop, lambda _: set[str](), 0.25, 0.0)
    await block(1)

    assert (often, dangerous, caplog.text.count("is blocked by")) == (1, 2, 3)
    assert "blocked 4 times more" in caplog.text


async def test_a_loop_that_was_blocked_is_told_of_where_no_thread_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A store that cannot be used beside its loop has its heartbeats there, and the block is named
    when it is over."""
    blocked = threading.Event()

    async def hog(report: Reporter) -> None:
        ends = 0

        async def renewed() -> bool:
            return (await bench.store.get(report.task_id)).lease_expires_us != ends

        while "blocked" not in caplog.text:  # a block in the midst of a beat is not seen
            await until(renewed)
            ends = (await bench.store.get(report.task_id)).lease_expires_us or 0
            blocked.wait(0.25)

    async with working("sqlite:///:memory:", lease=0.7, heartbeat=0.02) as bench:
        task = await bench.manager.submit("hog", hog)
        await task.result()

    assert "running here: hog." in caplog.text


def rescue_for(url: str, seconds: float) -> int:
    """Look for lost tasks as another process would, in a loop of one's own; how many were taken."""

    async def look() -> int:
        async with make_store(url, captured) as store:
            end = store.clock.now() + round(seconds * 1e6)
            taken = 0

            async def is_over() -> bool:
                nonlocal taken
                taken += len(await store.leases.rescue_expired())
                return store.clock.now() > end

            await until(is_over)
            return taken

    captured = CapturedTelemetry()
    try:
        return asyncio.run(look())
    finally:
        captured.close()


async def test_a_blocked_loop_keeps_its_leases(store_url: str) -> None:
    """A runner that blocks the loop for several leases loses none, its own or its neighbours'."""
    lease = 0.5
    async with working(store_url, lease=lease, heartbeat=0.1) as bench:
        taken: list[int] = []

        async def hog(report: Reporter) -> str:
            looking = threading.Thread(
                target=lambda: taken.append(rescue_for(store_url, 4 * lease))
            )
            looking.start()
            looking.join()
            return "done"

        neighbour = await bench.manager.submit("idler", wait_for_cancel)
        await started(neighbour)
        task = await bench.manager.submit("hog", hog)
        result = await task.result()
        row = await neighbour.status()
        await neighbour.cancel()

    assert (result, taken) == ("done", [0])
    assert row.status.value == "running"


async def test_a_blocked_loop_keeps_what_it_has_just_claimed(store_url: str) -> None:
    """A task that is claimed, but whose run has not heard of it yet, keeps its lease, too."""
    lease = 0.5
    taken: list[int] = []
    begun: list[str] = []

    async def hog(report: Reporter) -> None:
        begun.append(report.task_id)
        if len(begun) == 1:  # the others were claimed in the same flush
            looking = threading.Thread(
                target=lambda: taken.append(rescue_for(store_url, 3 * lease))
            )
            looking.start()
            looking.join()

    async with working(store_url, lease=lease, heartbeat=0.1) as bench:
        tasks = await bench.manager.submit_many([Submission("hog", hog) for _ in range(5)])
        for task in tasks:
            await task.result()

    assert taken == [0]
    assert len(begun) == 5


@asynccontextmanager
async def locking(url: str, task_id: str) -> AsyncGenerator[None]:
    """Hold the task's row as a user at a prompt may; where there is no such lock, the file."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as file:
            await until(lambda: begin(file))
            yield
            file.execute("ROLLBACK")
        return
    async with session(url) as conn, conn.transaction():
        await conn.execute("SELECT 1 FROM tasks WHERE task_id = $1::uuid FOR UPDATE", task_id)
        yield


def begin(file: sqlite3.Connection) -> bool:
    """Take the file's write lock, if it is free."""
    try:
        file.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


async def test_a_lease_that_cannot_be_extended_is_lost(
    store_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """When no heartbeat came through until the lease was over by our own clock, the runner is
    stopped: another owner may have the task."""
    async with working(store_url, lease=0.6, heartbeat=0.1) as bench:
        task = await bench.manager.submit("work", wait_for_cancel)
        await started(task)
        async with locking(store_url, task.task_id):
            (span,) = await until(lambda: bench.run_spans(task.task_id))
        told = span.attributes or {}
        code = await ended(task)

    assert (span.status.status_code.name, told["tapescope.task.outcome"]) == ("ERROR", "lost")
    assert code == "worker_lost"
    assert "could not be extended" in caplog.text


def test_an_owner_that_is_gone_is_known_on_its_host() -> None:
    """A pid that is free, or another's by now, is a dead owner; other hosts' are left alone."""
    own = name_owner()
    host, pid, start, name = own.split(":")
    ticks, place, boot = start.split("-")
    later = f"{host}:{pid}:{int(ticks) + 1}-{place}-{boot}:{name}"
    free = f"{host}:{2**22 + 1}:{start}:{name}"
    rebooted = f"{host}:{2**22 + 1}:{ticks}-{place}-0123456789ab:{name}"
    others = [
        f"other:{2**22 + 1}:{start}:{name}",
        f"{host}:{2**22 + 1}:{ticks}-1.2-{boot}:{name}",  # of another container
        f"{host}:{2**22 + 1}:{ticks}-{place.partition('.')[0]}:{name}",  # of an older version
        f"{host}:{2**22 + 1}:5:{name}",
        f"{host}:{2**80}:{start}:{name}",
        "odd",
    ]

    assert find_dead_owners([own, later, free, rebooted, *others]) == [later, free]
    assert find_dead_owners([own, rebooted, *others], on_one_host=True) == [rebooted]


def test_an_owner_that_left_a_spool_file_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead wrapper knew is in its user's file: a replay ends its task, and no rescue."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    host, _, start, _ = name_owner().split(":")
    left, other = (f"{host}:{2**22 + 1}:{start}:{name}" for name in ("aa", "bb"))
    kept = SpooledTask(
        store="here",
        task_id=new_task_id(),
        op="shell",
        params={},
        timeout=None,
        idempotency_key=None,
        traceparent=None,
        owner=left,
        attempt=1,
        confirmed=0,
        events=(),
        final=FinalEvent.succeeded(),
        ended_us=0,
    )
    before = find_dead_owners([left, other])
    kept.write(spool_folder())

    assert before == [left, other]
    assert find_dead_owners([left, other]) == [other]


def test_an_unreaped_process_is_dead() -> None:
    """A process that was killed, and that its parent has not waited for, runs nothing."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from tapescope.manager.identity import *; print(name_owner()); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        owner = process.stdout.readline().strip()
        alive = find_dead_owners([owner])
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        gone = find_dead_owners([owner])

    assert alive == []
    assert gone == [owner]


async def test_a_killed_process_is_rescued_at_open(store_url: str) -> None:
    """The task of a process that was killed fails as ``worker_lost`` as soon as another looks."""
    with worker(store_url) as (process, task_id):
        process.send_signal(signal.SIGKILL)
        process.wait()
        captured = CapturedTelemetry()
        async with (
            make_store(store_url, captured) as store,
            TaskManager(store, lease=3600, heartbeat=600) as manager,
        ):
            task = manager.handle(task_id)
            code = await ended(task)
            page = await task.tape(limit=10_000)
            (span,) = await until(captured.spans)
            (point,) = captured.points("tapescope.task.rescued", rescue_result="failed")
        captured.close()

    assert code == "worker_lost"
    assert page.events[-1].type == "final"
    assert page.final_seq == page.last_seq
    assert (span.name, span.status.status_code.name) == ("rescue work", "ERROR")
    assert (span.attributes or {})["error.type"] == "worker_lost"
    assert point.value == 1


async def test_a_killed_process_is_rescued_by_a_manager_that_runs(store_url: str) -> None:
    """A manager that is open notices within two heartbeats."""
    captured = CapturedTelemetry()
    async with (
        make_store(store_url, captured) as store,
        TaskManager(store, lease=3600, heartbeat=0.5) as manager,
    ):

        def count_heartbeats() -> float:
            name = "tapescope.store.operation.duration"
            return sum(p.value for p in captured.points(name, store_operation="rescue_expired"))

        with worker(store_url, retries=3) as (process, task_id):
            task = manager.handle(task_id)
            before = await task.status()
            process.send_signal(signal.SIGKILL)
            process.wait()
            heartbeats = count_heartbeats()
            code = await ended(task)
            heartbeats = count_heartbeats() - heartbeats
    captured.close()

    assert before.status.value == "running"
    assert heartbeats <= 2
    assert code == "worker_lost"  # a callable of that process: this one cannot run it again


async def test_a_paused_process_is_fenced(store_url: str) -> None:
    """A process that sleeps past its lease wakes up to find its task taken, and writes nothing."""
    async with TaskManager(store_url, lease=3600, heartbeat=0.1) as manager:
        with worker(store_url) as (process, task_id):
            task = manager.handle(task_id)
            await pause_process(process.send_signal, store_url)
            code = await ended(task)
            closed = await task.tape(limit=10_000)
            process.send_signal(signal.SIGCONT)
            assert process.stdout is not None
            said = await asyncio.to_thread(process.stdout.readline)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            await asyncio.to_thread(process.wait)
            after = await task.tape(limit=10_000)
            drops = await task.drops()

    assert code == "worker_lost"
    assert said.startswith("ended")
    assert (after.events, after.final_seq) == (closed.events, closed.final_seq)
    assert set(drops.counts) <= {DropReason.AFTER_TERMINAL, DropReason.DUPLICATE_FINAL}


async def test_a_paused_process_writes_nothing_on_the_next_attempts_tape(store_url: str) -> None:
    """While another attempt runs, what the woken one may still report is stale."""
    async with make_store(store_url, CapturedTelemetry()) as store:
        with worker(store_url, retries=1) as (process, task_id):
            await pause_process(process.send_signal, store_url)
            (rescued,) = await until(lambda: store.leases.rescue_expired(ops=["work"]), within=30)
            again = await store.claim_if_pending(await store.get(task_id), "me", 60)
            assert again is not None
            process.send_signal(signal.SIGCONT)
            assert process.stdout is not None
            await asyncio.to_thread(process.stdout.readline)
            finished = await store.finish_if_running(again.attempt, FinalEvent.succeeded())
            page = await store.read_tape(task_id, after_seq=rescued.last_seq)
            drops = await store.read_quarantine(task_id)

    assert rescued.result.value == "retried"
    assert finished.won
    assert set(drops.counts) <= {DropReason.STALE_ATTEMPT}
    assert [event.type for event in page.events] == ["task_started", "final"]
