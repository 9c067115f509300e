"""Hooks around a run: nested like calls, part of the attempt, and without a word in a cancel."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from tapescope import (
    BadSetting,
    Ops,
    Outcome,
    Reporter,
    RetryPolicy,
    RunCall,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    ThreadReporter,
)
from tapescope.testing import MemoryStore, assert_tape, until
from tests.support.workbench import (
    GRACE,
    Block,
    Workbench,
    ended,
    started,
    wait_for_cancel,
    working,
)

Proceed = Callable[[], Awaitable[Any]]

shade: contextvars.ContextVar[str] = contextvars.ContextVar("shade", default="none")


class Note:
    """A hook that notes where it stands."""

    def __init__(self, name: str, into: list[str]) -> None:
        self.name, self.into = name, into

    async def __call__(self, run: RunCall, proceed: Proceed) -> Any:
        """Note the way in and the way out."""
        self.into.append(f"{self.name} before")
        result = await proceed()
        self.into.append(f"{self.name} after")
        return result


def paint(report: ThreadReporter, folder: str) -> str:
    """A runner in a thread, which reads what a hook has set."""
    return f"{folder} {shade.get()}"


async def test_hooks_are_nested_from_the_manager_inward(any_url: str) -> None:
    """The manager's, then those of each registry before those of what it includes, each once."""
    order: list[str] = []
    shop = Ops(around_run=[Note("shop", order)])
    left = Ops(shop, around_run=[Note("left", order)])
    right = Ops(shop, around_run=[Note("right 1", order), Note("right 2", order)])
    other = Ops(around_run=[Note("other", order)])

    @shop.op("work")
    async def work(report: Reporter) -> str:
        order.append("runner")
        return "done"

    around = [Note("manager", order)]
    async with working(any_url, ops=[other, left, right], around_run=around) as bench:
        assert await (await work.submit()).result() == "done"
        inward = ["manager", "left", "right 1", "right 2", "shop"]

        assert order == [
            *(f"{name} before" for name in inward),
            "runner",
            *(f"{name} after" for name in reversed(inward)),
        ]
        order.clear()
        await (await bench.manager.submit("callable", paint, params={"folder": "a"})).result()

        assert order == ["manager before", "manager after"]


async def test_a_registry_that_is_included_later_brings_its_hooks() -> None:
    """Also one in one that the manager was given, while it is open."""
    order: list[str] = []
    shop = Ops()
    async with working("memory:", ops=shop):
        late = Ops(around_run=[Note("late", order)])

        @late.op("work")
        async def work(report: Reporter) -> None:
            order.append("runner")

        shop.include(Ops(late))
        await (await work.submit()).result()

        assert order == ["late before", "runner", "late after"]


async def test_a_hook_knows_the_run_and_reports_on_its_tape() -> None:
    """It reads params as the runner has them, and what it sets is seen in the runner's thread."""
    told: list[RunCall] = []

    async def tell(run: RunCall, proceed: Proceed) -> Any:
        told.append(run)
        with pytest.raises(TypeError):
            run.params["folder"] = "changed"  # type: ignore[index]  # pyright: ignore[reportIndexIssue]  # the test
        await run.report.log("info", "before")
        shade.set("red")
        return [await proceed()]

    async with working("memory:", around_run=[tell]) as bench:
        task = await bench.manager.submit("work", paint, params={"folder": "photos"})

        assert await task.result() == ["photos red"]
        assert_tape(await task.tape(), ["task_started", "log", Outcome.SUCCEEDED])
    (run,) = told
    assert (run.op, run.task_id, run.attempt) == ("work", task.task_id, 1)
    assert (dict(run.params), run.in_thread) == ({"folder": "photos"}, True)


@pytest.mark.parametrize("after", [False, True])
async def test_what_a_hook_raises_fails_the_attempt(*, after: bool) -> None:
    """As if the runner had raised it: before it, after it, and the retry policy says what comes."""
    runs: list[int] = []
    raised = [ConnectionError("away"), KeyError("no")]

    async def fail(run: RunCall, proceed: Proceed) -> Any:
        if after:
            await proceed()
        raise raised[run.attempt - 1]

    async def work(report: Reporter) -> None:
        runs.append(report.attempt)

    async with working("memory:", around_run=[fail], retry_delay=0) as bench:
        policy = RetryPolicy(times=5, on=OSError)
        task = await bench.manager.submit("work", work, retry=policy)
        with pytest.raises(TaskFailed, match="'no'"):
            await task.result()

        assert runs == ([1, 2] if after else [])
        assert_tape(
            await task.tape(),
            [
                "task_started",
                ("attempt_failed", {"error": {"code": "ConnectionError"}}),
                "task_started",
                ("final", {"outcome": "failed", "error": {"code": "KeyError"}}),
            ],
        )


