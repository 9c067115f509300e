"""Fixtures of the command line's tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.command import Tapescope

Here = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def tapescope(sqlite_url: str, tmp_path: Path) -> Tapescope:
    """The command line on a fresh SQLite store."""
    return Tapescope(sqlite_url, tmp_path)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store of each kind; PostgreSQL's turn is with the slow tests.

    What differs between the stores has tests of its own: here a process is started for each.
    """
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def tapescope_on(store_url: str, tmp_path: Path) -> Tapescope:
    """The command line on a fresh store of each kind."""
    return Tapescope(store_url, tmp_path)


@pytest.fixture
def here(tapescope: Tapescope) -> Here:
    """The command line in this process: for the many mistakes that need none of their own."""
    return tapescope.here
