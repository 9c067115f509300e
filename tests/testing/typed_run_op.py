"""What mypy and pyright say of ``run_op``: each wrong use is an error of its kind.

Nothing here is run. Each expected error is an ignore with its code, and ``make lint`` fails for one
that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import assert_type

from tapescope import Ops, Reporter, ThreadReporter
from tapescope.testing import OpRun, run_op

ops = Ops()


@ops.op("resize")
async def resize(report: Reporter, folder: str, *, width: int = 100) -> list[str]:
    """A runner in the loop."""
    return [folder, str(width)]


@ops.op("count")
def count(report: ThreadReporter, words: list[str]) -> int:
    """A runner in a thread."""
    return len(words)


async def double(report: Reporter, number: int) -> int:
    """A function that could be one."""
    return 2 * number


async def use() -> None:
    """Right uses, and wrong ones."""
    assert_type(await run_op(resize, "photos", width=2), list[str])
    assert_type(await run_op(count, ["a"]), int)
    assert_type(await run_op(double, 2), int)
    run = run_op(resize, "photos").cancel_at("progress")
    _ = assert_type(run, OpRun[list[str]])
    await run_op(double, number="2")  # type: ignore[call-overload]
    await run_op(resize, "photos", height=3)  # type: ignore[call-arg]
    await run_op(count, 3)  # type: ignore[call-overload]
