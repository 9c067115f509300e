"""``tapescope spool``: what ``tapescope run`` could not tell its store, and its replay."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Any

import click

from tapescope.cli._options import json_option, store_option
from tapescope.cli._output import print_json, print_line, say
from tapescope.cli._store import choose_store, open_store
from tapescope.cli._types import Words
from tapescope.errors import BadSpool, TapescopeError
from tapescope.model.times import format_time
from tapescope.program import run_main
from tapescope.shell.replay import Replayed, replay_spools
from tapescope.spool import SpooledTask, find_spools, read_spool, spool_folder
from tapescope.store.opening import OpenMode

__all__ = ["spool"]


class Action(StrEnum):
    """What to do with the files."""

    LIST = "list"
    REPLAY = "replay"


@click.command("spool")
@click.argument(
    "action",
    type=Words(Action),
    default=Action.LIST,
    help="What to do with the files.",
)
@json_option
@store_option
def spool(*, action: Action, as_json: bool, store: str | None) -> int:
    """List or replay what a run could not tell its store.

    A command runs also while its store is away. What its tape lacks then is kept in a file of its
    user. A replay puts it on the tape, each event once, and removes the file; the next 'tapescope
    run' on the same store does so, too.

    The exit status of a replay is 1 when something could not be replayed.
    """
    if action is Action.REPLAY:
        return run_main(_replay(choose_store(store), as_json=as_json))
    files = [(path, _read(path)) for path in find_spools(spool_folder())]
    if as_json:
        print_json({"spools": [_shape(path, spooled) for path, spooled in files]})
    else:
        for path, spooled in files:
            print_line(_describe(path, spooled))
        if not files:
            print_line("Nothing is kept.")
    return 0


def _read(path: Path) -> SpooledTask | BadSpool:
    try:
        return read_spool(path)
    except BadSpool as error:
        return error


def _shape(path: Path, spooled: SpooledTask | BadSpool) -> dict[str, Any]:
    if isinstance(spooled, BadSpool):
        return {"path": str(path), "error": str(spooled)}
    return {
        "path": str(path),
        "task_id": spooled.task_id,
        "op": spooled.op,
        "outcome": spooled.final.outcome.value,
        "ended_at": format_time(spooled.ended_us),
        "events": len(spooled.events),
        "store": spooled.store,
    }


def _describe(path: Path, spooled: SpooledTask | BadSpool) -> str:
    if isinstance(spooled, BadSpool):
        return str(spooled)
    return (
        f"{spooled.task_id}  {spooled.op}  {spooled.final.outcome.value}  "
        f"{len(spooled.events):,} events\n  for {spooled.store}\n  in {path}"
    )


async def _replay(url: str, *, as_json: bool) -> int:
    async with open_store(url, OpenMode.EXISTING) as store:
        done = await replay_spools(store, spool_folder())
    failed = 0
    for path, result in done:
        if isinstance(result, TapescopeError):
            failed += 1
            say(str(result))
        elif not as_json:
            print_line(_tell(path, result))
    if as_json:
        print_json(
            {
                "replayed": [
                    {"path": str(path), **result._asdict()}
                    for path, result in done
                    if isinstance(result, Replayed)
                ]
            }
        )
    elif not done:
        print_line("Nothing is kept for this store.")
    return 1 if failed else 0


def _tell(path: Path, result: Replayed) -> str:
    end = "its end is on the tape" if result.ended else "the task had another end already"
    late = f", {result.dropped:,} came too late and are quarantined" if result.dropped else ""
    return f"{path.name.split('.')[0]}: {result.stored:,} events added{late}; {end}"
