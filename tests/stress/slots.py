"""Slots: many tasks of one key, and of some others, through real workers that are killed.

Judged from the tapes alone: an attempt has its slot from before its first own event until after its
last one, or until somebody else's event ends it. So nowhere may more of these overlap than the key
has slots.
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Final

from tapescope import Submission, find_store
from tapescope.model.tape import ATTEMPT_FAILED, LOG
from tapescope.model.tasks import Task
from tapescope.store.port import TaskStore
from tests.stress.fleet import KILL_EVERY, WORKERS, Fleet, judge_audit, work_off
from tests.stress.harness import Result
from tests.stress.slots_program import BEGUN, OP, SLOTS

__all__ = ["SLOTTED", "play_slots"]

SLOTTED: Final = "slots"
WORK: Final = 0.05
"""Seconds that a task keeps its slot: a kill shall find one that is held."""
RETRIES: Final = 100
"""More than kills."""


async def play_slots(
    store_name: str,
    url: str,
    tasks: int,
    *,
    workers: int = WORKERS,
    kill_every: float | None = KILL_EVERY,
) -> Result:
    """So many tasks, most of one key, through so many workers; times are in seconds."""
    result = Result(SLOTTED, store_name, seed=0)
    began = time.perf_counter()
    async with find_store(url) as store:
        async with Fleet(url, "tests.stress.slots_program:manager", OP).running(workers) as fleet:
            rows = await work_off(
                store,
                fleet,
                [_submission(n) for n in range(tasks)],
                result,
                kill_every=kill_every,
            )
        most = await _judge(store, rows, result)
        audited = await judge_audit(store, result)
    result.figures = [
        f"{fleet.killed} workers killed, {sum(row.retries_spent for row in rows)} attempts lost",
        f"at most {most} at once of a key with {SLOTS} slots",
        audited,
    ]
    result.late = most
    result.seconds = time.perf_counter() - began
    return result


def _submission(n: int) -> Submission:
    """Of three fourths of the tasks the key is one; every tenth task takes no time."""
    key = "most" if n % 4 else f"other{n % 3}"
    params = {"seconds": 0.0 if n % 10 == 0 else WORK}
    return Submission(OP, params=params, retries=RETRIES, concurrency_key=key)


async def _judge(store: TaskStore, rows: list[Task], result: Result) -> int:
    """The most that ran at once of a key, as the tapes have it."""
    moves: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        held: dict[int, list[int]] = {}
        for event in (await store.read_tape(row.task_id)).events:
            if event.type == LOG and event.body["message"] == BEGUN:
                held[event.attempt] = [event.ts_us]
            elif event.attempt in held and event.type in (LOG, ATTEMPT_FAILED):
                held[event.attempt].append(event.ts_us)
        for times in held.values():
            moves[row.concurrency_key] += [(min(times), 1), (max(times), -1)]
    most = 0
    for key, of_key in moves.items():
        running = 0
        for at, step in sorted(of_key):  # an end goes before a begin of the same moment
            running += step
            most = max(most, running)
            if running > SLOTS:
                result.blame(f"key {key}", f"{running} at once, at {at}")
    return most
