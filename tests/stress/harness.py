"""Plays scenarios of a kind on a store, many at once, and has every one of them judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tapescope import TaskHandle, TaskManager
from tapescope.errors import ManagerClosed, TaskCancelled, TaskFailed
from tapescope.model.tape import ATTEMPT_FAILED, Event
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.flush import CancelAnswer, CancelState
from tapescope.store.port import TaskStore
from tapescope.testing import History, check, until
from tests.stress.actors import Actor
from tests.stress.benches import Bench
from tests.stress.claims import CLAIMS, play_claims
from tests.stress.delays import Delays, pause
from tests.stress.kinds import KINDS, RETRY, SHUTDOWN

__all__ = [
    "AT_ONCE",
    "Result",
    "judge",
    "judge_recorded",
    "play",
    "read_events",
    "read_rows",
    "tabulate",
]

AT_ONCE: Final = 64
"""Scenarios at the same time on one store."""

SHUTDOWNS: Final = 4
"""Managers on the store that are closed, each at a moment of its own, in a batch of that kind."""

GRACE: Final = 0.03
"""Seconds of the manager's ``cancel_grace``: runners that go on are fenced within a scenario."""


RETRY_DELAY: Final = 0.002
"""Seconds before the first retry."""

_PAGE: Final = 500


@dataclass
class Result:
    """What a kind's runs on a store came to."""

    kind: str
    store: str
    seed: int
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter[str])
    cancels: Counter[str] = field(default_factory=Counter[str])
    """What the cancel requests met."""
    late: int = 0
    """Events that were dropped."""
    bad: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """By task, or by what else was wrong: the violations."""
    seconds: float = 0.0
    delays: list[str] = field(default_factory=list[str])
    figures: list[str] = field(default_factory=list[str])
    """What was measured by the way, a sentence each."""

    def blame(self, what: str, violation: str) -> None:
        """Note a violation."""
        self.bad.setdefault(what, []).append(violation)


async def play(
    bench: Bench,
    kind: str,
    runs: int,
    seed: int,
    *,
    patience: float = 30.0,
    at_once: int = AT_ONCE,
) -> Result:
    """At least ``runs`` scenarios of a kind, ``at_once`` at the same time, all judged.

    ``patience`` is how many seconds a task may take to end before the harness gives it up.
    """
    result = Result(kind, bench.name, seed)
    delays = Delays(seed)
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: result.blame("loop", str(context)))
    began = time.perf_counter()
    while result.runs < runs:
        history = bench.store.history = History()
        history.began_with = bench.store.meter.ledger.read()
        if kind == CLAIMS:
            await play_claims(bench.store, min(at_once, runs - result.runs), delays, patience)
            await judge(bench, history, result, runs=False)
            continue
        actors = [Actor(KINDS[kind](delays)) for _ in range(min(at_once, runs - result.runs))]
        crews = [actors[n::SHUTDOWNS] for n in range(SHUTDOWNS)] if kind == SHUTDOWN else [actors]
        async with bench.beside(history) as outside:
            await asyncio.gather(
                *(
                    _play_crew(bench, outside, crew, delays, patience, shutdown=kind == SHUTDOWN)
                    for crew in crews
                    if crew
                )
            )
        await judge(bench, history, result)
        if kind == RETRY:
            await judge_recorded(bench, history, result)
    result.seconds = time.perf_counter() - began
    result.delays = delays.describe()
    loop.set_exception_handler(None)
    return result


