"""The table of guards fits the tree."""

from __future__ import annotations

from tests.mutants.guard import ROOT, mutate
from tests.mutants.table import GUARDS


def test_each_row_fits_the_tree() -> None:
    """What it removes stands there exactly once, and the tests that it names are there."""
    for guard in GUARDS.values():
        texts = mutate(guard, GUARDS)
        missing = [test for test in guard.tests if not (ROOT / test.partition("::")[0]).exists()]

        assert all(text != (ROOT / name).read_text() for name, text in texts.items()), guard.name
        assert missing == [], guard.name
        assert len(guard.name) <= 30, guard.name
