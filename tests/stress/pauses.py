"""Processes that are paused past their leases and woken: nothing of them may reach the tapes.

A worker is stopped with SIGSTOP, its tasks are taken by another owner when their leases are over,
and the worker is woken while half of the next attempts still run. Then its reports must be refused,
its spans be ``lost``, and its shell commands be ended, with all of their processes.
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

from tapescope import find_store
from tapescope.audit import audit_store
from tapescope.store import Rescued, TaskStore
from tapescope.tape import NewEvent
from tapescope.tasks import Claim
from tapescope.tasks import Final as FinalEvent
from tests.pausing import pause_process
from tests.polling import until
from tests.stress.harness import Result
from tests.stress.paused_worker import PARTS

__all__ = ["PAUSE", "play_pauses"]

PAUSE: Final = "paused-worker"
AT_ONCE: Final = 30
"""Tasks of a process that is paused."""
_ROOT: Final = Path(__file__).parents[2]
_OTHER: Final = "another owner"
_OPS: Final = [f"pause-{part}" for part in PARTS]
_LATE: Final = {"stale_attempt", "after_terminal"}


async def play_pauses(store_name: str, url: str, runs: int, at_once: int = AT_ONCE) -> Result:
    """At least ``runs`` tasks of paused processes, all judged."""
    result = Result(PAUSE, store_name, seed=0)
    began = time.perf_counter()
    async with find_store(url) as store:
        while result.runs < runs:
            await _Round(store, url, result).play(min(at_once, max(len(PARTS), runs - result.runs)))
        audit = await audit_store(store, grace=0)
        for violation in audit.violations:
            result.blame(violation.task_id, f"{violation.rule.value}: {violation.detail}")
    result.seconds = time.perf_counter() - began
    return result


class _Round:
    """One worker from its start to its end."""

    def __init__(self, store: TaskStore, url: str, result: Result) -> None:
        self._store, self._url, self._result = store, url, result
        self._told: defaultdict[str, list[Any]] = defaultdict(list)
        """What the worker printed, by kind of fact."""

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
            rescued = await self._rescue(set(parts))
            claims = [await self._claim(one) for one in rescued]
            early, late = claims[::2], claims[1::2]
            for claim in early:
                await self._finish(claim)
            worker.send_signal(signal.SIGCONT)
            await self._listen(worker, "ledger")
            await worker.wait()
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
        stale = [await self._drop_reasons(claim) for claim in late]
        for claim in late:
            await self._finish(claim)
        for claim, reasons in zip(late, stale, strict=True):
            if reasons != {"stale_attempt"}:
                self._result.blame(claim.task.task_id, f"drops on an open tape: {reasons}")
        for one in rescued:
            await self._judge(one, parts[one.task.task_id])
        if self._told["ledger"][0] != {"ledger": 0, "in_flight": 0}:
            self._result.blame("worker", f"I7: {self._told['ledger'][0]}")

    async def _listen(self, worker: Process, kind: str) -> None:
        """Note what the worker prints, up to a fact of this kind."""
        assert worker.stdout is not None
        async with asyncio.timeout(60):
            while not self._told[kind]:
                line = await worker.stdout.readline()
                assert line, f"the worker has ended and never told {kind!r}"
                fact = json.loads(line)
                self._told[next(iter(fact))].append(fact)

    async def _rescue(self, tasks: set[str]) -> list[Rescued]:
        """Take the tasks once their leases are over, as another process does."""
        taken: dict[str, Rescued] = {}

        async def all_taken() -> bool:
            for one in await self._store.rescue_expired(ops=_OPS):
                taken[one.task.task_id] = one
            return tasks <= set(taken)

        await until(all_taken, within=60)
        return list(taken.values())

    async def _claim(self, one: Rescued) -> Claim:
        claim = await self._store.claim_if_pending(
            await self._store.get(one.task.task_id), _OTHER, 600
        )
        assert claim is not None, "a task that was just rescued is anybody's"
        return claim

    async def _finish(self, claim: Claim) -> None:
        _ = await self._store.append(claim.attempt, [NewEvent("log", {"line": "done by another"})])
        finished = await self._store.finish_if_running(claim.attempt, FinalEvent.succeeded())
        if not finished.won:
            self._result.blame(claim.task.task_id, f"the next attempt lost: {finished}")

    async def _drop_reasons(self, claim: Claim) -> set[str]:
        page = await self._store.read_quarantine(claim.task.task_id)
        return {reason.value for reason in page.counts}

    async def _judge(self, one: Rescued, part: str) -> None:
        task_id, result = one.task.task_id, self._result
        result.runs += 1
        row = await self._store.get(task_id)
        result.outcomes[row.status.value] += 1
        if (row.status.value, row.attempt) != ("succeeded", 2):
            result.blame(task_id, f"it ended as {row.status.value}, attempt {row.attempt}")
        after = await self._store.read_tape(task_id, after_seq=one.last_seq)
        told = [(event.type, event.attempt) for event in after.events]
        if told != [("task_started", 2), ("log", 2), ("final", 2)]:
            result.blame(task_id, f"the next attempt's tape: {told}")
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
