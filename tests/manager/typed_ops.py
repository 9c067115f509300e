"""What mypy and pyright say of ops: each wrong use is an error of its kind, and no right one is.

Nothing here is run. Each expected error is an ignore with its code, and ``make lint`` fails for one
that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from tapescope import (
    GiveUp,
    Op,
    Ops,
    Reporter,
    Retry,
    RetryPolicy,
    Submission,
    TaskHandle,
    TaskManager,
    ThreadReporter,
)

ops = Ops()


@ops.op("resize", timeout=60)
async def resize(report: Reporter, folder: str, *, width: int = 100) -> list[str]:
    """A runner in the loop."""
    return [folder, str(width)]


@ops.op("count")
def count(report: ThreadReporter, words: list[str]) -> int:
    """A runner in a thread."""
    return len(words)


def is_busy(error: BaseException) -> bool:
    """A predicate of a policy."""
    return "busy" in str(error)


@ops.op(
    "fetch", stall_timeout=5, retry=RetryPolicy(times=5, on=(OSError, KeyError), not_on=is_busy)
)
async def fetch(report: Reporter, url: str) -> int:
    """A runner that asks for another attempt, and gives up."""
    if url:
        raise Retry("not yet", in_=30) from None
    raise GiveUp("no such page")


@dataclass
class Order:
    """A value that JSON does not carry."""

    placed: datetime


@ops.op("invoice")
async def invoice(report: Reporter, order: Order) -> Decimal:
    """A runner with types of its own."""
    return Decimal(order.placed.year)


async def right(manager: TaskManager, reporter: Reporter, thread: ThreadReporter) -> None:
    """What is right."""
    task = await resize.submit(folder="photos", width=2)
    assert_type(task, TaskHandle[list[str]])
    assert_type(await task.result(), list[str])
    assert_type(await (await count.submit(["a"])).result(timeout=1), int)
    assert_type(
        await resize.options(delay=2, idempotency_key="k").submit("a"), TaskHandle[list[str]]
    )
    assert_type(resize.bind("a"), Submission[list[str]])
    assert_type(await count.submit_many([count.bind([])]), list[TaskHandle[int]])
    assert_type(await manager.submit_many([count.bind([])]), list[TaskHandle[int]])
    called: Coroutine[Any, Any, list[str]] = resize(reporter, "a")
    assert_type(await called, list[str])
    assert_type(count(thread, []), int)
    assert_type(await (await fetch.submit("a")).result(), int)
    order = Order(datetime.now(UTC))
    assert_type(await (await invoice.submit(order)).result(), Decimal)
    assert_type(await manager.submit_bound(invoice.bind(order)), TaskHandle[Decimal])
    await manager.submit("once", fetch, params={"url": "a"}, retry=RetryPolicy(on=OSError))
    by_name = await manager.submit("resize", params={"folder": "photos"})
    assert_type(await by_name.result(), Any)
    anything: Op = resize
    print(anything.name, anything.timeout)


async def wrong(manager: TaskManager) -> None:
    """What is wrong, each with what the checkers call it."""
    await resize.submit(fodler="photos")  # type: ignore[call-arg]
    await resize.submit(folder=7)  # type: ignore[arg-type]
    await resize.submit()  # type: ignore[call-arg]
    await resize.options(dealy=3).submit("a")  # type: ignore[call-arg]
    length: int = await (await resize.submit("a")).result()  # type: ignore[assignment]
    print(length)
    resize.submit("a")  # type: ignore[unused-coroutine]
    await invoice.submit({"placed": "2026-11-29"})  # type: ignore[arg-type]
    total: float = await (await invoice.submit(Order(datetime.now(UTC)))).result()  # type: ignore[assignment]
    print(total)
    RetryPolicy(on="OSError")  # type: ignore[arg-type]
    RetryPolicy(on=int)  # type: ignore[arg-type]
    RetryPolicy(3)  # type: ignore[call-arg]
    Retry(30)  # type: ignore[arg-type]
    resize.options(retry=RetryPolicy())  # type: ignore[call-arg]
    count.bind("a")  # type: ignore[arg-type]
    TaskManager("sqlite:///tasks.db", ops="shop")  # type: ignore[arg-type]
