"""What ended of late: the chart of the last hour, and the rates of the last minutes."""

from __future__ import annotations

import pytest

from tapescope import NewTask, TaskManager
from tapescope.http.api import make_app
from tapescope.http.api.page.overview import draw_columns
from tapescope.http.api.schemas import Stats
from tapescope.http.api.trend import Trend
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.http.client import serving

MINUTE = 60_000_000


def read(at_us: int, succeeded: int, failed: int = 0) -> Backlog:
    """A reading of a store with one op."""
    return Backlog(at_us, 0.0, (OpBacklog("x", succeeded=succeeded, failed=failed),))


def test_a_trend_is_the_difference_of_two_readings() -> None:
    """What ended before the first is not in it; minutes without a reading have even shares."""
    trend = Trend()
    now = 100 * MINUTE
    for backlog in (
        read(now - 70 * MINUTE, 500),
        read(now - 69 * MINUTE, 600),
        read(now - 5 * MINUTE, 600),
        read(now - 2 * MINUTE, 607, 1),
        read(now, 610, 1),
        read(now, 611, 1),  # of the same moment: nothing new
    ):
        trend.note(backlog)
    counts = trend.count(now, ["x"])
    columns, most = draw_columns(counts)

    assert sum(one[0] for one in counts) == 10
    assert [one[0] for one in counts[-6:]] == [2, 2, 2, 2, 1, 1]
    assert sum(one[1] for one in counts) == 1
    assert most == 3
    assert trend.count(now, ["y"]) == [(0, 0, 0)] * 60
    for column in columns:
        assert sum(height for _, _, height in column.heights) <= 100


def test_rates_are_over_the_readings_of_the_last_minutes() -> None:
    """None before there are two; of some minutes, or from the one before a long silence."""
    trend = Trend()
    told = [trend.find_rates()]
    for at, succeeded, failed in ((0, 500, 0), (100, 600, 5), (250, 600, 5), (400, 900, 5)):
        trend.note(read(at * 1_000_000, succeeded, failed))
        told.append(trend.find_rates())
    trend.note(read(4_400 * 1_000_000, 1_300))
    silent = trend.find_rates()

    assert told[:2] == [None, None]
    assert [rates and (rates.over, rates.shape("x")) for rates in told[2:]] == [
        (100.0, {"succeeded": 1.0, "failed": 0.05, "cancelled": 0.0}),
        (250.0, {"succeeded": 0.4, "failed": 0.02, "cancelled": 0.0}),
        (300.0, {"succeeded": 1.0, "failed": 0.0, "cancelled": 0.0}),
    ]
    assert silent is not None
    assert (silent.over, silent.shape("x")["succeeded"]) == (4_000.0, 0.1)
    assert silent.shape("y") == {"succeeded": 0.0, "failed": 0.0, "cancelled": 0.0}


async def test_a_server_takes_readings_by_itself(sqlite_url: str) -> None:
    """From its start on, whoever asks: what ends before the first question is in the rates."""
    async with TaskManager(sqlite_url, work=False) as manager:
        app = make_app(manager)
        async with serving(app) as (_, client):
            await until(lambda: app.state.tapescope.trend.since_us is not None, within=30)
            task, _ = await manager.store.create(NewTask(new_task_id(), "x"))
            await manager.store.request_cancel(task.task_id)
            stats = (await client.get("/v1/stats?max_age=0")).json()

    Stats.model_validate(stats)
    over, rates = stats["rates_over"], stats["ops"][0]["rates"]
    assert over > 0
    assert rates == {"succeeded": 0.0, "failed": 0.0, "cancelled": pytest.approx(1 / over)}
