"""Submitting: what is refused, what is run once, what a run is given, how many run at once."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import functools
import os
import threading
import types
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import Span, get_current_span

from tapescope import (
    BadOp,
    BadParams,
    BadRunner,
    BadSetting,
    BadStoreUrl,
    IdempotencyConflict,
    ManagerClosed,
    NewTask,
    Reporter,
    ResultTimeout,
    StoreRefused,
    Submission,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskStatus,
    ThreadReporter,
    UnknownStoreScheme,
    UnknownTask,
    find_store,
)
from tapescope.store.flush import Flush, FlushAnswer, FlushRefused
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryBackend, MemoryStore, until
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.memory_stores import FaultyStore, Gate, at_rest
from tests.support.workbench import Block, working


async def succeed(report: Reporter, **params: Any) -> Any:
    """A runner that gives back its params."""
    return params


async def generate_async(report: Reporter) -> AsyncGenerator[int, None]:
    """No runner: an asynchronous generator."""
    yield 1


def generate(report: Reporter) -> Iterator[int]:
    """No runner: a generator."""
    yield 1


class CallableObject:
    """A runner as an object."""

    async def __call__(self, report: Reporter) -> str:
        """Run in the loop."""
        return type(report).__name__


class PlainObject:
    """A runner as an object whose call is plain."""

    def __call__(self, report: ThreadReporter) -> str:
        """Run in a thread."""
        return type(report).__name__

    async def method(self, report: Reporter) -> str:
        """Run in the loop."""
        return type(report).__name__


def wrapped(runner: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as people write them: plain, around whatever it gets."""

    @functools.wraps(runner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return runner(*args, **kwargs)

    return wrapper


async def name_reporter(report: Reporter, suffix: str = "") -> str:
    """Say which reporter this runner was given."""
    return type(report).__name__ + suffix


def name_thread_reporter(report: ThreadReporter, suffix: str = "") -> str:
    """Say which reporter this plain function was given."""
    return type(report).__name__ + suffix


@pytest.mark.parametrize(
    ("runner", "expected"),
    [
        (name_reporter, "Reporter"),
        (functools.partial(name_reporter, suffix="!"), "Reporter!"),
        (CallableObject(), "Reporter"),
        (PlainObject().method, "Reporter"),
        (wrapped(name_reporter), "Reporter"),
        (functools.partial(wrapped(functools.partial(name_reporter, suffix="!"))), "Reporter!"),
        (name_thread_reporter, "ThreadReporter"),
        (functools.partial(name_thread_reporter, suffix="!"), "ThreadReporter!"),
        (PlainObject(), "ThreadReporter"),
        (wrapped(name_thread_reporter), "ThreadReporter"),
    ],
)
async def test_a_runner_runs_where_it_belongs(runner: Callable[..., Any], expected: str) -> None:
    """What ends in an ``async def`` runs in the loop; every other function in a thread."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("work", runner)

        assert await task.result() == expected


@pytest.mark.parametrize(
    "runner", ["resize", 3, generate, generate_async, functools.partial(generate), Block]
)
async def test_no_runner_is_refused(runner: Any) -> None:
    """A generator, a class and what cannot be called are refused, and nothing is created."""
    async with working("memory:") as bench:
        with pytest.raises(BadRunner, match="cannot run a task"):
            await bench.manager.submit("work", runner)

        assert sum((await bench.store.count()).values()) == 0


def own_loop(runner: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as command lines have it: it runs what it gets in a loop of its own."""

    @functools.wraps(runner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(runner(*args, **kwargs))

    return wrapper


async def report_all(report: Reporter, *, word: str = "") -> str:
    """Use each of the reporter's methods."""
    await report.log("info", "a line")
    await report.progress("work", 1, 2)
    await report.partial("part", 1)
    await report.emit("mine", {"a": 1})
    answer = await report.emit_nowait("mine", {"a": 2})
    page = await report.read_tape()
    return f"{word}{page.last_seq} {answer.last_seq}"


@pytest.mark.parametrize("decorate", [wrapped, own_loop])
async def test_a_wrapper_is_judged_by_what_it_returns(
    any_url: str, decorate: Callable[..., Any]
) -> None:
    """Around an ``async def`` it may return the coroutine or run it: each report is stored."""
    async with working(any_url) as bench:
        bench.manager.op("wrapped")(decorate(report_all))
        task = await bench.manager.submit("work", decorate(report_all), params={"word": "seq "})
        by_name = await bench.manager.submit("wrapped")

        assert await task.result() == "seq 6 6"
        assert await by_name.result() == "6 6"


async def test_a_mock_of_an_async_function_is_a_runner() -> None:
    """So is any plain callable that returns an awaitable: tests of users have them."""

    def plain(report: ThreadReporter) -> object:
        return asyncio.sleep(0, report.task_id and "slept")

    mock = AsyncMock(return_value={"done": True})
    async with working("memory:") as bench:
        task = await bench.manager.submit("work", mock, params={"folder": "photos"})
        other = await bench.manager.submit("work", plain)

        assert await task.result() == {"done": True}
        assert await other.result() == "slept"
    mock.assert_awaited_once()


async def test_a_wrapper_that_was_cancelled_begins_nothing(any_url: str) -> None:
    """A cancel that comes before the coroutine is begun is the task's end, and no warning."""
    go_on, called = threading.Event(), threading.Event()
    begun: list[str] = []

    async def work(report: Reporter) -> None:
        begun.append(report.task_id)

    @functools.wraps(work)
    def hold(report: Reporter) -> Any:
        called.set()
        go_on.wait(30)
        return work(report)

    async with working(any_url) as bench:
        task = await bench.manager.submit("work", hold)
        await until(called.is_set)
        await task.cancel()
        go_on.set()
        with pytest.raises(TaskCancelled):
            await task.result()

    assert begun == []


def no_reporter() -> None:
    """No runner: it takes nothing."""


def only_named(*, folder: str) -> None:
    """No runner: nothing can be given to it but by name."""


def not_by_name(report: ThreadReporter, folder: str, /) -> None:
    """No runner: its params cannot be given by name."""


def wrong_reporter(report: Reporter) -> None:
    """No runner: what it would report is never awaited."""


async def wrong_thread_reporter(report: ThreadReporter) -> None:
    """No runner: it would block the loop."""


@pytest.mark.parametrize(
    "runner", [no_reporter, only_named, not_by_name, wrong_reporter, wrong_thread_reporter]
)
async def test_a_signature_that_cannot_work_is_refused(runner: Any) -> None:
    """When it is registered, and when it is submitted."""
    async with working("memory:") as bench:
        with pytest.raises(BadRunner, match=r"reporter|Reporter|by name"):
            bench.manager.op("op")(runner)
        with pytest.raises(BadRunner):
            await bench.manager.submit("work", runner)

        assert bench.manager.ops == ()


def make_runner(parameters: str) -> Any:
    """A runner of a module of its own, as one of many that were made from one template."""
    module: dict[str, Any] = {}
    exec(f"async def work(report, {parameters}):\n    return n\n", module)
    return module["work"]


async def test_runners_of_equal_code_have_each_their_own_defaults() -> None:
    """What one of them must be given, the other need not."""
    strict, lenient = make_runner("n"), make_runner("n=1")
    async with working("memory:") as bench:
        with pytest.raises(BadParams, match="'n'"):
            await bench.manager.submit("strict", strict)
        task = await bench.manager.submit("lenient", lenient)
        result = await task.result()

    assert strict.__code__ == lenient.__code__
    assert result == 1


async def name_folder(report: Reporter, folder: str, *, deep: bool = False) -> str:
    """A runner with params of its own."""
    return folder


def add_folder(report: ThreadReporter, **params: Any) -> Any:
    """A wrapper that gives an argument which no params have."""
    return params | {"folder": "here"}


@pytest.mark.parametrize(
    "params", [{}, {"x": 1}, {"folder": 1, "x": 2}, {"folder": 1, "report": 2}]
)
async def test_wrong_params_are_refused_at_the_submit(params: dict[str, Any]) -> None:
    """Where the runner is known; elsewhere they are a failure of the attempt."""
    async with working("memory:") as bench:
        bench.manager.op("known")(name_folder)
        for submit in (
            bench.manager.submit("work", name_folder, params=params),
            bench.manager.submit("known", params=params),
        ):
            with pytest.raises(BadParams, match="the runner takes \\(report, folder, deep\\)"):
                await submit
        with pytest.raises(BadParams):
            await bench.manager.submit_many(
                [Submission("known", params={"folder": "a"}), Submission("known", params=params)]
            )

        assert sum((await bench.store.count()).values()) == 0
        # one that another process submitted, whose code is newer
        task, _ = await bench.store.create(NewTask(new_task_id(), "known", params))
        with pytest.raises(TaskFailed) as raised:
            await bench.manager.handle(task.task_id).result()

        assert raised.value.error.code == "bad_params"


async def test_a_wrapper_may_add_arguments() -> None:
    """It is asked for its own signature, not for that of what it wraps."""
    runner = functools.wraps(name_folder_in_thread)(add_folder)
    async with working("memory:") as bench:
        task = await bench.manager.submit("work", runner, params={"deep": True})

        assert await task.result() == {"deep": True, "folder": "here"}


def name_folder_in_thread(report: ThreadReporter, folder: str, deep: bool = False) -> str:
    """A plain runner with params of its own."""
    return folder


async def test_a_submit_says_whether_it_is_new(any_url: str) -> None:
    """A handler can answer 201 for a task that was made, and 200 for one that was there."""
    async with working(any_url) as bench:
        first = await bench.manager.submit("work", succeed, idempotency_key="key")
        again = await bench.manager.submit("work", succeed, idempotency_key="key")
        by_name = await bench.manager.submit("other")

        assert (first.created, again.created, by_name.created) == (True, False, True)
        assert again.task_id == first.task_id
        assert bench.manager.handle(first.task_id).created is None


@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), (True, 1.0), (0, False), ([1], [True]), ("1", 1)]
)
async def test_params_of_a_key_are_compared_as_json(any_url: str, one: Any, other: Any) -> None:
    """1, 1.0 and true are three values to every reader; the order of keys is no difference."""
    async with working(any_url) as bench:
        params = {"a": one, "b": {"x": 1, "y": [None, 0.5]}}
        first = await bench.manager.submit("work", succeed, params=params, idempotency_key="key")
        same = {"b": {"y": [None, 0.5], "x": 1}, "a": one}
        again = await bench.manager.submit("work", succeed, params=same, idempotency_key="key")
        with pytest.raises(IdempotencyConflict):
            await bench.manager.submit(
                "work", succeed, params={**params, "a": other}, idempotency_key="key"
            )

        assert again.task_id == first.task_id


