"""Fixtures of the HTTP tests."""

from __future__ import annotations

import pytest

from tests.cli.command import slow


@pytest.fixture(params=["sqlite", slow("postgresql")])
def served_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store: of a file every day, of PostgreSQL with what is slow.

    For what HTTP does alike with every store.
    """
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url
