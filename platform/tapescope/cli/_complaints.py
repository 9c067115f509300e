"""What OpenTelemetry has against its settings, for one line on stderr instead of its own pages.

Imported before OpenTelemetry: it warns from its first import on.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

from tapescope.cli._secrets import hide_secrets

__all__ = ["Complaints"]

_SHOWN: Final = 200
"""Characters of a complaint."""


class Complaints(logging.Handler):
    """Keeps the first warning of OpenTelemetry, which would else print all of them on stderr.

    It stays until the process ends: an exporter's thread may log once more after the shutdown.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._first: str | None = None
        self._others = 0

    @staticmethod
    @cache
    def shared() -> Complaints:
        """The one of this process, which OpenTelemetry's loggers write to from now on."""
        complaints = Complaints()
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(complaints)
        logger.propagate = False
        return complaints

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text, with its exception's in a line."""
        text = record.getMessage()
        if record.exc_info and (error := record.exc_info[1]) is not None:
            text += f": {str(error) or type(error).__name__}"
        self._keep(text)

    def note(self, problem: Exception) -> None:
        """Keep a complaint of our own: it says more than what OpenTelemetry says of the same."""
        before, self._first = self._first, None
        self._keep(str(problem))
        self._others += before is not None

    def take(self) -> str | None:
        """The first since the last call, and how many came after it; ``None`` for no complaint."""
        first, others = self._first, self._others
        self._first, self._others = None, 0
        return first if first is None or not others else f"{first} (and {others} more)"

    def _keep(self, text: str) -> None:
        if self._first is not None:
            self._others += 1
            return
        line = hide_secrets(" ".join(text.split()))  # before the cut: half a secret is one, too
        self._first = line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…"
