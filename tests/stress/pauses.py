"""Processes that are paused past their leases and woken: nothing of them may reach the tapes.

A worker is stopped with SIGSTOP. Another one, which has registered the same ops, rescues its tasks
when their leases are over and runs them again; the first is woken while half of the next attempts
still run. Then its reports must be refused, its spans be ``lost``, and its shell commands be ended,
with all of their processes, while each of the next attempts succeeds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import psutil

from tapescope import Reporter, TaskManager, find_store
from tapescope.store.port import TaskStore
from tapescope.testing import until
from tests.stress.fleet import judge_audit
from tests.stress.harness import Result
from tests.stress.paused_worker import HEARTBEAT, LEASE, PARTS, op_of
from tests.support.pausing import pause_process

__all__ = ["PAUSE", "play_pauses"]

PAUSE: Final = "paused-worker"
AT_ONCE: Final = 30
"""Tasks of a process that is paused."""
_ROOT: Final = Path(__file__).parents[2]
_DONE: Final = "done by another"
_NEXT: Final = [("attempt_failed", 1), ("task_started", 2), ("log", 2), ("final", 2)]
"""What a tape tells from the rescue on."""
_LATE: Final = {"stale_attempt", "after_terminal"}


async def play_pauses(store_name: str, url: str, runs: int, at_once: int = AT_ONCE) -> Result:
    """At least ``runs`` tasks of paused processes, all judged."""
    result = Result(PAUSE, store_name, seed=0)
    began = time.perf_counter()
    async with find_store(url) as store:
        while result.runs < runs:
            await _Round(store, url, result).play(min(at_once, max(len(PARTS), runs - result.runs)))
        await judge_audit(store, result)
    result.seconds = time.perf_counter() - began
    return result


class _Round:
    """One worker from its start to its end, and the other one that takes its tasks."""

    def __init__(self, store: TaskStore, url: str, result: Result) -> None:
        self._store, self._url, self._result = store, url, result
        self._told: defaultdict[str, list[Any]] = defaultdict(list)
        """What the worker printed, by kind of fact."""
        self._begun: list[str] = []
        """The tasks that the other one runs or ran, in the order in which it began them."""
        self._go_on = asyncio.Event()

    async def play(self, tasks: int) -> None:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.stress.paused_worker", self._url, str(tasks)),
            cwd=_ROOT,
            stdout=PIPE,
            limit=1 << 20,
        )
        try:
            await self._listen(worker, "ready")
            parts: dict[str, str] = {task: part for part, task in self._told["ready"][0]["ready"]}
            await pause_process(worker.send_signal, self._url)
            async with TaskManager(self._store, lease=LEASE, heartbeat=HEARTBEAT) as other:
                for part in PARTS:
                    other.op(op_of(part))(self._run_again)
                await until(lambda: set(self._begun) == set(parts), within=60)
                early, late = self._begun[::2], self._begun[1::2]
                await asyncio.gather(*(other.handle(task).result(timeout=60) for task in early))
                worker.send_signal(signal.SIGCONT)
                await self._listen(worker, "ledger")
                await worker.wait()
                stale = [await self._drop_reasons(task) for task in late]
                self._go_on.set()
                results = [await other.handle(task).result(timeout=60) for task in parts]
        finally:
            self._go_on.set()
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        for task, reasons in zip(late, stale, strict=True):
            if reasons != {"stale_attempt"}:
                self._result.blame(task, f"drops on an open tape: {reasons}")
        if results != [_DONE] * tasks or len(self._begun) != tasks:
            self._result.blame("other", f"{len(self._begun)} runs of its own: {results}")
        for task, part in parts.items():
            await self._judge(task, part)
        if self._told["ledger"][0] != {"ledger": 0, "in_flight": 0}:
            self._result.blame("worker", f"I7: {self._told['ledger'][0]}")

    async def _run_again(self, report: Reporter) -> str:
        """The other one's runner: every second one runs until the first worker was woken."""
        self._begun.append(report.task_id)
        waits = len(self._begun) % 2 == 0
        await report.log("info", "begun by another")
        if waits:
            await self._go_on.wait()
        return _DONE

    async def _listen(self, worker: Process, kind: str) -> None:
        """Note what the worker prints, up to a fact of this kind."""
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            while not self._told[kind]:
                line = await worker.stdout.readline()
                assert line, f"the worker has ended and never told {kind!r}"
                fact = json.loads(line)
                self._told[next(iter(fact))].append(fact)

    async def _drop_reasons(self, task_id: str) -> set[str]:
        page = await self._store.read_quarantine(task_id)
        return {reason.value for reason in page.counts}

    async def _judge(self, task_id: str, part: str) -> None:
        result = self._result
        result.runs += 1
        row = await self._store.get(task_id)
        result.outcomes[row.status.value] += 1
        if (row.status.value, row.attempt, row.retries_spent) != ("succeeded", 2, 1):
            result.blame(task_id, f"it ended as {row.status.value}, attempt {row.attempt}")
        tape = (await self._store.read_tape(task_id)).events
        told = [(event.type, event.attempt) for event in tape]
        rescued = told.index(("attempt_failed", 1)) if ("attempt_failed", 1) in told else 0
        if told[rescued:] != _NEXT:
            result.blame(task_id, f"the tape from the rescue on: {told[rescued:]}")
        if tape[rescued].body.get("error", {}).get("code") != "worker_lost":
            result.blame(task_id, f"the first attempt ended with {tape[rescued].body}")
        drops = await self._store.read_quarantine(task_id)
        result.late += sum(drops.counts.values())
        reasons = {reason.value for reason in drops.counts}
        if not reasons or not reasons <= _LATE:
            result.blame(task_id, f"its late reports ({part}): {reasons}")
        spans = [fact for fact in self._told["span"] if fact["span"] == task_id]
        if [(fact["outcome"], fact["status"]) for fact in spans] != [("lost", "ERROR")]:
            result.blame(task_id, f"its spans: {spans}")
        fates = {fact["fate"] for fact in self._told["late"] if fact["late"] == task_id}
        if part != "shell" and (not fates or not fates <= _LATE):
            result.blame(task_id, f"its runner ({part}) was told: {fates}")
        if part == "shell":
            await self._judge_processes(task_id)

    async def _judge_processes(self, task_id: str) -> None:
        tape = await self._store.read_tape(task_id)
        lines = [str(event.body.get("line", "")) for event in tape.events if event.type == "log"]
        (line,) = [line for line in lines if line.startswith("pids ")]
        alive = [pid for pid in map(int, line.split()[1:]) if _is_alive(pid)]
        if alive:
            self._result.blame(task_id, f"processes of its command go on: {alive}")


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
