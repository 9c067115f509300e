"""``tapescope exporter``: the metrics of a store, for who scrapes no worker."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from tapescope.cli._options import PORT, store_option
from tapescope.cli._output import say
from tapescope.cli._store import choose_store
from tapescope.cli._telemetry import exporting, make_listener
from tapescope.cli._types import WHOLE_NUMBER
from tapescope.store.lookup import find_store

if TYPE_CHECKING:
    from tapescope.http.exporter import StoreExporter

__all__ = ["exporter"]


@click.command("exporter")
@click.option(
    PORT,
    type=WHOLE_NUMBER,
    default=9464,
    metavar="PORT",
    help="Serve /metrics, /livez and /readyz on this port; 0 takes a free port.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="The address of that port. No password is asked for: name another address only in a "
    "network that you trust.",
)
@store_option
def exporter(*, port: int, host: str, store: str | None) -> int:
    """Serve what a store holds as metrics, until a signal.

    For stores whose workers are not scraped, and for one-shot commands: what waits and runs by op,
    and the totals of what was submitted and has ended. It only reads the store, as a reader's role
    may, and keeps nothing: any number of exporters tell the same.
    """
    from tapescope.http.exporter import StoreExporter

    url = choose_store(store)
    listener = make_listener(host, port, option=PORT)
    with exporting(*listener.readers):
        serving = StoreExporter(find_store(url))
        listener.watch(serving)
        with listener:
            say(f"metrics and health on {listener.url}")
            asyncio.run(_serve(serving))
    return 0


async def _serve(serving: StoreExporter) -> None:
    loop = asyncio.get_running_loop()
    running = asyncio.ensure_future(serving.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, running.cancel)
    with suppress(asyncio.CancelledError):  # a signal's: it is asked to end
        await running
