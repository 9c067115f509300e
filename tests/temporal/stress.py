"""The long run of the engine: ``python -m tests.temporal.stress --acts 300 --seed 1``.

Tasks go through a few real workers that a real Temporal server brings them to, while a seed decides
what happens next: a worker is killed, told to end, or frozen past its lease; a task is cancelled
here, cancelled or terminated there; the server is killed, with its data or without; PostgreSQL is
frozen. Then every task must have ended, and rows, tapes, the runs' own witness and Temporal agree.

``--share`` runs the other one: tasks on Temporal beside ten times as many without it, on one store,
none of which the wrong worker may take. Exits with 1 if anything was bad.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from tapescope import Submission, TaskHandle, TaskManager
from tapescope.model import Task, TaskStatus
from tapescope.testing import until
from tapescope_adapters.temporal import TemporalEngine
from tests.stress.delays import pause
from tests.stress.fleet import wait_until_ended
from tests.stress.witness import read_witness
from tests.support.services import Postgres, running_postgres
from tests.temporal.server import TemporalProcess
from tests.temporal.workers import WorkerProcess

__all__ = ["Found", "find_faults", "main", "share", "stress"]

WORKERS: Final = 3
AT_ONCE: Final = 60
"""Tasks that have not ended, while the acts go on."""
RETRIES: Final = 200
"""More than acts can spend: a task that fails was wronged."""
HEARTBEAT: Final = 2.0
LEASE: Final = 3.0
FROZEN: Final = LEASE + 2.0
BETWEEN: Final = (0.1, 0.7)
"""Seconds from one act to the next."""
ENDED_WITHIN: Final = 300.0

ACTS: Final = {
    "kill a worker": 20,
    "end a worker": 8,
    "freeze a worker": 6,
    "cancel here": 30,
    "cancel there": 20,
    "terminate there": 8,
    "kill the server": 5,
    "kill the server and its data": 2,
    "freeze PostgreSQL": 2,
}
"""How often each is drawn, by weight."""


@dataclass
class Found:
    """What the run came to."""

    acts: Counter[str] = field(default_factory=Counter[str])
    outcomes: Counter[str] = field(default_factory=Counter[str])
    figures: list[str] = field(default_factory=list[str])
    bad: list[str] = field(default_factory=list[str])

    def describe(self) -> str:
        """For a person."""
        return "\n".join(
            [
                "acts: " + ", ".join(f"{n} × {what}" for what, n in self.acts.most_common()),
                "tasks: " + ", ".join(f"{n} {how}" for how, n in self.outcomes.most_common()),
                *self.figures,
                f"{len(self.bad)} bad",
                *self.bad,
            ]
        )


class Stage:
    """The servers, the workers and who submits."""

    def __init__(self, postgres: Postgres, server: TemporalProcess, folder: Path) -> None:
        self.postgres, self.server, self.folder = postgres, server, folder
        self.url = postgres.url()
        self._kept = ExitStack()
        self.workers: list[WorkerProcess] = []

    @asynccontextmanager
    async def open(self, engine: bool = True) -> AsyncGenerator[TaskManager]:
        """A manager that works on nothing, with the engine or without."""
        async with TaskManager(
            self.url,
            engine=TemporalEngine(self.server.url, heartbeat=HEARTBEAT) if engine else None,
            work=False,
            audit_every=None,
        ) as manager:
            yield manager

    def start_worker(self, engine: bool = True) -> WorkerProcess:
        """Another one, which ends with the stage."""
        worker = WorkerProcess(
            self.url,
            self.server.url if engine else None,
            self.folder / "workers.log",
            lease=LEASE,
            heartbeat=HEARTBEAT,
            witness=self.folder,
        )
        self.workers.append(self._kept.enter_context(worker))
        return worker

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncGenerator[Stage]:
        """Both servers, without a worker yet; at the end all is ended."""
        with (
            tempfile.TemporaryDirectory(prefix="tapes-temporal-") as name,
            running_postgres() as postgres,
        ):
            server = TemporalProcess(Path(name) / "temporal")
            stage = cls(postgres, server, Path(name))
            try:
                server.start()
                await server.wait_up()
                yield stage
            finally:
                stage._kept.close()
                server.kill()

    async def let_end(self, manager: TaskManager) -> None:
        """Wait until every task has ended; which ones have not is told by the judge."""
        with suppress(AssertionError):
            await wait_until_ended(manager.store, within=ENDED_WITHIN)


class Chaos:
    """Draws acts, and does them."""

    def __init__(self, stage: Stage, manager: TaskManager, seed: int, found: Found) -> None:
        self._stage, self._manager, self._found = stage, manager, found
        self._random = random.Random(seed)
        self._thawing: list[asyncio.Task[None]] = []
        self.handles: list[TaskHandle] = []
        self.unwanted: set[str] = set()
        """Tasks of which a cancel was asked for, on whichever side."""
        self._does: dict[str, Callable[[], Awaitable[None]]] = {
            "kill a worker": self._kill_worker,
            "end a worker": self._end_worker,
            "freeze a worker": self._freeze_worker,
            "cancel here": self._cancel_here,
            "cancel there": self._cancel_there,
            "terminate there": self._terminate_there,
            "kill the server": self._kill_server,
            "kill the server and its data": self._kill_data,
            "freeze PostgreSQL": self._freeze_postgres,
        }

    async def run(self, acts: int) -> None:
        """So many acts, one after the other, while tasks go through; then all is as it was."""
        for _ in range(acts):
            await self._feed()
            (act,) = self._random.choices([*ACTS], [*ACTS.values()])
            await self._does[act]()
            self._found.acts[act] += 1
            await pause(self._random.uniform(*BETWEEN))
        await asyncio.gather(*self._thawing)

    async def _feed(self) -> None:
        """Submit as many as have ended."""
        counts = await self._manager.store.count()
        open_ones = counts.get(TaskStatus.PENDING, 0) + counts.get(TaskStatus.RUNNING, 0)
        new = [
            Submission(
                "noted",
                params={
                    "steps": self._random.randint(1, 12),
                    "pause": self._random.choice([0.02, 0.1, 0.3]),
                },
                retries=RETRIES,
                delay=self._random.choice([0.0, 0.0, 0.0, 1.5]),
                priority=self._random.choice([0, 0, 5]),
            )
            for _ in range(AT_ONCE - open_ones)
        ]
        if new:
            self.handles += await self._manager.submit_many(new)

    def _choose(self) -> TaskHandle:
        return self._random.choice(self.handles[-2 * AT_ONCE :])

    async def _kill_worker(self) -> None:
        worker = self._stage.workers.pop(self._random.randrange(WORKERS))
        await asyncio.to_thread(worker.kill)
        self._stage.start_worker()

    async def _end_worker(self) -> None:
        worker = self._stage.workers.pop(self._random.randrange(WORKERS))
        status = await asyncio.to_thread(worker.terminate)
        if status not in (0, -15):  # a SIGTERM before it listens for one ends it
            self._found.bad.append(f"a worker that was told to end did so with {status}")
        self._stage.start_worker()

    async def _freeze_worker(self) -> None:
        """It wakes up when another one has what it had; meanwhile the acts go on."""
        worker = self._stage.workers.pop(self._random.randrange(WORKERS))
        worker.freeze()
        self._stage.start_worker()

        async def thaw() -> None:
            await pause(FROZEN)
            worker.thaw()
            await pause(FROZEN)  # for its late writes
            await asyncio.to_thread(worker.kill)

        self._thawing.append(asyncio.ensure_future(thaw()))

    async def _cancel_here(self) -> None:
        handle = self._choose()
        self.unwanted.add(handle.task_id)
        await handle.cancel("stress: not any more")

    async def _cancel_there(self) -> None:
        await self._end_there(terminate=False)

    async def _terminate_there(self) -> None:
        await self._end_there(terminate=True)

    async def _end_there(self, *, terminate: bool) -> None:
        task_id = self._choose().task_id
        self.unwanted.add(task_id)
        with suppress(RPCError):  # it has ended there, or its server has lost it
            client = await Client.connect(self._stage.server.target)
            activity = client.get_activity_handle(task_id)
            await (activity.terminate() if terminate else activity.cancel())

    async def _kill_server(self) -> None:
        await self._restart(keeps=True)

    async def _kill_data(self) -> None:
        await self._restart(keeps=False)

    async def _restart(self, *, keeps: bool) -> None:
        server = self._stage.server
        server.kill()
        if not keeps:
            server.lose_data()
        await self._feed()  # what is submitted meanwhile waits on the store
        await pause(self._random.uniform(0.0, 2.0))
        server.start()
        await server.wait_up()

    async def _freeze_postgres(self) -> None:
        self._stage.postgres.freeze()
        try:
            await pause(FROZEN)
        finally:
            self._stage.postgres.thaw()


async def stress(acts: int, seed: int) -> Found:
    """Tasks through so many acts, all judged."""
    found = Found()
    async with Stage.running() as stage:
        for _ in range(WORKERS):
            stage.start_worker()
        async with stage.open() as manager:
            chaos = Chaos(stage, manager, seed, found)
            await chaos.run(acts)
            await stage.let_end(manager)
            await _judge(manager, chaos, stage.folder, found)
            await _judge_there(stage.server, found)
    return found


async def share(tasks: int, seed: int) -> Found:
    """So many tasks on Temporal beside ten times as many without it, on one store."""
    found = Found()
    order = [True] * tasks + [False] * (10 * tasks)
    random.Random(seed).shuffle(order)
    async with (
        Stage.running() as stage,
        stage.open() as theirs,
        stage.open(engine=False) as own,
    ):
        brought = {True: set[int](), False: set[int]()}
        for engine in (True, False, True, False):
            brought[engine].add(stage.start_worker(engine).pid)
        began = time.perf_counter()
        handles: list[tuple[bool, TaskHandle]] = []
        for first in range(0, len(order), 500):
            for engine, manager in ((True, theirs), (False, own)):
                count = order[first : first + 500].count(engine)
                new = await manager.submit_many([Submission("who")] * count)
                handles += [(engine, handle) for handle in new]
        await stage.let_end(own)
        took = time.perf_counter() - began
        for engine, handle in handles:
            row = await own.store.get(handle.task_id)
            found.outcomes[row.status.value] += 1
            last = (await own.tape(handle.task_id)).events[-1:]
            pid = last[0].body.get("result") if row.status is TaskStatus.SUCCEEDED else None
            if pid not in brought[engine] or row.attempt != 1:
                found.bad.append(f"{row.task_id} ({row.engine}, {row.status}) was run by {pid}")
        found.bad += await _audit(own, found)
        found.figures.append(f"{tasks} on Temporal, {10 * tasks} beside them, in {took:.0f} s")
    return found


async def _judge(manager: TaskManager, chaos: Chaos, folder: Path, found: Found) -> None:
    runs = await asyncio.to_thread(read_witness, folder)
    late: Counter[str] = Counter()
    spent = 0
    for handle in chaos.handles:
        row = await manager.store.get(handle.task_id)
        found.outcomes[row.status.value] += 1
        spent += row.retries_spent
        late.update(drop.reason.value for drop in (await handle.drops()).drops)
        wanted = handle.task_id not in chaos.unwanted
        faults = await find_faults(manager, row, runs, wanted=wanted)
        found.bad += [f"{row.task_id}: {fault}" for fault in faults]
    found.bad += await _audit(manager, found)
    found.figures += [
        f"{sum(runs.values())} runs of {len(chaos.handles)} tasks, {spent} retries spent",
        f"late events kept aside: {dict(late) or 'none'}",
    ]


async def _audit(manager: TaskManager, found: Found) -> list[str]:
    """What an audit of the store finds."""
    report = await manager.audit(grace=0.0)
    found.figures.append(f"{report.checked} tapes audited, {len(report.violations)} violations")
    return [f"audit: {one.task_id} {one.rule.value} {one.detail}" for one in report.violations]


async def find_faults(
    manager: TaskManager, row: Task, runs: Counter[tuple[str, int]], *, wanted: bool
) -> list[str]:
    """What is wrong with a task: its row, its tape and the runs of its attempts shall agree.

    ``wanted``: nobody has asked for its cancel.
    """
    bad: list[str] = []
    if row.status is TaskStatus.CANCELLED and wanted:
        bad.append("it was cancelled, and nobody asked for that")
    elif row.status not in (TaskStatus.CANCELLED, TaskStatus.SUCCEEDED):
        bad.append(f"it is {row.status.value}")
    tape = (await manager.tape(row.task_id)).events
    types = Counter(event.type for event in tape)
    if types["final"] != 1 or tape[-1].type != "final":
        bad.append(f"its tape has {types['final']} finals")
    if types["task_started"] != row.attempt:
        bad.append(f"{types['task_started']} attempts began, the row says {row.attempt}")
    ran = [runs[row.task_id, attempt] for attempt in range(1, row.attempt + 1)]
    if any(n > 1 for n in ran) or (row.task_id, row.attempt + 1) in runs:
        bad.append(f"runs of its attempts: {ran}")
    if row.status is TaskStatus.SUCCEEDED and ran[-1] != 1:
        bad.append("it succeeded, and its last attempt never ran once")
    return bad


async def _judge_there(server: TemporalProcess, found: Found) -> None:
    """In Temporal nothing of ours goes on: what has ended here ends there, a moment later."""
    client = await Client.connect(server.target)
    left: list[str] = []

    async def none_goes_on() -> bool:
        nonlocal left
        query = "ExecutionStatus = 'Running'"
        listed = [one.activity_id async for one in client.list_activities(query)]
        going_on: list[str] = []
        for activity_id in listed:  # a listing may be late
            told = await client.get_activity_handle(activity_id).describe()
            if told.status.name == "RUNNING":
                going_on.append(activity_id)
        left = going_on
        return not left

    async def a_moment() -> None:
        await pause(1.0)

    with suppress(AssertionError):  # told below
        await until(none_goes_on, within=120.0, pause=a_moment)
    found.bad += [f"{task_id} goes on in Temporal" for task_id in left]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it, and print what it came to."""
    parser = argparse.ArgumentParser(prog="python -m tests.temporal.stress", description=__doc__)
    parser.add_argument("--acts", type=int, default=300, help="how many; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument(
        "--share", type=int, metavar="N", help="instead: N tasks on Temporal beside 10 N without"
    )
    asked = parser.parse_args(arguments)
    what = stress(asked.acts, asked.seed) if asked.share is None else share(asked.share, asked.seed)
    found = asyncio.run(what)
    print(f"seed {asked.seed}\n{found.describe()}")
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
