"""The short form of the stress harness, and the test of the harness itself."""

from __future__ import annotations

import pytest

from tests.stress.benches import open_bench
from tests.stress.claims import CLAIMS
from tests.stress.harness import play
from tests.stress.kinds import KINDS
from tests.stress.run import REAL

pytestmark = pytest.mark.stress

RUNS = 40


@pytest.mark.parametrize("store", REAL)
@pytest.mark.parametrize("kind", [*KINDS, CLAIMS])
async def test_no_run_is_bad(store: str, kind: str, request: pytest.FixtureRequest) -> None:
    """Cancels and shutdowns at any moment leave whole tapes, true spans and a balanced ledger."""
    fixtures = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}
    url = request.getfixturevalue(fixtures[store]) if store in fixtures else None
    async with open_bench(store, url) as bench:
        result = await play(bench, kind, RUNS, seed=7)

    assert result.runs >= RUNS
    assert result.bad == {}


async def test_harness_finds_two_transactions() -> None:
    """Where status and ``final`` are two transactions, cancels near the end leave torn tasks."""
    async with open_bench("two-transactions") as bench:
        before = await play(bench, "cancel-at-once", 64, seed=7, patience=0.5)
        near_the_end = await play(bench, "cancel-at-completion", 128, seed=7, patience=0.5)
        twice = await play(bench, "two-cancels", 128, seed=7, patience=0.5)
    torn = [
        violation
        for result in (near_the_end, twice)
        for violations in result.bad.values()
        for violation in violations
        if violation.startswith("I2") and violation.endswith("the tape has no final")
    ]

    assert before.bad == {}  # no cancel comes between: nothing is wrong, and nothing is found
    assert len(near_the_end.bad) >= 5
    assert len(twice.bad) >= 5
    assert len(torn) >= 10
