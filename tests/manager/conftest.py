"""Fixtures of the manager's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store of every kind, the model in memory included."""
    if request.param == "memory":
        return "memory:"
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url
