"""The context that a submit gives its runner: each attempt has a copy of it, and no span of it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import NoOpTracerProvider, get_current_span

from tapescope import (
    BadSetting,
    Reporter,
    RetryPolicy,
    Submission,
    TaskManager,
    Telemetry,
    ThreadReporter,
)
from tapescope.client import Client
from tapescope.sync import SyncManager
from tapescope.testing import MemoryStore
from tests.support.workbench import working

request_id: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


async def tell(report: Reporter) -> str:
    """A runner in the loop."""
    return request_id.get()


async def tell_later(report: Reporter) -> str:
    """What the runner begins has it, too."""
    return await asyncio.create_task(tell(report))


def tell_in_thread(report: ThreadReporter) -> str:
    """A runner in a thread."""
    return request_id.get()


def tell_awaitable(report: Any) -> Any:
    """A plain function whose coroutine runs in the loop."""
    return tell(report)


def in_request(name: str) -> contextvars.Context:
    """The context of a request."""
    made = contextvars.copy_context()
    made.run(request_id.set, name)
    return made


@pytest.mark.parametrize("runner", [tell, tell_later, tell_in_thread, tell_awaitable])
async def test_a_runner_has_what_its_request_has_set(
    sqlite_url: str, runner: Callable[..., Any]
) -> None:
    """Each its own, also side by side of one context; without it nothing, as elsewhere."""
    one, two = in_request("one"), in_request("two")
    async with TaskManager(sqlite_url) as manager:
        given = [one, one, two, None]
        handles = [await manager.submit("tell", runner, context=each) for each in given]
        many = await manager.submit_many([Submission("tell", runner, context=two)] * 2)
        told = [await handle.result() for handle in [*handles, *many]]

    assert told == ["one", "one", "two", "none", "two", "two"]


async def test_each_attempt_has_it_as_it_was_given(sqlite_url: str) -> None:
    """What an attempt sets is in no later one, and not in the request's."""
    seen: list[str] = []
    given = in_request("given")

    async def work(report: Reporter) -> None:
        seen.append(request_id.get())
        request_id.set("an attempt's")
        if len(seen) < 3:
            raise OSError

    async with TaskManager(sqlite_url, retry_delay=0) as manager:
        policy = RetryPolicy(times=2, delay=0)
        await (await manager.submit("work", work, context=given, retry=policy)).result()

    assert seen == ["given"] * 3
    assert given.run(request_id.get) == "given"


async def test_its_span_and_baggage_are_what_they_would_be_without() -> None:
    """A run is a root that is linked to its submit, whatever span the request was in; and where
    nobody traces, it has no baggage either."""
    seen: list[tuple[str, object, int]] = []

    async def work(report: Reporter) -> None:
        span = get_current_span().get_span_context()
        seen.append((request_id.get(), baggage.get_baggage("user"), span.span_id))

    quiet = Telemetry(tracer_provider=NoOpTracerProvider())
    async with (
        working("memory:") as bench,
        MemoryStore() as store,
        TaskManager(store, telemetry=quiet) as untraced,
    ):
        token = context.attach(baggage.set_baggage("user", "ann"))
        with bench.captured.tracer_provider.get_tracer("web").start_as_current_span("request"):
            task = await bench.manager.submit("work", work, context=in_request("one"))
            await task.result()
        await (await untraced.submit("work", work, context=in_request("two"))).result()
        context.detach(token)
        (run,) = bench.run_spans(task.task_id)

    assert run.parent is None
    assert run.context is not None
    assert len(run.links) == 1
    assert seen == [("one", None, run.context.span_id), ("two", None, 0)]


async def test_a_run_in_a_runners_context_is_its_own(sqlite_url: str) -> None:
    """A child that is given its parent's context is not taken for the parent."""
    ids: list[str | None] = []

    async def child(report: Reporter) -> None:
        ids.append((await manager.handle(report.task_id).status()).parent_id)
        grandchild = await manager.submit("leaf", leaf, detached=False)
        ids.append((await grandchild.status()).parent_id)

    async def leaf(report: Reporter) -> None:
        pass

    async def parent(report: Reporter) -> str:
        carried = contextvars.copy_context()
        handle = await manager.submit("child", child, context=carried)
        await handle.result()
        return handle.task_id

    async with TaskManager(sqlite_url) as manager:
        first = await manager.submit("parent", parent)
        child_id = await first.result()

    assert ids == [first.task_id, child_id]


async def test_what_another_process_may_run_takes_none(sqlite_url: str) -> None:
    """By an op's name, by a server, and what is no context: told, and nothing is submitted."""
    given = in_request("one")
    async with TaskManager(sqlite_url, work=False) as manager:
        manager.op("known")(tell)
        for op, runner in (("tell", None), ("known", None), ("known", tell)):
            with pytest.raises(BadSetting, match="context"):
                await manager.submit(op, runner, context=given)
        with pytest.raises(BadSetting, match="copy_context"):
            await manager.submit("tell", tell, context={"request_id": "one"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # it is what is refused
        with pytest.raises(BadSetting, match="context"):
            await manager.schedules.add("nightly", Submission("known", context=given), every=60)
        async with Client("http://127.0.0.1:9") as client:
            with pytest.raises(BadSetting, match="context"):
                await client.submit_many([Submission("tell", context=given)])
        assert (await manager.store.list()).tasks == ()


def test_the_sync_door_takes_it(sqlite_url: str) -> None:
    """A view hands its request's context to the loop of the door."""
    with SyncManager(sqlite_url) as manager:
        told = [
            manager.submit("tell", runner, context=in_request("view")).result(30)
            for runner in (tell, tell_in_thread)
        ]

    assert told == ["view", "view"]
