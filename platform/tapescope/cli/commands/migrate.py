"""``tapescope migrate``."""

from __future__ import annotations

import click

from tapescope.cli._options import store_option
from tapescope.cli._output import print_line
from tapescope.cli._store import choose_store, prepare_store, say_store
from tapescope.cli._types import Words
from tapescope.errors import SchemaTooNew, StoreNotFound
from tapescope.program import run_main
from tapescope.store.lookup import find_store
from tapescope.store.opening import OpenMode
from tapescope.store.roles import DatabaseRole

__all__ = ["migrate"]


@click.command("migrate")
@click.option(
    "--check",
    is_flag=True,
    help="Change nothing; the exit status is 1 when migrations are missing.",
)
@click.option(
    "--print-grants",
    type=Words(DatabaseRole),
    help="Change nothing; print the SQL that gives a role of the PostgreSQL database what it needs "
    "to be a reader, a submitter, a worker or the migrator, and no more.",
)
@click.option(
    "--role",
    metavar="NAME",
    help="The role's name in that SQL. Default: tapescope_reader, and so on.",
)
@store_option
def migrate(
    *, check: bool, print_grants: DatabaseRole | None, role: str | None, store: str | None
) -> int:
    """Make the store, or bring its schema up to date.

    The exit status is 2 when --check finds no store.
    """
    if print_grants is not None:
        found = find_store(choose_store(store))
        print_line(found.maintenance.describe_grants(print_grants, role).removesuffix("\n"))
        return 0
    return run_main(_migrate(choose_store(store), check=check))


async def _migrate(url: str, *, check: bool) -> int:
    """Migrate, or only print what is missing; gives the exit status.

    Raises ``SchemaTooNew``, and with ``check`` ``StoreNotFound``.
    """
    store = find_store(url)
    if not check:
        prepare_store(url)
    before = await store.maintenance.schema_versions()
    say_store(store)
    if not before.compatible:
        raise SchemaTooNew(before.found, before.known)
    if check:
        if not before.found:
            raise StoreNotFound(store.name)
        missing = max(0, before.known - before.found)
        state = f"migrations missing: {missing}" if missing else "up to date"
        print_line(f"schema version {before.found} of {before.known}: {state}")
        return 1 if missing else 0
    store.open_mode = OpenMode.MIGRATE
    async with store:
        after = await store.maintenance.schema_versions()
    done = "nothing to do" if after == before else f"was {before.found}"
    print_line(f"schema version {after.found}: {done}")
    return 0
