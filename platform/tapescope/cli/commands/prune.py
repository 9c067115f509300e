"""``tapescope prune``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from tapescope.cli._options import OpOption, StoreOption
from tapescope.cli._output import print_line
from tapescope.cli._store import choose_store, open_store
from tapescope.model.tape import Outcome
from tapescope.store.opening import OpenMode

__all__ = ["prune"]

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", metavar="AGE", help="Delete what ended longer ago: 12h, 30d, 8w."
        ),
    ],
    outcome: Annotated[
        list[Outcome] | None,
        typer.Option(
            "--outcome",
            metavar="OUTCOME",
            help="Only tasks with this outcome: succeeded, failed or cancelled. May be given more "
            "than once.",
        ),
    ] = None,
    op: OpOption = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Delete old late events instead of tasks.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Delete nothing; print how many would be deleted."),
    ] = False,
    store: StoreOption = None,
) -> None:
    """Delete tasks that ended long ago, each with its whole tape.

    A task that has not ended is never deleted.
    """
    age, url = _parse_age(older_than), choose_store(store)
    if quarantine and (outcome or op is not None):
        raise typer.BadParameter(
            "late events are deleted by age alone, not by op or outcome", param_hint="--quarantine"
        )
    if quarantine:
        pruned = asyncio.run(_prune_quarantine(url, age, dry_run=dry_run))
    else:
        pruned = asyncio.run(_prune_tasks(url, age, outcome or (), op, dry_run=dry_run))
    what = "late events" if quarantine else "tasks with their tapes"
    print_line(f"{what} {'that would be deleted' if dry_run else 'deleted'}: {pruned:,}")


def _parse_age(text: str) -> float:
    """Seconds from ``90s``, ``45m``, ``12h``, ``30d`` or ``2w``. Raises a usage error."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not an age: write 90s, 45m, 12h, 30d or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def _choose_mode(*, dry_run: bool) -> OpenMode:
    return OpenMode.READ if dry_run else OpenMode.EXISTING


async def _prune_quarantine(url: str, older_than: float, *, dry_run: bool) -> int:
    async with open_store(url, _choose_mode(dry_run=dry_run)) as store:
        return await store.maintenance.prune_quarantine(older_than=older_than, dry_run=dry_run)


async def _prune_tasks(
    url: str, older_than: float, outcomes: Sequence[Outcome], op: str | None, *, dry_run: bool
) -> int:
    """Delete old tapes; gives how many. Raises ``BadOp``."""
    async with open_store(url, _choose_mode(dry_run=dry_run)) as store:
        return await store.maintenance.prune(
            older_than=older_than, outcomes=outcomes or None, op=op, dry_run=dry_run
        )
