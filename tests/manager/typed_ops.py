"""What mypy and pyright say of ops: each wrong use is an error of its kind, and no right one is.

Nothing here is run. Each expected error is an ignore with its code, and ``make lint`` fails for one
that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

from tapescope import (
    GiveUp,
    Op,
    Ops,
    RateLimit,
    Reporter,
    ResourceOp,
    Retry,
    RetryPolicy,
    RunCall,
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


@ops.op("count", rate_limit=RateLimit(100, per=60))
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


class Pool:
    """What a resource gives."""


@asynccontextmanager
async def open_pool() -> AsyncGenerator[Pool]:
    """A resource."""
    yield Pool()


class Client:
    """A resource that is a class."""

    async def __aenter__(self) -> Client:
        """Open it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""


@ops.op("query", timeout=3, resource=open_pool)
async def query(report: Reporter, pool: Pool, sql: str, *, limit: int = 10) -> list[str]:
    """A runner in the loop that is given a resource."""
    return [sql, str(limit)]


@ops.op("fetch_all", resource=Client)
def fetch_all(report: ThreadReporter, client: Client, urls: list[str]) -> int:
    """One in a thread."""
    return len(urls)


async def time_run(run: RunCall, proceed: Callable[[], Awaitable[Any]]) -> Any:
    """A hook around a run."""
    return await proceed()


async def check_submit(
    submission: Submission, proceed: Callable[[Submission], Awaitable[TaskHandle]]
) -> TaskHandle:
    """A hook around a submit."""
    return await proceed(submission)


class Quota:
    """A hook that is an object."""

    async def __call__(
        self, submission: Submission, proceed: Callable[[Submission], Awaitable[TaskHandle]]
    ) -> TaskHandle:
        """Let it through."""
        return await proceed(submission)


async def give_nothing(
    submission: Submission, proceed: Callable[[Submission], Awaitable[TaskHandle]]
) -> None:
    """What is not a hook: it gives no handle."""


async def resources_and_hooks(manager: TaskManager, reporter: Reporter) -> None:
    """What is right: a submit leaves the resource out, a call of the function does not."""
    assert_type(await query.submit("select", limit=3), TaskHandle[list[str]])
    assert_type(await query.options(delay=2).submit(sql="select"), TaskHandle[list[str]])
    assert_type(await (await fetch_all.submit(["a"])).result(), int)
    assert_type(await query(reporter, Pool(), "select"), list[str])
    anything: Op = query
    named: ResourceOp[Pool, ..., list[str], Any] = query
    print(anything.resource, named.name)

    @manager.op("again", resource=open_pool)
    async def again(report: Reporter, pool: Pool) -> int:
        return 1

    assert_type(await (await again.submit()).result(), int)
    Ops(ops, around_run=[time_run], around_submit=[check_submit, Quota()])
    TaskManager(
        "sqlite:///tasks.db",
        around_run=(time_run,),
        resources={open_pool: lambda: nullcontext(Pool()), Client: Client},
    )


async def wrong_resources_and_hooks(manager: TaskManager, reporter: Reporter) -> None:
    """What is wrong, each with what the checkers call it."""
    await query.submit(Pool(), "select")  # type: ignore[call-arg, arg-type]
    await query.submit(pool=Pool(), sql="select")  # type: ignore[call-arg]
    await query(reporter, "select")  # type: ignore[call-arg, arg-type]
    ops.op("bare", resource=Pool)  # type: ignore[arg-type]

    @ops.op("other", resource=open_pool)  # type: ignore[arg-type]
    async def other(report: Reporter, client: Client) -> None: ...

    @ops.op("none", resource=open_pool)  # type: ignore[arg-type]
    async def none(report: Reporter) -> None: ...

    Ops(around_run=[check_submit])  # type: ignore[list-item]
    Ops(around_submit=[give_nothing])  # type: ignore[list-item]
    TaskManager("sqlite:///tasks.db", around_run=time_run)  # type: ignore[arg-type]
    TaskManager("sqlite:///tasks.db", resources={open_pool: Pool})  # type: ignore[dict-item]


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
    RateLimit(100, 60)  # type: ignore[call-arg]
    RateLimit("100", per=60)  # type: ignore[arg-type]
    ops.op("sum", rate_limit=100)  # type: ignore[call-overload]
    resize.options(retry=RetryPolicy())  # type: ignore[call-arg]
    count.bind("a")  # type: ignore[arg-type]
    TaskManager("sqlite:///tasks.db", ops="shop")  # type: ignore[arg-type]
