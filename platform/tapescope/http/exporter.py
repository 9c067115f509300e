"""The exporter of one store: a process of its own that tells what the store holds.

For stores whose workers are not scraped, or that only one-shot commands use: it keeps nothing
itself, so any number of them tell the same. It reads, and never writes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from tapescope.errors import StoreUnavailable
from tapescope.manager.backlog_reader import BacklogReader, describe_backlog
from tapescope.manager.readiness import Check
from tapescope.manager.size_reader import SizeReader
from tapescope.store.opening import OpenMode
from tapescope_telemetry.logger import Logger

if TYPE_CHECKING:
    from tapescope.store.port import TaskStore

__all__ = ["StoreExporter"]

_log = Logger("tapescope")

_TRY_AGAIN: Final = 5.0
"""Seconds until a store that could not be opened is tried again."""


class StoreExporter:
    """Reads a store every few seconds, and has its telemetry tell what it found.

    Each exporter has a ``Telemetry`` of its own process. A scrape reads no store: it is told the
    last reading, and nothing once that is over a minute old.
    """

    def __init__(self, store: TaskStore) -> None:
        """The store must not be open: it is opened to be read alone."""
        store.open_mode = OpenMode.READ
        store.meter.tell_totals()
        self._store = store
        self._reader = BacklogReader(store, SizeReader(store))
        self._trouble = "not open yet"

    async def run(self) -> None:
        """Open the store, as soon as it can be, and read it until cancelled.

        Raises what ``TaskStore.open`` raises, but for a store that cannot be reached.
        """
        await self._open()
        try:
            self._reader.start()
            await asyncio.get_running_loop().create_future()
        finally:
            await self._reader.stop()
            await self._store.aclose()

    async def _open(self) -> None:
        while True:
            try:
                await self._store.open()
            except StoreUnavailable as error:
                if self._trouble != str(error):
                    _log.warning("The store is tried again every %g s: %s", _TRY_AGAIN, error)
                self._trouble = str(error)
                await asyncio.sleep(_TRY_AGAIN)
            else:
                self._trouble = ""
                return

    def check_health(self) -> tuple[Check, ...]:
        """Whether it tells what the store holds now; any thread may ask."""
        last = self._reader.last
        trouble = self._trouble or self._reader.vitals.find_trouble()
        if not trouble and last is None:
            trouble = "it did not answer the last reading"
        return (
            Check("store", not trouble, trouble or "it answered the last reading"),
            Check("backlog", True, describe_backlog(last)),
        )
