"""SIGKILL at a random moment, again and again: what was answered is on the tapes.

One process after the other works on a store, tells each answer on a pipe, and is killed. The next
one rescues what the last one left and goes on with it. At the end a process that is not killed ends
all tasks, and everything that was ever told is looked for.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from tapescope import TaskStore, find_store
from tapescope.maintenance.audit import audit_store
from tapescope.model.tape import FINAL, LOG, Event
from tapescope.model.tasks import Task, TaskStatus
from tapescope.testing import until
from tests.stress.delays import Delays, pause, pause_thread
from tests.stress.harness import Result, read_events, read_rows
from tests.support.services import require
from tests.torture.victim import Workshop, live

__all__ = ["KILLS", "SYNCS", "Told", "judge_told", "play_failing_syncs", "play_kills"]

KILLS: Final = "kill-9"
SYNCS: Final = "syncs-fail"
_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 60.0
"""Seconds for a process to say anything, and for all tasks to end once nothing is killed."""
_MOST_LINES: Final = 150
"""Answers after which a process is killed at the latest: some have only opened the store."""


class Told:
    """What the processes told before they were killed."""

    def __init__(self) -> None:
        self.made: dict[str, str] = {}
        """The part of each task whose submit was answered."""
        self.runs: Counter[tuple[str, int]] = Counter()
        self.events: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        """By task: attempt and number of each report that was answered."""
        self.cancels: dict[str, str] = {}
        self.ends: dict[str, str] = {}

    def note(self, line: bytes) -> None:
        """Take a line."""
        kind, task_id, *rest = json.loads(line)
        match kind:
            case "made":
                self.made[task_id] = rest[0]
            case "run":
                self.runs[task_id, rest[0]] += 1
            case "event":
                self.events[task_id].add((rest[0], rest[1]))
            case "cancel":
                self.cancels[task_id] = rest[0]
            case "end":
                self.ends[task_id] = rest[0]
            case _:
                raise AssertionError(f"a line that nobody tells: {line!r}")

    def count(self) -> int:
        """All answers."""
        events = sum(map(len, self.events.values()))
        return len(self.made) + events + len(self.cancels) + len(self.ends)


def play_kills(store_name: str, url: str, kills: int, seed: int) -> Result:
    """So many processes killed on one store, and all that they were told looked for."""
    context = multiprocessing.get_context("forkserver")  # imports once, not with each process
    context.set_forkserver_preload(["tests.torture.victim"])

    @contextmanager
    def begin(seed: int) -> Generator[tuple[Connection, Callable[[], None]]]:
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=live, args=(url, seed, writer))
        process.start()
        writer.close()  # the pipe ends with the process
        with reader:
            yield reader, process.kill
        process.join()
        process.close()

    return _play(KILLS, store_name, url, kills, seed, begin)


def play_failing_syncs(store_name: str, url: str, kills: int, seed: int) -> Result:
    """The same, and each so manieth sync of a file fails: what could not be synced was no answer.

    The system calls are made to fail by ``strace``. Needs it.
    """
    strace, chance = require("strace"), random.Random(seed)

    @contextmanager
    def begin(seed: int) -> Generator[tuple[Connection, Callable[[], None]]]:
        read, write = os.pipe()
        first, every = chance.randrange(1, 40), chance.randrange(3, 12)
        fault = f"inject=fsync,fdatasync:error=EIO:when={first}+{every}"
        argv = (
            *(strace, "-D", "-f", "-qqq", "--seccomp-bpf", "-A", "-o", str(log)),
            *("-e", "trace=fsync,fdatasync", "-e", fault),
            *(sys.executable, "-m", "tests.torture.victim", url, str(seed), str(write)),
        )
        with (
            Connection(read, writable=False) as reader,
            subprocess.Popen(argv, cwd=_ROOT, pass_fds=[write]) as process,
        ):
            os.close(write)
            yield reader, process.kill

    with tempfile.TemporaryDirectory(prefix="tapes-syncs-") as folder:
        log = Path(folder) / "syncs"
        result = _play(SYNCS, store_name, url, kills, seed, begin)
        syncs = log.read_text(errors="replace").splitlines()
    failed = sum(line.endswith("(INJECTED)") for line in syncs)
    result.figures.append(f"{failed} of {len(syncs)} syncs failed")
    return result


Begin = Callable[[int], AbstractContextManager[tuple[Connection, Callable[[], None]]]]
"""Begins a process with a seed; gives the pipe of its answers, and what kills it."""


def _play(kind: str, store_name: str, url: str, kills: int, seed: int, begin: Begin) -> Result:
    result = Result(kind, store_name, seed)
    delays, told = Delays(seed), Told()
    began = time.perf_counter()
    for _ in range(kills):
        with begin(delays.random.randrange(1 << 32)) as (reader, kill):
            try:
                lines = _read_lines(reader)
                for line in islice(lines, delays.random.randrange(_MOST_LINES)):
                    told.note(line)
                pause_thread(delays.draw("kill after the last answer", 0, 5))
            finally:
                kill()
            for line in lines:
                told.note(line)
        result.runs += 1
    asyncio.run(_end_all(url, told, result))
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    return result


def _read_lines(reader: Connection) -> Generator[bytes]:
    """What a process tells, line by line, until the pipe ends."""
    rest = b""
    with open(reader.fileno(), "rb", buffering=0, closefd=False) as pipe:
        while True:
            assert reader.poll(_PATIENCE), "a process says nothing any more"
            if not (chunk := pipe.read(1 << 16)):
                assert not rest, f"half a line: {rest!r}"
                return
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole


async def _end_all(url: str, told: Told, result: Result) -> None:
    """Have all tasks end, then judge."""
    async with find_store(url) as store, Workshop(None).make_manager(url):

        async def have_ended() -> bool:
            counts = await store.count()
            return not counts.get(TaskStatus.PENDING) and not counts.get(TaskStatus.RUNNING)

        await until(have_ended, within=_PATIENCE, pause=lambda: pause(0.05))
        await judge_told(store, told, result)


async def judge_told(store: TaskStore, told: Told, result: Result) -> None:
    """Whether each answer that was told still holds, and each task ended as it has to."""
    rows = {row.task_id: row async for row in read_rows(store)}
    for task_id in told.made.keys() - rows.keys():
        result.blame(task_id, "a submit was answered, and the task is not there")
    attempts = 0
    for task_id, row in rows.items():
        result.outcomes[row.status.value] += 1
        attempts += row.attempt
        tape = [event async for event in read_events(store, task_id)]
        for fault in _judge_tape(row, tape, told):
            result.blame(task_id, fault)
        result.late += sum((await store.read_quarantine(task_id)).counts.values())
    for (task_id, attempt), times in told.runs.items():
        if times > 1:
            result.blame(task_id, f"attempt {attempt} was begun {times} times")
    audit = await audit_store(store, grace=0)
    for violation in audit.violations:
        result.blame(violation.task_id, f"{violation.rule.value}: {violation.detail}")
    result.cancels.update(told.cancels.values())
    result.figures = [
        f"{len(rows)} tasks, {attempts} attempts, {told.count()} answers",
        f"{audit.checked} tapes audited, {len(audit.violations)} violations",
    ]


def _judge_tape(row: Task, tape: list[Event], told: Told) -> Generator[str]:
    task_id, status = row.task_id, row.status.value
    if [event.type for event in tape].count(FINAL) != 1 or tape[-1].type != FINAL:
        yield f"its tape: {[event.type for event in tape]}"
        return
    if tape[-1].body["outcome"] != status:
        yield f"its row says {status}, its final {tape[-1].body['outcome']}"
    written = defaultdict[int, list[int]](list)
    for event in tape:
        if event.type == LOG:
            written[event.attempt].append(int(event.body["message"]))
    for attempt, numbers in written.items():  # each was awaited before the next
        if numbers != [*range(len(numbers))]:
            yield f"reports of attempt {attempt}: {numbers}"
    stored = {(attempt, number) for attempt, some in written.items() for number in some}
    if lost := told.events[task_id] - stored:
        yield f"reports that were answered are not on the tape: {sorted(lost)}"
    if told.ends.get(task_id, status) != status:
        yield f"its caller was told {told.ends[task_id]}, and it is {status}"
    cancel = told.cancels.get(task_id)
    if cancel in ("recorded", "cancelled", "already_recorded") and status != "cancelled":
        yield f"its cancel was answered with {cancel}, and it is {status}"
    if row.op != "cancelled" and status != "succeeded":
        yield f"nobody cancelled it, and it is {status}: {tape[-1].body}"
