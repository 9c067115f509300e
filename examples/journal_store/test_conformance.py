"""The conformance suite on the journal store."""

from __future__ import annotations

from pathlib import Path

import pytest

from journal_store import JournalBackend
from tapescope.testing.conformance import MakeBackend, StoreConformance


class TestJournalStore(StoreConformance):
    """What every store does, this one does."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        """Backends on one journal."""
        return lambda: JournalBackend(tmp_path / "tasks.journal")
