"""The demo's closing words: what became of the tasks, and whether every event is accounted for."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from tapescope.cli.output import on_terminal, print_line
from tapescope.cli.rendering import TapeLines, print_table
from tapescope.model.tape import DroppedEvent, TapePage
from tapescope.model.tasks import Task, TaskStatus
from tapescope.store.port import TaskStore

__all__ = ["print_closing"]

_OUTCOMES = (TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED)


async def print_closing(store: TaskStore, url: str, task_ids: Sequence[str]) -> int:
    """Read back what the store holds of these tasks and print it; 0 when it all adds up."""
    tasks = [await store.get(task_id) for task_id in task_ids]
    ends = {task_id: await store.read_tape(task_id, limit=1) for task_id in task_ids}
    drops: list[DroppedEvent] = []
    for task_id, end in ends.items():
        if end.dropped:
            drops += (await store.read_quarantine(task_id)).drops
    terminal = on_terminal()
    print_line("")
    _print_outcomes(tasks, terminal=terminal)
    _print_drops(tasks, drops, terminal=terminal)
    adds_up = _print_conservation(store, list(ends.values()))
    await _print_tape(store, tasks, terminal=terminal)
    _print_next(url, tasks, drops)
    return 0 if adds_up else 1


def _print_outcomes(tasks: Sequence[Task], *, terminal: bool) -> None:
    counts = Counter((task.op, task.status) for task in tasks)
    rows = [
        (op, *(str(counts[op, status]) for status in _OUTCOMES))
        for op in sorted({task.op for task in tasks})
    ]
    totals = Counter(task.status for task in tasks)
    rows.append(("all", *(str(totals[status]) for status in _OUTCOMES)))
    print_table(("op", *(status.value for status in _OUTCOMES)), rows, terminal=terminal)


def _print_drops(tasks: Sequence[Task], drops: Sequence[DroppedEvent], *, terminal: bool) -> None:
    ops = {task.task_id: task.op for task in tasks}
    counts = Counter((ops[drop.task_id], drop.type, drop.reason.value) for drop in drops)
    latest: dict[tuple[str, str, str], float] = {}
    for drop in drops:
        kind = (ops[drop.task_id], drop.type, drop.reason.value)
        latest[kind] = max(latest.get(kind, 0.0), drop.late_s or 0.0)
    rows = [
        (op, type, reason, str(count), f"{latest[op, type, reason]:.3f} s")
        for (op, type, reason), count in sorted(counts.items())
    ]
    print_line("")
    print_line("Dropped events: too late for their tape, so refused, counted and kept")
    print_table(("op", "event", "reason", "count", "latest"), rows, terminal=terminal)


def _print_conservation(store: TaskStore, ends: Sequence[TapePage]) -> bool:
    ledger = store.meter.ledger.read()
    on_tapes = sum(end.last_seq for end in ends)
    quarantined = sum(end.dropped for end in ends)
    print_line("")
    print_line("offered = stored + dropped + failed")
    print_line(
        f"{ledger.offered:,} = {ledger.stored:,} + {ledger.dropped:,} + {ledger.failed:,}   "
        f"(unaccounted: {ledger.unaccounted})"
    )
    print_line(f"read back from the store: {on_tapes:,} events on tapes, {quarantined:,} dropped")
    adds_up = (ledger.unaccounted, ledger.stored, ledger.dropped) == (0, on_tapes, quarantined)
    if not adds_up:
        print_line("THIS DOES NOT ADD UP: please report it")
    return adds_up


async def _print_tape(store: TaskStore, tasks: Sequence[Task], *, terminal: bool) -> None:
    """The shortest tape of a task that failed while it reported."""
    shell = [task for task in tasks if task.op == "shell" and task.status is TaskStatus.FAILED]
    if not shell:
        return
    pages = [await store.read_tape(task.task_id) for task in shell]
    page = max(pages, key=lambda page: page.last_seq)
    print_line("")
    print_line(f"The tape of {page.task_id}:")
    lines = TapeLines(terminal=terminal)
    for event in page.events:
        lines.print_event(event)


def _print_next(url: str, tasks: Sequence[Task], drops: Sequence[DroppedEvent]) -> None:
    option = f"--store {shlex.quote(url)}"
    print_line("")
    print_line("Look at more of it:")
    print_line(f"  tapescope list {option}")
    print_line(f"  tapescope tape {tasks[-1].task_id} {option}")
    if drops:
        print_line(f"  tapescope drops {drops[0].task_id} {option}")