async def test_a_hook_may_answer_for_the_runner() -> None:
    """With a result of its own, in the place of a call or of a failure."""

    async def spare(run: RunCall, proceed: Proceed) -> Any:
        if run.params["kind"] == "known":
            return "from the cache"
        try:
            return await proceed()
        except ValueError as error:
            return str(error)

    async def work(report: Reporter, kind: str) -> str:
        raise ValueError(f"failed: {kind}")

    async with working("memory:", around_run=[spare]) as bench:
        known = await bench.manager.submit("work", work, params={"kind": "known"})
        failed = await bench.manager.submit("work", work, params={"kind": "other"})

        assert await known.result() == "from the cache"
        assert await failed.result() == "failed: other"


async def stop_runner_and_return(run: RunCall, proceed: Proceed) -> Any:
    """The runner is cancelled; the hook swallows that."""
    try:
        return await proceed()
    except asyncio.CancelledError:
        return "swallowed"


async def stop_runner_and_raise(run: RunCall, proceed: Proceed) -> Any:
    """The runner is cancelled; the hook makes an error of that."""
    try:
        return await proceed()
    except asyncio.CancelledError:
        raise ValueError("a cancel") from None


async def stopped_before_and_return(run: RunCall, proceed: Proceed) -> Any:
    """The hook is cancelled before the runner has begun, and gives a result."""
    try:
        await wait_for_cancel(run.report)
    except asyncio.CancelledError:
        return "swallowed"


async def stopped_before_and_proceed(run: RunCall, proceed: Proceed) -> Any:
    """The hook is cancelled before the runner has begun, and would begin it, twice."""
    try:
        await wait_for_cancel(run.report)
    except asyncio.CancelledError:
        try:
            await proceed()
        except asyncio.CancelledError:
            return "swallowed"


@pytest.mark.parametrize(
    "hook",
    [
        stop_runner_and_return,
        stop_runner_and_raise,
        stopped_before_and_return,
        stopped_before_and_proceed,
    ],
)
async def test_a_hook_makes_nothing_else_of_a_cancel(hook: Any) -> None:
    """Neither a success nor an error, and no runner is begun after it."""
    runs: list[int] = []

    async def work(report: Reporter) -> None:
        runs.append(1)
        await wait_for_cancel(report)

    async with working("memory:", around_run=[hook]) as bench:
        task = await bench.manager.submit("work", work, retries=3)
        await started(task)
        await task.cancel("enough")
        with pytest.raises(TaskCancelled):
            await task.result()
        account = await bench.account(task)

        assert account == ended("cancelled", reason="user", tape=["task_started", "log", "final"])
        assert runs == ([1] if hook in (stop_runner_and_return, stop_runner_and_raise) else [])


async def test_a_cancel_that_comes_after_the_runner_may_lose() -> None:
    """The runner has returned, and its hook ends well: the work is done, as by a runner itself."""

    async def work(report: Reporter) -> str:
        return "done"

    async def finish(run: RunCall, proceed: Proceed) -> Any:
        result = await proceed()
        try:
            await wait_for_cancel(run.report)
        except asyncio.CancelledError:
            return result

    async def give_up(run: RunCall, proceed: Proceed) -> Any:
        await proceed()
        await wait_for_cancel(run.report)

    async with working("memory:", around_run=[finish]) as bench:
        task = await bench.manager.submit("work", work)
        await started(task)
        await task.cancel()

        assert await task.result() == "done"
    async with working("memory:", around_run=[give_up]) as bench:
        task = await bench.manager.submit("work", work)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()


async def test_a_hook_swallows_no_timeout_and_no_release() -> None:
    """A timeout stays one, and a task that is given back is not done by a hook's result."""
    ops = Ops(around_run=[stop_runner_and_return])

    @ops.op("work", retries=0)
    async def work(report: Reporter) -> None:
        await wait_for_cancel(report)

    async with MemoryStore() as store:
        async with TaskManager(store, ops=ops, drain=0) as manager:
            late = await work.options(timeout=0.02).submit()
            with pytest.raises(TaskFailed, match="timeout of"):
                await late.result()
            task = await work.submit()
            await started(task)
        row = await store.get(task.task_id)

        assert (row.status.value, row.retries_spent, manager.is_open) == ("pending", 0, False)