@pytest.mark.parametrize(
    "kind", [types.MappingProxyType, collections.UserDict, collections.ChainMap]
)
async def test_any_mapping_is_taken_as_params(kind: Callable[..., Any]) -> None:
    """The declared type is ``Mapping``."""
    async with working("memory:") as bench:
        task = await bench.manager.submit("work", succeed, params=kind({"a": 1}))

        assert await task.result() == {"a": 1}


async def test_a_result_that_does_not_come_says_of_what(any_url: str) -> None:
    """The error names the task and its state; also that no worker knows the op."""
    block = Block()
    async with working(any_url, max_running=1) as bench:
        running = await bench.manager.submit("work", block)
        await until(block.begun.is_set)
        waiting = await bench.manager.submit("work", block)
        unknown = await bench.manager.submit("resise")
        for task, why in (
            (running, "running, attempt 1"),
            (waiting, "waits here for its time or for a free slot"),
            (unknown, "no worker of this store has registered the op 'resise'"),
        ):
            with pytest.raises(TimeoutError, match=why) as raised:
                await task.result(0.01)

            assert isinstance(raised.value, ResultTimeout)
            assert task.task_id in str(raised.value)
        block.released.set()


@pytest.mark.parametrize("op", ["", "-a", "1st", "a b", "a" * 129, "../x", "é", "a\n"])
async def test_a_bad_op_is_refused(op: str) -> None:
    """An op that cannot be a metric label is refused, and no span carries it."""
    async with working("memory:") as bench:
        with pytest.raises(BadOp):
            await bench.manager.submit(op, succeed)

        assert bench.captured.spans() == ()


