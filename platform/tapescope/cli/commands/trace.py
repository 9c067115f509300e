"""``tapescope trace``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import click

from tapescope.cli._options import json_option, source_options, wide_option
from tapescope.cli._output import on_terminal, print_json, say
from tapescope.cli._source import Place, choose_place
from tapescope.cli._table import Column, print_table
from tapescope.errors import BadSetting
from tapescope.model.json_shapes import traced_shape
from tapescope.model.leases import TracedAttempt
from tapescope.model.wording import shorten_id
from tapescope.program import run_main
from tapescope.store.validation import check_trace_id

__all__ = ["trace"]

_COLUMNS: Final = (
    Column("task"),
    Column("op", shrinks_to=8),
    Column("status"),
    Column("attempt"),
    Column("span"),
)
_WIDE: Final = tuple(map(Column, ("task_id", "op", "status", "attempt", "span_id")))


@click.command("trace")
@click.argument("trace_id", help="32 hexadecimal digits, as an exemplar or a log line has them.")
@wide_option
@json_option
@source_options
def trace(
    *, trace_id: str, wide: bool, as_json: bool, store: str | None, server: str | None
) -> int:
    """Find the tasks whose runs are in a trace.

    Runs are found whose span was recorded. The status is 1 where there is none.
    """
    try:
        trace_id = check_trace_id(trace_id)
    except BadSetting as error:
        raise click.BadParameter(f"it must be {error.expected}", param_hint="TRACE_ID") from error
    return run_main(_find(choose_place(store, server), trace_id, wide=wide, as_json=as_json))


async def _find(place: Place, trace_id: str, *, wide: bool, as_json: bool) -> int:
    """Print the attempts of a trace; gives the exit status."""
    async with place.open() as source:
        found = await source.find_traced(trace_id)
        name = source.name
    if as_json:
        print_json({"attempts": [traced_shape(one) for one in found], "store": name})
    elif found:
        terminal = on_terminal()
        _print(found, terminal=terminal, wide=wide or not terminal)
    if not found:
        say(
            f"No run in {name} has the trace {trace_id}. A run is found whose span was "
            "recorded (sampled), as long as its task is kept. A submit's span is not a run's: its "
            "trace is the first one that the run links to."
        )
    return 0 if found else 1


def _print(found: Sequence[TracedAttempt], *, terminal: bool, wide: bool) -> None:
    rows = [
        (
            one.task_id if wide else shorten_id(one.task_id),
            one.op,
            one.status.value,
            str(one.attempt),
            one.span_id,
        )
        for one in found
    ]
    print_table(_WIDE if wide else _COLUMNS, rows, terminal=terminal, wide=wide)
