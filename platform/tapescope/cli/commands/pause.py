"""``tapescope pause``."""

from __future__ import annotations

import click

from tapescope.cli._completion import complete_op
from tapescope.cli._options import json_option, source_options
from tapescope.cli._output import make_printable, print_json, say
from tapescope.cli._source import Place, choose_place
from tapescope.model.backlog import OpBacklog
from tapescope.model.json_shapes import pause_shape
from tapescope.model.ops import Pause
from tapescope.model.wording import describe_stop, format_local
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["pause"]


@click.command("pause")
@click.argument("op", shell_complete=complete_op, help="The op whose tasks are to wait.")
@click.option(
    "--reason",
    default="",
    show_default=False,
    metavar="TEXT",
    help="Why, in your own words; kept with your name until it is resumed.",
)
@json_option
@source_options
def pause(*, op: str, reason: str, as_json: bool, store: str | None, server: str | None) -> None:
    """Have no worker claim tasks of an op.

    When the command returns, no worker of the store begins such a task any more; one whose claim
    was under way may still. What runs goes on, and what is submitted waits for 'tapescope resume'.
    A 'tapescope run', and a task with a callable of its own, is not paused.
    """
    run_main(_pause(choose_place(store, server), op, reason, as_json=as_json))


async def _pause(place: Place, op: str, reason: str, *, as_json: bool) -> None:
    async with place.open(OpenMode.EXISTING) as source:
        before = {one.op: one for one in (await source.read_backlog()).ops}
        made = await source.pause_op(op, reason)
        name = source.name
    known = before.get(op, OpBacklog(op))
    if as_json:
        print_json({**pause_shape(made), "already": known.paused == made, "store": name})
    else:
        _tell(made, known)


def _tell(made: Pause, known: OpBacklog) -> None:
    if known.paused == made:
        said = f"{made.op} is paused already, since {format_local(made.at_us)}"
        say(make_printable(said + describe_stop(made.by, made.reason)))
    else:
        say(f"{made.op} is paused: 'tapescope resume {made.op}' ends that")
    if known.running:
        say(f"{known.running:,} of its tasks ran just now: they go on")
    if not known.registered:
        say(f"no worker of this store has registered {made.op!r} in the last week: is it its name?")
