"""``tapescope stats``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from tapescope.cli._options import json_option, source_options
from tapescope.cli._output import on_terminal, print_json, print_line
from tapescope.cli._source import Place, choose_place
from tapescope.cli._table import Column, print_table
from tapescope.cli._wording import now_us
from tapescope.model.backlog import Backlog, OpBacklog, find_pauses
from tapescope.model.json_shapes import backlog_shape
from tapescope.model.ops import Pause
from tapescope.model.times import format_time
from tapescope.model.wording import describe_stop, format_age, format_duration
from tapescope.program import run_main

__all__ = ["stats"]

_COLUMNS: Final = (
    Column("op", shrinks_to=8),
    Column("due"),
    Column("oldest"),
    Column("later"),
    Column("retry"),
    Column("running"),
    Column("longest"),
    Column("workers"),
)
_ENDED: Final = (
    Column("op", shrinks_to=8),
    Column("submitted"),
    Column("succeeded"),
    Column("failed"),
    Column("cancelled"),
)
_ENDED_WORKERS: Final = "The workers that registered it have ended. Start one again."
_NO_WORKER: Final = "No worker has registered it in the last week. Is its name right?"
_PIPED: Final = (
    *("op", "due", "oldest_due", "scheduled", "retrying", "running", "oldest_running", "workers"),
    *("submitted", "succeeded", "failed", "cancelled", "paused_at", "paused_by", "pause_reason"),
    "unserved",
)


@click.command("stats")
@json_option
@source_options
def stats(*, as_json: bool, store: str | None, server: str | None) -> None:
    """Show what waits and runs, and whether a worker can run it.

    The store keeps these numbers: the command counts no tasks, however many there are. "oldest" is
    the longest wait of what is due, and "longest" the longest run so far. "later" are tasks that
    were submitted for a time to come, and "retry" those that failed and wait to be run again. What
    has ended is counted since the store was made, also what was pruned since.
    """
    backlog, name = run_main(_read(choose_place(store, server)))
    if as_json:
        print_json(backlog_shape(backlog) | {"store": name})
    elif on_terminal():
        _print_on_terminal(backlog)
    else:
        print_table(tuple(map(Column, _PIPED)), list(map(_piped_row, backlog.ops)), terminal=False)


async def _read(place: Place) -> tuple[Backlog, str]:
    """The numbers as they are now, and the name of where they were read."""
    async with place.open() as source:
        return await source.read_backlog(), source.name


def _print_on_terminal(backlog: Backlog) -> None:
    if not backlog.ops:
        print_line("No tasks. Make one: tapescope run -- echo hi")
        return
    print_table(_COLUMNS, list(map(_row, backlog.ops)), terminal=True)
    print_line("")
    print_table(_ENDED, list(map(_ended_row, backlog.ops)), terminal=True)
    _print_notes([one for one in backlog.ops if one.unattended])
    _print_pauses(list(find_pauses(backlog).values()))


def _print_notes(alone: Sequence[OpBacklog]) -> None:
    if alone:
        print_line("")
        rows = [(one.op, _tell_why(one)) for one in alone]
        columns = (Column("no worker for", shrinks_to=16), Column("why", wraps=True))
        print_table(columns, rows, terminal=True)


def _tell_why(one: OpBacklog) -> str:
    if one.unserved:
        names, many = ", ".join(one.unserved), len(one.unserved) > 1
        queue, them = ("queues", "them") if many else ("queue", "it")
        return f"No worker takes its {queue} {names}. Start one for {them}, or for all queues."
    return _ENDED_WORKERS if one.registered else _NO_WORKER


def _print_pauses(pauses: Sequence[Pause]) -> None:
    if pauses:
        print_line("")
        rows = [
            (one.op, format_age(one.at_us, now_us()), describe_stop(one.by, one.reason)[2:])
            for one in pauses
        ]
        columns = (Column("paused", shrinks_to=16), Column("since"), Column("why", wraps=True))
        print_table(columns, rows, terminal=True)
        print_line("No worker claims their tasks. 'tapescope resume OP' ends that.")


def _row(one: OpBacklog) -> tuple[str, ...]:
    return (
        one.op,
        f"{one.due:,}",
        _format_age(one.oldest_due),
        f"{one.scheduled:,}",
        f"{one.retrying:,}",
        f"{one.running:,}",
        _format_age(one.oldest_running),
        "paused" if one.paused else "none" if one.unattended else f"{one.workers:,}",
    )


def _ended_row(one: OpBacklog) -> tuple[str, ...]:
    numbers = (one.submitted, one.succeeded, one.failed, one.cancelled)
    return (one.op, *(f"{n:,}" for n in numbers))


def _piped_row(one: OpBacklog) -> tuple[str, ...]:
    numbers = (
        *(one.due, one.oldest_due, one.scheduled, one.retrying, one.running, one.oldest_running),
        *(one.workers, one.submitted, one.succeeded, one.failed, one.cancelled),
    )
    pause = one.paused
    stopped = ("", "", "") if pause is None else (format_time(pause.at_us), pause.by, pause.reason)
    return (
        one.op,
        *("" if n is None else str(n) for n in (*numbers, *stopped)),
        " ".join(one.unserved),
    )


def _format_age(seconds: float | None) -> str:
    return "" if seconds is None else format_duration(seconds)
