"""A fleet: many tasks through a few real ``tapescope worker`` processes on one store.

Every task is submitted by name before it is due, so that the workers begin at one moment. Where
``kill_every`` is given, one worker after the other is killed with SIGKILL and replaced. Then every
task must have ended, and row, tape and the runs' own witness must agree on how often each ran.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tapescope import Submission, TaskManager, find_store
from tapescope.maintenance.audit import audit_store
from tapescope.model.tape import Event
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.port import TaskStore
from tapescope.testing import until
from tests.stress.delays import pause
from tests.stress.fleet_program import OP
from tests.stress.harness import Result, read_rows
from tests.stress.witness import read_witness

__all__ = [
    "FLEET",
    "FLEET_KILLED",
    "KILL_EVERY",
    "WORKERS",
    "Fleet",
    "judge_audit",
    "play_fleet",
    "wait_until_ended",
    "work_off",
]

FLEET: Final = "fleet"
FLEET_KILLED: Final = "fleet-killed"
"""The same with a worker killed every ``KILL_EVERY`` seconds."""
WORKERS: Final = 4
KILL_EVERY: Final = 2.0
WORK: Final = 0.8
"""Seconds that a task takes where workers are killed: there shall be something to lose."""
RETRIES: Final = 100
"""More than kills: a task ends as ``worker_lost`` only where something else is wrong."""
_BATCH: Final = 500
_ROOT: Final = Path(__file__).parents[2]


async def play_fleet(
    store_name: str,
    url: str,
    tasks: int,
    *,
    workers: int = WORKERS,
    kill_every: float | None = None,
) -> Result:
    """So many tasks through so many workers, all judged; times are in seconds."""
    work = 0.0 if kill_every is None else WORK
    result = Result(FLEET if kill_every is None else FLEET_KILLED, store_name, seed=0)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="tapes-fleet-") as folder:
        async with find_store(url) as store:
            async with Fleet(url).running(workers) as fleet:
                due = await _submit(store, tasks, folder, work)
                async with fleet.losing_workers(kill_every):
                    await wait_until_ended(store, within=60 + tasks / 20)
            rows = await _read_number(store, tasks, result)
            runs = await asyncio.to_thread(read_witness, Path(folder))
            for row in rows:
                await _judge_one(store, row, runs, result, killed=kill_every is not None)
            audited = await judge_audit(store, result)
    result.figures = [
        *_describe_rates(rows, due),
        f"{fleet.killed} workers killed, {sum(row.retries_spent for row in rows)} attempts lost",
        f"at most {max(row.attempt for row in rows)} attempts a task, {sum(runs.values())} runs",
        audited,
    ]
    result.seconds = time.perf_counter() - began
    return result


class Fleet:
    """The worker processes; those that are killed are replaced."""

    def __init__(
        self, url: str, app: str = "tests.stress.fleet_program:manager", op: str = OP
    ) -> None:
        self._url, self._app, self._op = url, app, op
        self._running: deque[tuple[Process, asyncio.Task[None]]] = deque()
        self._starting: set[asyncio.Event] = set()
        self.killed = 0

    @asynccontextmanager
    async def running(self, workers: int) -> AsyncGenerator[Fleet]:
        """So many workers that are ready; all are ended with SIGTERM at the end."""
        try:
            await asyncio.gather(*(self._start() for _ in range(workers)))
            yield self
        finally:
            async with asyncio.timeout(60):
                for ready in self._starting:  # before it hears a SIGTERM, that would just end it
                    await ready.wait()
            for worker, _ in self._running:
                with suppress(ProcessLookupError):  # it has ended already, as is seen below
                    worker.terminate()
            async with asyncio.timeout(60):
                for worker, ear in self._running:
                    await ear
                    status = await worker.wait()
                    assert status == 0, f"a worker ended with {status}"

    @asynccontextmanager
    async def losing_workers(self, every: float | None) -> AsyncGenerator[None]:
        """Meanwhile a worker is killed every so many seconds; ``None``: never."""
        killing = asyncio.ensure_future(self._keep_killing(every))
        try:
            yield
        finally:
            killing.cancel()
            with suppress(asyncio.CancelledError):  # ours
                await killing

    async def _keep_killing(self, every: float | None) -> None:
        """Kill the oldest worker and start another, every so many seconds; ``None``: never."""
        while every is not None:
            await pause(every)
            worker, ear = self._running.popleft()
            worker.kill()
            await worker.wait()
            await ear
            self.killed += 1
            await self._start()

    async def _start(self) -> None:
        command = ("worker", "--app", self._app, "--store", self._url)
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tapescope.cli", *command), cwd=_ROOT, stderr=PIPE
        )
        ready = asyncio.Event()
        ear = asyncio.ensure_future(_hear(worker, ready, self._op))
        self._running.append((worker, ear))
        self._starting.add(ready)
        async with asyncio.timeout(60):
            await ready.wait()
        self._starting.discard(ready)


async def _hear(worker: Process, ready: asyncio.Event, op: str) -> None:
    """Read what a worker says, so that it never waits for a reader."""
    assert worker.stderr is not None
    async for line in worker.stderr:
        if json.loads(line)["message"].endswith(f": {op}"):
            ready.set()
    ready.set()  # it has ended: the caller that awaits it finds that out


async def work_off(
    store: TaskStore,
    fleet: Fleet,
    submissions: Sequence[Submission],
    result: Result,
    *,
    kill_every: float | None,
) -> list[Task]:
    """Submit these, and have the fleet run them while its workers are killed; gives their rows.

    Each shall succeed, and none be more or fewer.
    """
    async with TaskManager(store, work=False) as manager:
        await _submit_in_batches(manager, submissions)
    async with fleet.losing_workers(kill_every):
        await wait_until_ended(store, within=120 + len(submissions) / 5)
    rows = await _read_number(store, len(submissions), result)
    for row in rows:
        result.runs += 1
        result.outcomes[row.status.value] += 1
        if row.status is not TaskStatus.SUCCEEDED:
            result.blame(row.task_id, f"it ended as {row.status.value}")
    return rows


async def judge_audit(store: TaskStore, result: Result) -> str:
    """Blame what the audit finds; gives a line about it."""
    audit = await audit_store(store, grace=0)
    for violation in audit.violations:
        result.blame(violation.task_id, f"{violation.rule.value}: {violation.detail}")
    return f"{audit.checked} tapes audited, {len(audit.violations)} violations"


async def _read_number(store: TaskStore, tasks: int, result: Result) -> list[Task]:
    """The rows of the store, which shall be so many."""
    rows = [row async for row in read_rows(store)]
    if len(rows) != tasks or len({row.task_id for row in rows}) != tasks:
        result.blame("store", f"{len(rows)} of {tasks} tasks are there")
    return rows


async def _submit_in_batches(manager: TaskManager, submissions: Sequence[Submission]) -> None:
    """Submit them all, in a flush for some hundred."""
    for first in range(0, len(submissions), _BATCH):
        await manager.submit_many(submissions[first : first + _BATCH])


async def _submit(store: TaskStore, tasks: int, folder: str, work: float) -> int:
    """Submit them all, due at one moment soon; gives that moment in microseconds."""
    soon = datetime.now(UTC) + timedelta(seconds=1 + tasks / 1_000)
    params = {"folder": folder, "seconds": work}
    async with TaskManager(store, work=False) as manager:
        one = Submission(OP, params=params, run_at=soon, retries=RETRIES)
        await _submit_in_batches(manager, [one] * tasks)
    return round(soon.timestamp() * 1_000_000)


async def wait_until_ended(store: TaskStore, within: float) -> None:
    """Wait until no task is pending or runs, for so many seconds."""

    async def have_ended() -> bool:
        counts = await store.count()
        return not counts.get(TaskStatus.PENDING) and not counts.get(TaskStatus.RUNNING)

    async def a_moment() -> None:
        await pause(0.1)

    await until(have_ended, within=within, pause=a_moment)


async def _judge_one(
    store: TaskStore,
    row: Task,
    runs: Counter[tuple[str, int]],
    result: Result,
    *,
    killed: bool,
) -> None:
    """Row, tape and witness agree: each attempt ran at most once, the last one surely did."""
    result.runs += 1
    result.outcomes[row.status.value] += 1
    tape = (await store.read_tape(row.task_id)).events
    wanted = list[tuple[str, int]]()
    for attempt in range(1, row.attempt + 1):
        end = "final" if attempt == row.attempt else "attempt_failed"
        wanted += [("task_started", attempt), (end, attempt)]
    if [(event.type, event.attempt) for event in tape] != wanted:
        result.blame(row.task_id, f"its tape: {[_tell(event) for event in tape]}")
    ran = [runs[row.task_id, attempt] for attempt in range(1, row.attempt + 1)]
    if max(ran) > 1 or ran[-1] != 1 or (row.task_id, row.attempt + 1) in runs:
        result.blame(row.task_id, f"runs of its attempts: {ran}")
    if row.status is not TaskStatus.SUCCEEDED:
        result.blame(row.task_id, f"it ended as {row.status.value}")
    if row.retries_spent != row.attempt - 1 or (row.attempt > 1 and not killed):
        result.blame(row.task_id, f"attempt {row.attempt}, {row.retries_spent} retries spent")


def _tell(event: Event) -> str:
    return f"{event.attempt} {event.type}"


def _describe_rates(rows: list[Task], due: int) -> list[str]:
    claimed = max(row.claimed_us or 0 for row in rows)
    ended = max(row.finished_us or 0 for row in rows)
    return [
        f"{len(rows)} tasks, from when they were due: "
        f"{len(rows) / ((at - due) / 1e6):,.0f} {what}/s"
        for at, what in ((claimed, "claims"), (ended, "ends"))
    ]