@pytest.mark.parametrize("params", [{"x": float("nan")}, {"x": b""}, {1: 2}, {"x": "\0"}])
async def test_bad_params_are_refused(params: Any) -> None:
    """Params that JSON cannot carry are refused."""
    async with working("memory:") as bench:
        with pytest.raises(BadParams):
            await bench.manager.submit("work", succeed, params=params)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_running": 0},
        {"max_running": 1.5},
        {"max_zombies": 0},
        {"max_lent": -1},
        {"lease": 0.0},
        {"lease": float("inf")},
        {"heartbeat": 30.0},
        {"heartbeat": 0.0},
        {"cancel_grace": -1.0},
        {"drain": float("nan")},
        {"coalesce_progress": -0.1},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    """A setting that cannot be is refused by name, before anything is opened."""
    with pytest.raises(BadSetting) as raised:
        TaskManager(MemoryStore(), **settings)

    assert raised.value.name in settings


def test_a_store_is_found_by_its_scheme(sqlite_url: str) -> None:
    """A URL leads to its store through the entry points; an unknown one names those there are."""
    with pytest.raises(UnknownStoreScheme) as raised:
        TaskManager("mysql://host/db")

    assert find_store(sqlite_url).adapter == "sqlite"
    assert {"sqlite", "postgresql"} <= set(raised.value.known)


