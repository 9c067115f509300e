"""Cancels against rescues: tasks of an owner that is dead are taken and cancelled at once."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from tapescope.model.leases import Rescued, RescueResult
from tapescope.model.tasks import NewTask, TaskStatus
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import History
from tests.stress.benches import Bench
from tests.stress.delays import Delays, pause
from tests.stress.harness import AT_ONCE, Result, judge, judge_recorded

__all__ = ["RESCUE", "play_rescues"]

RESCUE: Final = "rescue-cancel"
_DEAD: Final = "gone:1:0:aa"
_OP: Final = "stress-lost"
_LEASE: Final = 600.0
"""It is not over: the owner is known to be dead."""


async def play_rescues(bench: Bench, runs: int, seed: int) -> Result:
    """At least ``runs`` lost tasks, each of them rescued and cancelled at about the same time."""
    result = Result(RESCUE, bench.name, seed)
    delays = Delays(seed)
    began = time.perf_counter()
    while result.runs < runs:
        history = bench.store.history = History()
        history.began_with = bench.store.meter.ledger.read()
        tasks = [
            await _lose_one(bench.store, delays.random.randrange(2))
            for _ in range(min(AT_ONCE, runs - result.runs))
        ]
        async with bench.beside(history) as outside:
            await asyncio.gather(
                _rescue(bench.store, len(tasks), delays),
                _rescue(outside, len(tasks), delays),
                *(
                    _cancel(delays.random.choice([bench.store, outside]), task, delays)
                    for task in tasks
                ),
            )
        await judge(bench, history, result, runs=False)
        await judge_recorded(bench, history, result)
        for task in tasks:
            await _judge_one(bench.store, task, history, result)
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    return result


async def _lose_one(store: TaskStore, retries: int) -> str:
    """A task that runs, and whose owner is dead."""
    task, _ = await store.create(NewTask(new_task_id(), _OP, retries=retries))
    claim = await store.claim_if_pending(task, _DEAD, _LEASE)
    assert claim is not None
    return task.task_id


async def _rescue(store: TaskStore, tasks: int, delays: Delays) -> None:
    """Take a few at a time, in the order of their ids, as long as there are some."""
    for _ in range(tasks):
        await pause(delays.draw("between two rescues", 0, 1))
        ops = [_OP] if delays.random.random() < 0.8 else []
        await store.leases.rescue_expired(
            delays.random.randrange(1, 4), ops=ops, dead_owners=[_DEAD]
        )


async def _cancel(store: TaskStore, task_id: str, delays: Delays) -> None:
    await pause(delays.draw("cancel after the start", 0, 60))
    await store.request_cancel(task_id, message="stress")


async def _judge_one(store: TaskStore, task_id: str, history: History, result: Result) -> None:
    """What the rescuer and the canceller were told agrees with how it ended."""
    task = await store.get(task_id)
    answers = [call.answer for call in history.calls if call.task_id == task_id]
    (cancel,) = [answer for answer in answers if isinstance(answer, CancelAnswer)]
    rescues = [answer.result for answer in answers if isinstance(answer, Rescued)]
    result.cancels[f"rescue: {', '.join(rescues)}"] += 1
    if len(rescues) > 1:
        result.blame(task_id, f"it was rescued {len(rescues)} times")
    lost = task.status is TaskStatus.FAILED
    if lost != (cancel.state is CancelState.TERMINAL) or lost != (rescues == [RescueResult.FAILED]):
        result.blame(task_id, f"{task.status.value}, {cancel.state.value}, {rescues}")
