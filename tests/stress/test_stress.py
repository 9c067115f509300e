"""The short form of the stress harness, and the test of the harness itself."""

from __future__ import annotations

import pytest

from tests.stress.benches import open_bench
from tests.stress.claims import CLAIMS
from tests.stress.fleet import play_fleet
from tests.stress.harness import play
from tests.stress.kinds import KINDS
from tests.stress.orphans import play_cancelled_submits
from tests.stress.over_http import play_over_http
from tests.stress.pauses import play_pauses
from tests.stress.races import play_rescues
from tests.stress.rates import play_rates
from tests.stress.run import CORE_KINDS, REAL
from tests.stress.slots import play_slots
from tests.support.faulty_telemetry import Fault

pytestmark = [pytest.mark.stress, pytest.mark.slow]

RUNS = 40
SLOTTED_TASKS = 200
RATED_TASKS = 300


def find_url(store: str, request: pytest.FixtureRequest) -> str | None:
    """Of a fresh store; ``None`` for one in memory."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}.get(store)
    return None if fixture is None else request.getfixturevalue(fixture)


@pytest.mark.parametrize("store", REAL)
@pytest.mark.parametrize("kind", [*KINDS, CLAIMS])
async def test_no_run_is_bad(store: str, kind: str, request: pytest.FixtureRequest) -> None:
    """Cancels and shutdowns at any moment leave whole tapes, true spans and a balanced ledger."""
    async with open_bench(store, find_url(store, request)) as bench:
        result = await play(bench, kind, RUNS, seed=7)

    assert result.runs >= RUNS
    assert result.bad == {}


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
@pytest.mark.parametrize("kind", CORE_KINDS)
async def test_no_run_is_bad_while_telemetry_raises(
    store: str, kind: str, request: pytest.FixtureRequest
) -> None:
    """Spans, metrics and logs that raise every other time spoil no tape and no outcome."""
    fault = Fault(chance=0.5)
    async with open_bench(store, find_url(store, request), fault) as bench:
        result = await play(bench, kind, RUNS, seed=7)

    assert result.runs >= RUNS
    assert result.bad == {}
    assert len(fault.hooks) >= 6  # which ones is chance; which there are, tests/telemetry shows


@pytest.mark.parametrize("store", REAL)
async def test_no_rescue_loses_a_cancel(store: str, request: pytest.FixtureRequest) -> None:
    """A cancel beside a rescue ends the task, or comes too late: it is never on record in vain."""
    async with open_bench(store, find_url(store, request)) as bench:
        result = await play_rescues(bench, RUNS, seed=7)

    assert result.runs >= RUNS
    assert result.bad == {}


@pytest.mark.parametrize("store", REAL)
async def test_no_cancelled_submit_leaves_a_task(
    store: str, request: pytest.FixtureRequest
) -> None:
    """Submits that are cancelled at any moment, also behind a lock, leave nothing pending."""
    async with open_bench(store, find_url(store, request)) as bench:
        result = await play_cancelled_submits(bench, 2_500, seed=7)

    assert result.runs >= 2_500
    assert result.bad == {}


@pytest.mark.parametrize("store", REAL)
async def test_no_run_over_http_is_bad(store: str, request: pytest.FixtureRequest) -> None:
    """Cancels 0 to 20 ms after a submit: as the client was told, so the row and the tape are."""
    async with open_bench(store, find_url(store, request)) as bench:
        result = await play_over_http(bench, RUNS, seed=7)

    assert result.runs >= RUNS
    assert result.bad == {}


async def test_a_woken_worker_changes_nothing(store_url: str) -> None:
    """What was paused past its lease is refused, its spans are lost, its commands are ended."""
    result = await play_pauses("store", store_url, 6)

    assert result.outcomes == {"succeeded": 6}
    assert result.late >= 6
    assert result.bad == {}


@pytest.mark.parametrize("kill_every", [None, 1.5])  # a worker must live for a beat and a run
async def test_a_fleet_runs_each_task(postgres_url: str, kill_every: float | None) -> None:
    """Two workers run each task once; where they are killed, as often as attempts are counted."""
    result = await play_fleet("store", postgres_url, 100, workers=2, kill_every=kill_every)

    assert result.outcomes == {"succeeded": 100}
    assert result.bad == {}


@pytest.mark.slow
async def test_no_more_run_than_a_key_has_slots(store_url: str) -> None:
    """Of three slots over four workers that are killed: all tasks succeed, never four at once."""
    result = await play_slots("store", store_url, SLOTTED_TASKS, kill_every=3.0)

    assert result.outcomes == {"succeeded": SLOTTED_TASKS}
    assert result.bad == {}


@pytest.mark.slow
async def test_no_more_begin_than_a_rate_lets(store_url: str) -> None:
    """Of four workers that are killed: all tasks succeed, and no window has more than the rate."""
    result = await play_rates("store", store_url, RATED_TASKS, kill_every=3.0)

    assert result.outcomes == {"succeeded": RATED_TASKS}
    assert result.bad == {}
    assert result.late > 1


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