@pytest.mark.parametrize("url", ["tasks.db", "ann:sesame@host/db", "?password=sesame"])
def test_a_url_without_scheme_shows_no_password(url: str) -> None:
    """A URL that cannot be read is refused, and its password is not in the message."""
    with pytest.raises(BadStoreUrl) as raised:
        TaskManager(url)

    assert "sesame" not in str(raised.value)


async def test_a_manager_with_a_url_owns_its_store(sqlite_url: str) -> None:
    """A store given by URL opens and closes with the manager; one handed in stays open."""
    async with TaskManager(sqlite_url) as manager:
        task = await manager.submit("work", succeed, params={"a": 1})
        first = await task.result()
    async with find_store(sqlite_url) as store:
        async with TaskManager(store) as manager:
            second = await manager.handle(task.task_id).result()
        still_open = await store.get(task.task_id)

    assert first == second == {"a": 1}
    assert still_open.status.value == "succeeded"


async def test_a_manager_takes_nothing_before_open_and_after_close() -> None:
    """Outside its ``async with`` a manager takes nothing; to close it twice is allowed."""
    async with MemoryStore() as store:
        manager = TaskManager(store)
        with pytest.raises(ManagerClosed):
            await manager.submit("work", succeed)
        async with manager:
            pass
        await manager.aclose()
        with pytest.raises(ManagerClosed):
            await manager.submit("work", succeed)
        unopened = TaskManager(store)
        await unopened.aclose()


async def test_an_idempotent_resubmit_runs_once(any_url: str) -> None:
    """The same op and key again, at once or later, give the same task, and it runs once."""
    runs: list[int] = []

    async def count(report: Reporter, n: int) -> int:
        runs.append(n)
        return n

    async with working(any_url) as bench:
        submit = functools.partial(
            bench.manager.submit, "work", count, params={"n": 1}, idempotency_key="k"
        )
        tasks = await asyncio.gather(*(submit() for _ in range(10)))
        results = [await task.result() for task in tasks]
        later = await submit()
        with pytest.raises(IdempotencyConflict):
            await bench.manager.submit("work", count, params={"n": 2}, idempotency_key="k")

        assert len({task.task_id for task in [*tasks, later]}) == 1
        assert results == [1] * 10
        assert await later.result() == 1
        assert runs == [1]
        assert bench.captured.value("tapescope.task.submitted", task_op="work") == 1