async def test_a_stuck_hook_is_fenced_as_a_runner_is() -> None:
    """After the grace the task ends without it, and its slot is free."""
    release = asyncio.Event()

    async def stick(run: RunCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        finally:
            await release.wait()

    async with working("memory:", around_run=[stick], cancel_grace=GRACE, max_running=1) as bench:
        task = await bench.manager.submit("work", wait_for_cancel)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        release.set()
        await bench.zombies_ended()

        assert (await bench.account(task)).row == ("cancelled", None)


@pytest.mark.parametrize("hook_last", [False, True])
async def test_a_thread_that_goes_on_has_its_hooks_unwound(*, hook_last: bool) -> None:
    """They are cancelled when it is fenced; the zombie has ended when both have."""
    block, release, unwound = Block(), asyncio.Event(), asyncio.Event()

    async def clean(run: RunCall, proceed: Proceed) -> Any:
        try:
            return await proceed()
        except asyncio.CancelledError:
            unwound.set()
            await release.wait()
            raise

    async with working("memory:", around_run=[clean], cancel_grace=GRACE) as bench:
        task = await bench.manager.submit("work", block)
        await until(block.begun.is_set)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()
        await unwound.wait()
        for go_on in (block.released, release) if hook_last else (release, block.released):
            assert zombies(bench) == 1
            go_on.set()
            if hook_last:
                await until(lambda: "tapescope-work" not in map(name_of, threading.enumerate()))
        await bench.zombies_ended()

        assert (await bench.account(task)).span == ("UNSET", "cancelled", None)
        assert zombies(bench) == 0


def name_of(thread: threading.Thread) -> str:
    """Its name."""
    return thread.name


def zombies(bench: Workbench) -> float:
    """How many runners go on after their cancel."""
    return sum(point.value for point in bench.captured.points("tapescope.task.zombies"))


@pytest.mark.parametrize("left", [False, True])
async def test_a_hook_is_cancelled_behind_its_thread(*, left: bool) -> None:
    """The thread has returned, or the hook has left it: the cancel lands in the hook, at once."""
    block = Block()
    if not left:
        block.released.set()

    async def linger(run: RunCall, proceed: Proceed) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.01 if left else None):
                await proceed()
        await wait_for_cancel(run.report)

    async with working("memory:", around_run=[linger], cancel_grace=600.0) as bench:
        task = await bench.manager.submit("work", block)
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result(30)
        block.released.set()


async def test_a_hooks_own_timeout_is_a_failure() -> None:
    """As a runner's is; a thread goes on without the task, and is counted as a zombie."""
    block = Block()

    async def hurry(run: RunCall, proceed: Proceed) -> Any:
        async with asyncio.timeout(0.01):
            return await proceed()

    async with working("memory:", around_run=[hurry]) as bench:
        for runner in (wait_for_cancel, block):
            task = await bench.manager.submit("work", runner)
            with pytest.raises(TaskFailed) as failed:
                await task.result()

            assert failed.value.error.code == "TimeoutError"
        assert zombies(bench) == 1
        block.released.set()


async def test_a_hook_proceeds_once_and_in_time() -> None:
    """A second time is its mistake, and one after the end begins no runner."""
    runs: list[int] = []
    left: list[Proceed] = []

    async def twice(run: RunCall, proceed: Proceed) -> Any:
        await proceed()
        return await proceed()

    async def never(run: RunCall, proceed: Proceed) -> Any:
        left.append(proceed)

    async def work(report: Reporter) -> None:
        runs.append(1)

    async with working("memory:", around_run=[twice]) as bench:
        task = await bench.manager.submit("work", work)
        with pytest.raises(TaskFailed, match="'proceed' twice"):
            await task.result()
    async with working("memory:", around_run=[never]) as bench:
        await (await bench.manager.submit("work", work)).result()
        with pytest.raises(asyncio.CancelledError):
            await left[0]()

    assert runs == [1]


async def test_what_is_not_a_hook_is_refused() -> None:
    """A function that is not async, one that stands alone, a class."""

    def plain(run: RunCall, proceed: Proceed) -> Any:
        return proceed()

    async def right(run: RunCall, proceed: Proceed) -> Any:
        return await proceed()

    wrong: list[Any] = [[plain], right, [Note], [3], [right] * 101, iter([right])]
    for hooks in wrong:
        for make in (Ops, partial(TaskManager, "sqlite:///never.db")):
            for name in ("around_run", "around_submit"):
                with pytest.raises(BadSetting, match=f"{name} is .*a list of async functions"):
                    make(**{name: hooks})
    Ops(around_run=[right, Note("object", []), partial(right)])


def test_hooks_cost_nothing_where_there_are_none() -> None:
    """No function of theirs is called, neither in a submit nor in a run."""
    assert count_calls([]) == 0 < count_calls([Note("one", [])])


def count_calls(around: list[Note]) -> int:
    """Calls of functions that have to do with hooks, in one submit and its run."""
    counted = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal counted
        counted += event == "call" and "hook" in frame.f_code.co_qualname.lower()

    async def work(report: Reporter) -> None:
        return None

    async def main() -> None:
        async with MemoryStore() as store, TaskManager(store, around_run=around) as manager:
            before = sys.getprofile()
            sys.setprofile(note)
            try:
                await (await manager.submit("work", work)).result()
            finally:
                sys.setprofile(before)

    asyncio.run(main())
    return counted
