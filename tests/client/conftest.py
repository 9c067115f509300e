"""Fixtures of the client's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Tapescope


@pytest.fixture
def tapescope(sqlite_url: str, tmp_path: Path) -> Tapescope:
    """The command line on a fresh SQLite store."""
    return Tapescope(sqlite_url, tmp_path)