async def test_the_key_finds_a_task_whose_submit_was_lost(any_url: str) -> None:
    """A pending task that no process runs, left by a submit that died, is run by the resubmit."""
    async with working(any_url) as bench:
        left, _ = await bench.store.create(
            NewTask(new_task_id(), "work", {"n": 1}, idempotency_key="k")
        )
        task = await bench.manager.submit("work", succeed, params={"n": 1}, idempotency_key="k")

        assert task.task_id == left.task_id
        assert await task.result() == {"n": 1}


async def test_a_cancelled_submit_leaves_nothing_pending(any_url: str) -> None:
    """A submit that is cancelled at any moment leaves no task behind that no process will run."""
    async with working(any_url) as bench:
        submits = [asyncio.ensure_future(bench.manager.submit("work", succeed)) for _ in range(40)]
        for turn, submit in enumerate(submits):
            for _ in range(turn % 8):
                await asyncio.sleep(0)
            submit.cancel()
        await asyncio.gather(*submits, return_exceptions=True)
        await bench.manager.aclose()
        left = {status.value: n for status, n in (await bench.store.count()).items()}

        assert left["pending"] == left["running"] == 0


async def test_a_cancelled_submit_many_leaves_nothing_pending(any_url: str) -> None:
    """Cancelled at any moment, also when a part of it has been answered."""
    async with working(any_url) as bench:
        many = [Submission("work", succeed if n % 2 else None) for n in range(20)]
        for turns in range(12):
            submit = asyncio.ensure_future(bench.manager.submit_many(many))
            for _ in range(turns):
                await asyncio.sleep(0)
            submit.cancel()
            await asyncio.wait([submit])
            if not submit.cancelled():  # the cancel came too late
                for handle in submit.result():
                    await handle.cancel()
        await bench.manager.aclose()
        left = {status.value: n for status, n in (await bench.store.count()).items()}

        assert left["pending"] == left["running"] == 0


async def test_submit_many_is_one_flush(any_url: str) -> None:
    """Many tasks submitted together are created in one transaction, in their order."""
    async with working(any_url) as bench:
        tasks = await bench.manager.submit_many(
            [Submission("work", succeed, {"n": n}) for n in range(100)]
        )
        results = [await task.result() for task in tasks]
        with pytest.raises(BadOp):
            await bench.manager.submit_many([Submission("ok", succeed), Submission("B!", succeed)])

        assert results == [{"n": n} for n in range(100)]
        assert await bench.store.count(op="ok")
        assert sum((await bench.store.count(op="ok")).values()) == 0


async def test_no_more_than_max_running_run_at_once(any_url: str) -> None:
    """At most ``max_running`` tasks run at once; the others wait in order, and are counted."""
    now = most = 0
    order: list[int] = []

    async def work(report: Reporter, n: int) -> None:
        nonlocal now, most
        order.append(n)
        now += 1
        most = max(most, now)
        await report.log("info", "here")
        now -= 1

    async with working(any_url, max_running=3) as bench:
        tasks = await bench.manager.submit_many(
            [Submission("work", work, {"n": n}) for n in range(20)]
        )
        await asyncio.gather(*(task.result() for task in tasks))

        assert most == 3
        assert order == list(range(20))
        assert bench.captured.value("tapescope.task.limit") == 3
        assert bench.captured.value("tapescope.task.queue.wait_time", task_op="work") == 20


