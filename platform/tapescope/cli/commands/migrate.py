"""``tapescope migrate``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from tapescope.cli._options import StoreOption
from tapescope.cli._output import print_line
from tapescope.cli._store import choose_store
from tapescope.errors import SchemaTooNew
from tapescope.store.lookup import find_store

__all__ = ["migrate"]


def migrate(
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Change nothing; the exit status is 1 when migrations are missing."
        ),
    ] = False,
    store: StoreOption = None,
) -> int:
    """Bring the store's schema up to this version of tapescope."""
    return asyncio.run(_migrate(choose_store(store), check=check))


async def _migrate(url: str, *, check: bool) -> int:
    """Migrate, or only print what is missing; gives the exit status. Raises ``SchemaTooNew``."""
    store = find_store(url)
    before = await store.maintenance.schema_versions()
    if not before.compatible:
        raise SchemaTooNew(before.found, before.known)
    if check:
        missing = max(0, before.known - before.found)
        state = f"migrations missing: {missing}" if missing else "up to date"
        print_line(f"schema version {before.found} of {before.known}: {state}")
        return 1 if missing else 0
    async with store:
        after = await store.maintenance.schema_versions()
    done = "nothing to do" if after == before else f"was {before.found}"
    print_line(f"schema version {after.found}: {done}")
    return 0
