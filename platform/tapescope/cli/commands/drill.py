"""``tapescope drill``."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tapescope.cli._completion import complete_drill
from tapescope.cli._options import inherit_store, metrics_host_option, metrics_port_option
from tapescope.cli._output import make_printable, on_terminal, print_line, say
from tapescope.cli._settings import find_named_store
from tapescope.cli._store import file_url
from tapescope.cli._table import Column, print_table
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.cli._types import NUMBER
from tapescope.errors import BadSetting
from tapescope_telemetry import read_settings

if TYPE_CHECKING:
    from tapescope.drills import Drill

__all__ = ["drill"]


@click.command("drill")
@click.argument(
    "name",
    required=False,
    shell_complete=complete_drill,
    help="The fault to make; --list prints all names.",
)
@click.option(
    "--list", "list_them", is_flag=True, help="Print the drills, and the alerts that they raise."
)
@click.option(
    "--hold",
    type=NUMBER,
    metavar="SECONDS",
    help="How long to go on after the fault, so that it is scraped. Default: until the "
    "shipped alert fires.",
)
@click.option(
    "--on-real-store", is_flag=True, help="Drill even if the store holds tasks of other ops."
)
@metrics_port_option
@metrics_host_option
@click.option(
    "--store",
    metavar="URL",
    callback=inherit_store,
    help="Drill on this store. Default: TAPESCOPE_STORE, else a scratch store.",
)
def drill(
    *,
    name: str | None,
    list_them: bool,
    hold: float | None,
    on_real_store: bool,
    metrics_port: int | None,
    metrics_host: str,
    store: str | None,
) -> int:
    """Make a fault on purpose, to see that its alert arrives.

    The drill cleans up after itself. Its tasks have the op drill.NAME. The drill
    integrity-violation always runs on a scratch store.

    Dropped events are counted in the process that makes the fault: let Prometheus scrape
    --metrics-port, under a job of its own.

    The exit status is 0 once the fault was made, and 128 + n when signal n came before.
    """
    from tapescope.drills import DRILLS, DrillSession, find_drill

    if list_them:
        _print_drills(DRILLS)
        return 0
    chosen = find_drill(name)
    if hold is not None and not 0 <= hold < float("inf"):
        raise BadSetting("--hold", hold, "a number of seconds, 0 or more")
    if hold is None and (metrics_port is not None or read_settings().wanted):
        hold = chosen.hold
    url = named = find_named_store(store)
    with tempfile.TemporaryDirectory(prefix="tapescope-drill-") as folder:
        if url is None or chosen.scratch:
            url = file_url(Path(folder) / "scratch.db")
        listener = make_listener(metrics_host, metrics_port)
        with exporting(*listener.readers), listener:
            if metrics_port == 0:  # only this line says which port it is
                say(f"metrics and health on {listener.url}")
            session = DrillSession(
                chosen, url, listener, is_scratch=url != named, say=_print_step, warn=say
            )
            ended_by = asyncio.run(session.run(hold, on_real_store=on_real_store))
    return 0 if ended_by is None else 128 + ended_by


def _print_step(heading: str, text: str) -> None:
    print_line(make_printable(f"{heading:<9} {text}"))


def _print_drills(drills: Sequence[Drill]) -> None:
    """Every drill, the alerts that it must raise, and what it does."""
    rows = [(drill.name, ", ".join(drill.alerts), drill.does) for drill in drills]
    columns = (Column("drill"), Column("alert", wraps=True), Column("does", wraps=True))
    print_table(columns, rows, terminal=on_terminal())