async def test_states_are_counted() -> None:
    """A task is counted as pending, running or cancelling, and at the end as none of them."""
    block = Block()
    async with working("memory:", max_running=1) as bench:

        def states() -> dict[str, float]:
            points = bench.captured.points("tapescope.task.active", task_op="work")
            return {str(p.labels["tapescope.task.state"]): p.value for p in points}

        tasks = await bench.manager.submit_many([Submission("work", block)] * 2)
        await until(block.begun.is_set)
        waiting = states()
        await tasks[0].cancel()
        cancelling = states()
        block.released.set()
        await asyncio.gather(*(task.result() for task in tasks))

        assert waiting == {"pending": 1, "running": 1, "cancelling": 0}
        assert cancelling == {"pending": 1, "running": 0, "cancelling": 1}
        assert states() == {"pending": 0, "running": 0, "cancelling": 0}


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_a_run_has_a_fresh_context_and_a_span_of_its_own() -> None:
    """A run sees nothing of its submitter's context; its span is a root linked to the submit's."""
    seen: list[tuple[str, object, str]] = []

    def look() -> None:
        span = get_current_span().get_span_context()
        seen.append((variable.get(), baggage.get_baggage("user"), f"{span.span_id:016x}"))

    async def work(report: Reporter) -> str | None:
        look()
        return report.traceparent

    def work_thread(report: ThreadReporter) -> str | None:
        look()
        return report.traceparent

    async with working("memory:") as bench:
        variable.set("the submitter's")
        token = context.attach(baggage.set_baggage("user", "ann"))
        for runner in (work, work_thread):
            task = await bench.manager.submit("work", runner)
            traceparent = await task.result()
            (run,) = bench.run_spans(task.task_id)
            (submit,) = [
                span
                for span in bench.captured.spans()
                if span.name == "submit work"
                and (span.attributes or {})["tapescope.task.id"] == task.task_id
            ]

            assert run.parent is None
            assert run.context is not None
            assert submit.context is not None
            assert [link.context.span_id for link in run.links] == [submit.context.span_id]
            assert f"{run.context.span_id:016x}" in traceparent
            assert seen.pop() == ("unset", None, f"{run.context.span_id:016x}")
        context.detach(token)


class WatchedBackend(MemoryBackend):
    """A backend that looks which span is current where it writes."""

    def __init__(self) -> None:
        super().__init__()
        self.spans: list[Span] = []

    async def write(self, flush: Flush) -> FlushAnswer:
        self.spans.append(get_current_span())
        return await super().write(flush)


async def test_a_flush_belongs_to_none_of_its_callers() -> None:
    """A flush serves many callers, so none of their spans is current in it."""
    captured, watched = CapturedTelemetry(), WatchedBackend()
    async with (
        MemoryStore(telemetry=captured.telemetry, backend=watched) as store,
        TaskManager(store) as manager,
    ):
        await (await manager.submit("work", succeed)).result()

    captured.close()
    assert len(watched.spans) >= 2
    assert {span.get_span_context().is_valid for span in watched.spans} == {False}


async def test_result_waits_no_longer_than_asked() -> None:
    """``result`` with a timeout raises ``TimeoutError``, and the task runs on untouched."""
    go_on = asyncio.Event()

    async def work(report: Reporter) -> str:
        await go_on.wait()
        return "done"

    async with working("memory:") as bench:
        task = await bench.manager.submit("work", work)
        with pytest.raises(TimeoutError):
            await task.result(timeout=0.01)
        go_on.set()

        assert await task.result() == "done"
        assert await task.result() == "done"


async def test_an_unknown_task_is_an_error(any_url: str) -> None:
    """Every method of a handle on a task that is not there raises ``UnknownTask``."""
    async with working(any_url) as bench:
        for task_id in (new_task_id(), "nonsense"):
            task = bench.manager.handle(task_id)
            for ask in (task.status, task.result, task.cancel, task.tape):
                with pytest.raises(UnknownTask):
                    await ask()


async def test_a_handle_works_on_another_processs_task(store_url: str) -> None:
    """Another manager on the same database reads the result, cancels, and follows."""
    running = asyncio.Event()

    async def work(report: Reporter) -> None:
        await report.log("info", "here")
        running.set()
        await asyncio.Event().wait()

    async with (
        working(store_url) as bench,
        bench.make_other_store() as other_store,
        TaskManager(other_store) as other,
    ):
        done = await bench.manager.submit("done", succeed, params={"a": 1})
        task = await bench.manager.submit("work", work)
        await running.wait()
        seen = other.handle(task.task_id)
        follow = asyncio.ensure_future(collect(seen.follow()))
        answer = await seen.cancel("from afar")
        error = await asyncio.gather(seen.result(), return_exceptions=True)

        assert await other.handle(done.task_id).result() == {"a": 1}
        assert answer.owner == bench.manager.owner
        assert "from afar" in str(error[0])
        assert await follow == ["task_started", "log", "final"]