async def _play_crew(
    bench: Bench,
    outside: TaskStore,
    actors: list[Actor],
    delays: Delays,
    patience: float,
    *,
    shutdown: bool,
) -> None:
    manager = TaskManager(
        bench.store,
        cancel_grace=GRACE,
        drain=delays.draw("drain", 0, 10) if shutdown else patience,
        max_running=max(1, len(actors) * 3 // 4),  # some are cancelled while they wait for a slot
        max_zombies=2 * AT_ONCE,
        retry_delay=RETRY_DELAY,
    )
    close_after = delays.draw("shutdown after the start", 0, 30) if shutdown else 0.0
    await manager.open()
    scenes = [
        asyncio.ensure_future(_play_one(bench, outside, manager, a, patience)) for a in actors
    ]
    if shutdown:
        await pause(close_after)
        await manager.aclose()
    await asyncio.gather(*scenes)
    await manager.aclose()
    await until(lambda: all(actor.at_rest for actor in actors), within=60)


async def _play_one(
    bench: Bench, outside: TaskStore, manager: TaskManager, actor: Actor, patience: float
) -> None:
    plan = actor.plan
    runner: Any = actor.run_in_thread if plan.part == "thread" else actor.run
    try:
        handle = await manager.submit(f"stress-{plan.part}", runner, retries=plan.retries)
    except ManagerClosed:
        return
    following = asyncio.ensure_future(_follow(bench, handle)) if plan.follow else None
    cancelling = asyncio.ensure_future(_cancel(handle, outside, actor))
    with suppress(TaskCancelled, TaskFailed, TimeoutError):  # the judge finds one that did not end
        await handle.result(timeout=patience)
    actor.about_to_end.set()  # a shutdown may have ended it long before
    await cancelling
    if following is not None:
        await asyncio.wait([following], timeout=patience)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def _cancel(handle: TaskHandle, outside: TaskStore, actor: Actor) -> None:
    plan = actor.plan
    if plan.cancel_after is None:
        return
    if plan.at_completion:
        await actor.about_to_end.wait()
    if plan.cancel_after:
        await pause(plan.cancel_after)
    if plan.from_outside:
        await outside.request_cancel(handle.task_id, message="stress")
    else:
        await handle.cancel("stress")
    if plan.again_after is not None:
        await pause(plan.again_after)
        await handle.cancel("stress again")


async def _follow(bench: Bench, handle: TaskHandle) -> None:
    history = bench.store.history
    async with aclosing(handle.follow()) as tape:
        async for _ in history.following(handle.task_id, tape):
            pass


async def judge_recorded(bench: Bench, history: History, result: Result) -> None:
    """Whether each cancel that was answered as on record ended its task; and how it got there."""
    on_record = {CancelState.RECORDED, CancelState.CANCELLED, CancelState.ALREADY_RECORDED}
    cancelled = {
        call.task_id: call.answer.attempt
        for call in history.calls
        if isinstance(call.answer, CancelAnswer) and call.answer.state in on_record
    }
    for task_id, attempt in cancelled.items():
        task = await bench.store.get(task_id)
        if task.status is not TaskStatus.CANCELLED:
            result.blame(task_id, f"a cancel on record was lost: it is {task.status.value}")
            continue
        if task.attempt != attempt:
            result.blame(task_id, f"attempt {task.attempt} began after a cancel of {attempt}")
        end = [e async for e in read_events(bench.store, task_id)][-2:]
        if len(end) == 2 and end[0].type == ATTEMPT_FAILED:
            result.cancels["between attempts"] += 1
        elif end[-1].body.get("error"):
            result.cancels["in the place of a failure"] += 1
        else:
            result.cancels["of an attempt"] += 1


async def read_events(store: TaskStore, task_id: str) -> AsyncIterator[Event]:
    """The whole tape, by pages."""
    after = 0
    while (page := await store.read_tape(task_id, after_seq=after)).events:
        for event in page.events:
            yield event
        after = page.events[-1].seq


async def read_rows(store: TaskStore) -> AsyncIterator[Task]:
    """Every task of the store, by pages."""
    before: str | None = None
    while True:
        page = await store.list(limit=_PAGE, before=before)
        for task in page.tasks:
            yield task
        before = page.next
        if before is None:
            return


async def judge(bench: Bench, history: History, result: Result, *, runs: bool = True) -> None:
    """Have the history judged; ``runs``: by the run spans, too, for a manager ran the tasks."""
    told = bench.faulty is None  # of spans that could not start, and of counts that raised, is none
    spans = bench.exporter.get_finished_spans() if runs and told else None
    bench.exporter.clear()
    dropped = bench.dropped_metric() if told else None
    found = await check(history, bench.store, spans=spans, dropped_metric=dropped)
    for violation in found:
        result.blame(violation.task_id or "store", f"{violation.invariant}: {violation.detail}")
    result.cancels.update(
        call.answer.state.value for call in history.calls if isinstance(call.answer, CancelAnswer)
    )
    for task_id in history.task_ids:
        task = await bench.store.get(task_id)
        result.runs += 1
        result.outcomes[task.status.value] += 1
        if not task.status.terminal:
            result.blame(task_id, f"the task is still {task.status.value}")
    for follow in history.follows:
        if not follow.ended and follow.task_id not in result.bad:
            result.blame(follow.task_id, "I9: a follower did not hear of the end")
    before = history.began_with
    assert before is not None
    result.late += bench.store.meter.ledger.dropped - before.dropped


def tabulate(results: list[Result]) -> list[str]:
    """The table of all results."""
    columns = ("succeeded", "failed", "cancelled")
    head = f"{'kind':<22}{'store':<18}{'runs':>6}" + "".join(f"{c:>11}" for c in columns)
    lines = [f"{head}{'dropped':>9}{'bad':>6}{'seed':>10}{'seconds':>9}"]
    for one in results:
        counts = "".join(f"{one.outcomes[column]:>11}" for column in columns)
        lines.append(
            f"{one.kind:<22}{one.store:<18}{one.runs:>6}{counts}"
            f"{one.late:>9}{len(one.bad):>6}{one.seed:>10}{one.seconds:>9.1f}"
        )
    return lines
