"""What runs first on each mutant: a row that breaks more than its guard shows nothing."""

from __future__ import annotations

from tapescope import Reporter
from tests.support.workbench import working


async def test_a_task_runs_to_its_end(any_url: str) -> None:
    """A task is submitted, reports once, and gives its result."""

    async def double(report: Reporter, n: int) -> int:
        await report.log("info", "half")
        return 2 * n

    async with working(any_url) as bench:
        handle = await bench.manager.submit("double", double, params={"n": 2})
        result = await handle.result(20)
        tape = await handle.tape()

    assert result == 4
    assert [event.type for event in tape.events] == ["task_started", "log", "final"]