async def collect(events: AsyncGenerator[Any, None]) -> list[str]:
    """The types of all the events."""
    return [event.type async for event in events]


def test_an_owners_name_is_its_process_and_never_reused() -> None:
    """An owner's name holds host, pid and start time, and no two managers share one."""
    managers = [TaskManager(MemoryStore(telemetry=CapturedTelemetry().telemetry)) for _ in range(2)]
    host, pid, start, _ = managers[0].owner.split(":")

    assert host
    assert int(pid) == os.getpid()
    assert int(start.partition("-")[0]) > 0
    assert managers[0].owner != managers[1].owner


class CountingBackend(MemoryBackend):
    """Notes how many creates, claims and events each flush has, and refuses when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.flushes: list[tuple[int, int, int]] = []
        self.refuses = False

    async def write(self, flush: Flush) -> FlushAnswer:
        """Note, then write."""
        self.flushes.append((len(flush.creates), len(flush.claims), len(flush.rows)))
        if self.refuses:
            raise FlushRefused("as the test wants it")
        return await super().write(flush)


async def test_a_task_that_can_begin_is_created_and_claimed_at_once() -> None:
    """A submit and its claim are one flush while a slot is free; one that waits is only created."""
    backend, release = CountingBackend(), asyncio.Event()

    async def wait(report: Reporter) -> None:
        await release.wait()

    async with MemoryStore(backend=backend) as store, TaskManager(store, max_running=1) as manager:
        first = await manager.submit("work", wait)
        at_once, backend.flushes = backend.flushes, []
        waiting = [
            await manager.submit("work", succeed),
            await manager.submit("work", succeed, idempotency_key="k"),
        ]
        created, backend.flushes = backend.flushes, []
        release.set()
        await first.result()
        for handle in waiting:
            await handle.result()
        later = await manager.submit("work", succeed, delay=3_600)
        keyed = await manager.submit("work", succeed, idempotency_key="l")
        await keyed.result()
        await later.cancel()

    assert at_once == [(1, 1, 0)]
    assert created == [(1, 0, 0), (1, 0, 0)]
    assert not any(creates and claims for creates, claims, _ in backend.flushes)


async def test_a_task_that_began_with_its_creation_hears_its_cancel() -> None:
    """At once, and not with the next heartbeat."""

    async def wait(report: Reporter) -> None:
        await asyncio.Event().wait()

    async with MemoryStore() as store, TaskManager(store) as manager:
        handle = await manager.submit("work", wait)
        await handle.cancel()
        with pytest.raises(TaskCancelled):
            await handle.result(5)


async def test_a_submit_that_fails_gives_its_slot_back() -> None:
    """The slot that was kept for a task is free where the task was not made."""
    backend = CountingBackend()
    async with MemoryStore(backend=backend) as store, TaskManager(store, max_running=1) as manager:
        backend.refuses = True
        with pytest.raises(StoreRefused):
            await manager.submit("work", succeed)
        backend.refuses, backend.flushes = False, []
        await (await manager.submit("work", succeed)).result()

    assert backend.flushes[0] == (1, 1, 0)


async def test_a_submit_cancelled_in_its_flush_leaves_nothing_running() -> None:
    """Its task was claimed as it was created: the attempt is ended, as cancelled, and the slot is
    free."""
    async with at_rest(FaultyStore()) as store, TaskManager(store, max_running=1) as manager:
        gate = Gate()
        store.faults.before = gate
        submitting = asyncio.ensure_future(manager.submit("work", succeed))
        await gate.reached.wait()
        renewed = manager._pool.claiming  # pyright: ignore[reportPrivateUsage]  # by the heartbeat
        submitting.cancel()
        await asyncio.gather(submitting, return_exceptions=True)
        gate.opened.set()
        await store.orphans_ended()
        (task,) = (await store.list()).tasks
        tape = await store.read_tape(task.task_id)
        await (await manager.submit("work", succeed)).result()

    assert renewed == [task.task_id]
    assert (task.status, task.attempt) == (TaskStatus.CANCELLED, 1)
    assert [event.type for event in tape.events] == ["task_started", "final"]
