"""What of the conformance suite needs of the tests' fixtures."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """The suite is its users', too, and knows no marker of ours: its tests of a missing store."""
    if item.name.startswith("test_missing_store_"):
        item.add_marker("unmade")
