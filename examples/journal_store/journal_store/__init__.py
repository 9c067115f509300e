"""A store in a journal: one file, a line for each transaction, and dictionaries to read from.

It is written only from ``tapescope.store``, ``tapescope.model`` and ``tapescope.errors``, to show
how a store is written. Several processes of one host may share a journal.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from journal_store.backend import JournalBackend
from tapescope.errors import BadStoreUrl
from tapescope.store import (
    Clock,
    OpenMode,
    StoreLimits,
    TaskStore,
    Telemetry,
    refuse_control_characters,
)

__all__ = ["JournalBackend", "JournalStore"]


class JournalStore(TaskStore):
    """A store in the journal of ``url``: ``journal:///relative`` or ``journal:////absolute``."""

    def __init__(
        self,
        url: str,
        *,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        limits: StoreLimits | None = None,
        patience: float = 10.0,
        open_mode: OpenMode = OpenMode.CREATE,
    ) -> None:
        super().__init__(
            JournalBackend(read_path(url)),
            telemetry=telemetry,
            clock=clock,
            limits=limits,
            patience=patience,
            open_mode=open_mode,
        )


def read_path(url: str) -> Path:
    """The file that a URL names. Raises ``BadStoreUrl``."""
    parts = urlsplit(url)
    path = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "journal" or parts.netloc or parts.query or not path:
        raise BadStoreUrl(url, "a journal is journal:///file, with a fourth slash if absolute")
    refuse_control_characters(path, url)
    return Path(path)
