"""``tapescope resume``."""

from __future__ import annotations

import click

from tapescope.cli._completion import complete_paused
from tapescope.cli._options import json_option, source_options
from tapescope.cli._output import make_printable, print_json, say
from tapescope.cli._source import Place, choose_place
from tapescope.model.json_shapes import pause_shape
from tapescope.model.wording import describe_stop, format_local
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["resume"]


@click.command("resume")
@click.argument("op", shell_complete=complete_paused, help="An op that is paused.")
@json_option
@source_options
def resume(*, op: str, as_json: bool, store: str | None, server: str | None) -> None:
    """Have the workers claim tasks of an op again.

    They begin at once, the highest priority first. An op that is not paused stays so.
    """
    run_main(_resume(choose_place(store, server), op, as_json=as_json))


async def _resume(place: Place, op: str, *, as_json: bool) -> None:
    async with place.open(OpenMode.EXISTING) as source:
        ended = await source.resume_op(op)
        name = source.name
    if as_json:
        was = None if ended is None else pause_shape(ended)
        print_json({"op": op, "was": was, "store": name})
    elif ended is None:
        say(f"{op} was not paused")
    else:
        said = f"{op} is resumed; it was paused since {format_local(ended.at_us)}"
        say(make_printable(said + describe_stop(ended.by, ended.reason)))
