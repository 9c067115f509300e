"""``tapescope prune`` and ``tapescope migrate``."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

import typer

from tapescope.cli.output import print_line
from tapescope.cli.tasks import open_store
from tapescope.errors import SchemaTooNew
from tapescope.model.tape import Outcome
from tapescope.store.lookup import find_store

__all__ = ["migrate_store", "parse_age", "prune_store"]

_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_age(text: str) -> float:
    """Seconds from ``90s``, ``45m``, ``12h``, ``30d`` or ``2w``. Raises a usage error."""
    match = _AGE.fullmatch(text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no age: write 90s, 45m, 12h, 30d or 2w")
    return float(match[1]) * _SECONDS[match[2]]


def prune_store(
    url: str,
    older_than: float,
    outcomes: Sequence[Outcome],
    op: str | None,
    *,
    quarantine: bool,
    dry_run: bool,
) -> None:
    """Delete old tapes, or old late events, and say how many. Raises ``BadOp``."""
    if quarantine and (outcomes or op is not None):
        raise typer.BadParameter("it goes by age alone", param_hint="--quarantine")

    async def prune() -> int:
        async with open_store(url) as store:
            if quarantine:
                return await store.maintenance.prune_quarantine(
                    older_than=older_than, dry_run=dry_run
                )
            return await store.maintenance.prune(
                older_than=older_than, outcomes=outcomes or None, op=op, dry_run=dry_run
            )

    pruned = asyncio.run(prune())
    what = "late events" if quarantine else "tasks with their tapes"
    print_line(f"{what} {'that would be deleted' if dry_run else 'deleted'}: {pruned:,}")


def migrate_store(url: str, *, check: bool) -> int:
    """Bring the store's schema up to date, or only say whether it is; gives the exit status.

    Raises ``SchemaTooNew``.
    """

    async def migrate() -> int:
        store = find_store(url)
        before = await store.maintenance.schema_versions()
        if not before.compatible:
            raise SchemaTooNew(before.found, before.known)
        if check:
            missing = max(0, before.known - before.found)
            ahead = f"migrations missing: {missing}" if missing else "up to date"
            print_line(f"schema version {before.found} of {before.known}: {ahead}")
            return 1 if missing else 0
        async with store:
            after = await store.maintenance.schema_versions()
        done = "nothing to do" if after == before else f"was {before.found}"
        print_line(f"schema version {after.found}: {done}")
        return 0

    return asyncio.run(migrate())
