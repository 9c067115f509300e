"""``tapescope prune``."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tapescope.cli._options import op_option, store_option
from tapescope.cli._output import print_line
from tapescope.cli._question import confirm, yes_option
from tapescope.cli._store import choose_store, open_store
from tapescope.cli._times import parse_age
from tapescope.cli._types import Words
from tapescope.model.tape import Outcome
from tapescope.program import run_main
from tapescope.store.opening import OpenMode

__all__ = ["prune"]


@click.command("prune")
@click.option(
    "--older-than", required=True, metavar="AGE", help="Delete what ended longer ago: 12h, 30d, 8w."
)
@click.option(
    "--outcome",
    type=Words(Outcome),
    multiple=True,
    metavar="OUTCOME",
    help="Only tasks with this outcome: succeeded, failed or cancelled. May be given more "
    "than once.",
)
@op_option
@click.option("--quarantine", is_flag=True, help="Delete old late events instead of tasks.")
@click.option("--dry-run", is_flag=True, help="Delete nothing; print how many would be deleted.")
@yes_option
@store_option
def prune(
    *,
    older_than: str,
    outcome: tuple[Outcome, ...],
    op: str | None,
    quarantine: bool,
    dry_run: bool,
    yes: bool,
    store: str | None,
) -> None:
    """Delete tasks that ended long ago, each with its whole tape.

    You are told how many there are, and asked. A task that has not ended is never deleted.
    """
    age, url = parse_age(older_than, "--older-than"), choose_store(store)
    if quarantine and (outcome or op is not None):
        raise click.BadParameter(
            "late events are deleted by age alone, not by op or outcome", param_hint="--quarantine"
        )
    run_main(_prune(url, age, outcome, op, quarantine=quarantine, dry_run=dry_run, yes=yes))


async def _prune(
    url: str,
    older_than: float,
    outcomes: Sequence[Outcome],
    op: str | None,
    *,
    quarantine: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Delete what is old, and print how much. Raises ``BadOp``, ``NotConfirmed``."""
    what = "late events" if quarantine else "tasks with their tapes"
    async with open_store(url, OpenMode.READ if dry_run else OpenMode.EXISTING) as store:

        async def prune_now(*, dry_run: bool) -> int:
            if quarantine:
                return await store.maintenance.prune_quarantine(
                    older_than=older_than, dry_run=dry_run
                )
            return await store.maintenance.prune(
                older_than=older_than, outcomes=outcomes or None, op=op, dry_run=dry_run
            )

        if not (dry_run or yes) and (count := await prune_now(dry_run=True)):
            await confirm(f"Delete {count:,} {what}", yes=yes)
        pruned = await prune_now(dry_run=dry_run)
    print_line(f"{what} {'that would be deleted' if dry_run else 'deleted'}: {pruned:,}")
