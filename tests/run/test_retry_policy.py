"""Retry policies: which failures are made again, when, and what the tape says of it.

The tests are in virtual time, so that the times of a memory store are exact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from tapescope import (
    GiveUp,
    Ops,
    Reporter,
    Retry,
    RetryPolicy,
    TaskFailed,
    TaskHandle,
    TaskManager,
    TaskStatus,
    Telling,
)
from tapescope.errors import BadParams, BadSetting, TaskCancelled
from tapescope.model.times import parse_time
from tests.support.memory_stores import FaultyStore, at_rest
from tests.support.virtual_time import in_virtual_time
from tests.support.workbench import started, wait_for_cancel


def raising(error: BaseException) -> Callable[..., Any]:
    """A runner that raises this, each time."""

    async def work(report: Reporter) -> None:
        raise error

    return work


async def end(task: TaskHandle) -> dict[str, Any]:
    """The error in the ``final`` of a task that fails."""
    with pytest.raises(TaskFailed):
        await task.result()
    (final,) = [event.body for event in (await task.tape()).events if event.type == "final"]
    error: dict[str, Any] = final["error"]
    return error


def at_once(**settings: Any) -> RetryPolicy:
    """A policy of one retry, without a wait."""
    return RetryPolicy(times=1, delay=0, **settings)


def is_reset(error: BaseException) -> bool:
    """A predicate."""
    return "reset" in str(error)


def cannot_say(error: BaseException) -> bool:
    """A predicate with a defect."""
    raise KeyError("no such key")


BOTH = ExceptionGroup("two", [ConnectionResetError("reset"), ValueError("no")])


@pytest.mark.parametrize(
    ("policy", "error", "attempts", "why"),
    [
        (at_once(), ValueError("no"), 2, None),
        (at_once(), SystemExit(3), 1, None),
        (at_once(on=BaseException), SystemExit(3), 1, None),
        (at_once(on=ConnectionError), ConnectionResetError("reset"), 2, None),
        (at_once(on=ConnectionError), ValueError("no"), 1, "ValueError is not retried"),
        (at_once(on=(KeyError, ValueError)), ValueError("no"), 2, None),
        (at_once(not_on=ValueError), ValueError("no"), 1, "ValueError is not retried"),
        (at_once(on=OSError, not_on=ConnectionError), ConnectionResetError("r"), 1, "Connection"),
        (at_once(on=is_reset), ConnectionResetError("reset"), 2, None),
        (at_once(on=is_reset), ValueError("no"), 1, "ValueError is not retried"),
        (at_once(not_on=is_reset), ConnectionResetError("reset"), 1, "not retried"),
        (at_once(on=cannot_say), ValueError("no"), 2, None),
        (at_once(not_on=cannot_say), ValueError("no"), 2, None),
        (at_once(), BOTH, 2, None),
        (at_once(on=ConnectionError), BOTH, 1, "ExceptionGroup is not retried"),
        (at_once(not_on=ValueError), BOTH, 1, "ExceptionGroup is not retried"),
        (at_once(), GiveUp("the folder is gone"), 1, "the runner gave up"),
        (at_once(on=GiveUp), GiveUp(), 1, "the runner gave up"),
        (at_once(), ExceptionGroup("one", [GiveUp()]), 1, "the runner gave up"),
        (at_once(on=()), Retry("not yet"), 2, None),
        (at_once(not_on=Exception), ExceptionGroup("one", [Retry(in_=0)]), 2, None),
    ],
)
@in_virtual_time
async def test_what_is_retried(
    policy: RetryPolicy, error: BaseException, attempts: int, why: str | None
) -> None:
    """A policy says which failures are made again; the ``final`` says why one was not."""
    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", raising(error), retry=policy)
        told = await end(task)
        row = await task.status()

        assert row.attempt == attempts
        assert (why or "") in str(told.get("details", {}).get("not_retried", ""))
        assert ("not_retried" in told.get("details", {})) is (why is not None)


@in_virtual_time
async def test_a_predicate_with_a_defect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody else is to find out why an attempt was made again."""
    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", raising(ValueError()), retry=at_once(on=cannot_say))
        await end(task)
    said = [one for one in caplog.records if "its predicate raised" in one.getMessage()]

    assert [one.levelno for one in said] == [logging.ERROR]
    assert said[0].exc_info
    assert said[0].exc_info[0] is KeyError


@pytest.mark.parametrize(
    ("policy", "chance", "waits"),
    [
        (RetryPolicy(), 0.0, [7, 14, 28]),
        (RetryPolicy(delay=1), 0.0, [1, 2, 4]),
        (RetryPolicy(delay=1), 0.5, [0.75, 1.5, 3]),
        (RetryPolicy(delay=1, jitter=1), 0.75, [0.25, 0.5, 1]),
        (RetryPolicy(delay=10, factor=1), 0.0, [10, 10, 10]),
        (RetryPolicy(delay=10, factor=3, most=50), 0.0, [10, 30, 50]),
        (RetryPolicy(delay=0), 0.0, [0, 0, 0]),
    ],
)
def test_the_waits_of_a_policy(policy: RetryPolicy, chance: float, waits: list[float]) -> None:
    """The first is ``delay``, or what is usual; each is ``factor`` times the one before."""
    assert [policy.find_wait(spent, 7.0, chance) for spent in range(3)] == waits
    assert policy.find_wait(10**6, 7.0, 0.0) <= policy.most


@in_virtual_time
async def test_a_policy_is_asked_of_what_was_raised() -> None:
    """Not of what a redaction hook leaves of it; the hook is asked as often as without a policy."""
    asked: list[str] = []

    def redact(told: Telling, value: Any) -> Any:
        asked.append(told.path)
        return "(hidden)"

    async with at_rest(FaultyStore()) as store, TaskManager(store, redact=redact) as manager:
        error = ConnectionError("reset by 10.0.0.7")
        task = await manager.submit("work", raising(error), retry=at_once(not_on=is_reset))
        told = await end(task)

        assert (await task.status()).attempt == 1
        assert told["message"] == told["traceback"] == "(hidden)"
        assert sorted(asked) == ["message", "traceback"]


@in_virtual_time
async def test_the_tape_says_why_and_when() -> None:
    """An ``attempt_failed`` has the next due time, by the store's clock, and why there is one."""
    policy = RetryPolicy(times=3, delay=8, jitter=0)
    errors = [ConnectionError("reset"), Retry("the file is not there yet", in_=30), Retry()]

    async def work(report: Reporter) -> str:
        if errors:
            raise errors.pop(0)
        return "done"

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", work, retry=policy)
        result = await task.result()
        events = (await task.tape()).events
        failed = [event for event in events if event.type == "attempt_failed"]

        assert result == "done"
        assert [event.body["why"] for event in failed] == [
            "retry 1 of 3",
            "retry 2 of 3, as the runner asked",
            "retry 3 of 3, as the runner asked",
        ]
        assert [
            (parse_time(event.body["run_at"]) - event.ts_us) / 1e6 for event in failed
        ] == pytest.approx([8, 30, 32])
        assert failed[1].body["error"]["message"] == "the file is not there yet"


@in_virtual_time
async def test_a_policy_has_a_deadline() -> None:
    """No attempt begins over ``within`` seconds after the submit, not even one asked for."""
    policy = RetryPolicy(times=100, delay=10, factor=1, jitter=0, within=35)
    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", raising(ValueError()), retry=policy)
        asking = await manager.submit("ask", raising(Retry(in_=36)), retry=policy)
        told = await end(task)

        assert (await task.status()).attempt == 4
        assert "over 35 s after the submit" in told["details"]["not_retried"]
        assert (await end(asking))["code"] == "tapescope.errors.Retry"
        assert (await asking.status()).attempt == 1


@in_virtual_time
async def test_an_op_has_its_policy_in_each_worker() -> None:
    """A worker that registered the op goes by its policy; its ``times`` are the op's retries."""
    ops = Ops()

    @ops.op("fetch", retry=RetryPolicy(times=2, delay=5, factor=1, jitter=0, not_on=KeyError))
    async def fetch(report: Reporter, kind: str) -> None:
        raise {"key": KeyError, "value": ValueError}[kind]

    async with (
        at_rest(FaultyStore()) as store,
        TaskManager(store, work=False) as web,
        TaskManager(store, ops=ops),
    ):
        final = await web.submit("fetch", params={"kind": "key"}, retries=2)
        again = await fetch.options(manager=web, retries=1).submit("value")
        await end(final)
        await end(again)

        assert (fetch.retries, fetch.retry) == (2, fetch.runner.retry)
        assert (await final.status()).attempt == 1
        assert (await again.status()).attempt == 2


@in_virtual_time
async def test_a_cancel_goes_before_a_retry_that_is_asked_for() -> None:
    """Whatever a cancelled runner asks for, its task is cancelled."""

    async def work(report: Reporter) -> None:
        try:
            await wait_for_cancel(report)
        finally:
            raise Retry(in_=0)

    async with at_rest(FaultyStore()) as store, TaskManager(store) as manager:
        task = await manager.submit("work", work, retry=RetryPolicy())
        await started(task)
        await task.cancel()
        with pytest.raises(TaskCancelled):
            await task.result()

        assert (await task.status()).attempt == 1


@pytest.mark.parametrize("policy", [None, RetryPolicy(delay=0, on=BadParams)])
@in_virtual_time
async def test_params_that_are_not_the_runners_are_not_retried(policy: RetryPolicy | None) -> None:
    """The runner is not begun; a policy that names ``BadParams`` waits for another worker."""
    calls: list[str] = []
    ops = Ops()

    @ops.op("resize", retry=policy)
    async def resize(report: Reporter, folder: str) -> None:
        calls.append(folder)

    async with (
        at_rest(FaultyStore()) as store,
        TaskManager(store, work=False) as web,
        TaskManager(store, ops=ops),
    ):
        task = await web.submit("resize", params={"folder": "a", "x": 2}, retries=3)
        told = await end(task)

        assert calls == []
        assert told["code"] == "bad_params"
        assert "unexpected keyword argument 'x'" in told["message"]
        assert (await task.status()).attempt == (1 if policy is None else 4)


@in_virtual_time
async def test_a_policy_of_a_submit_is_for_a_runner_of_its_own() -> None:
    """Workers know an op's policy, and none of a submit's: it is refused, and nothing is made."""
    ops = Ops()

    @ops.op("known")
    async def known(report: Reporter) -> None: ...

    async with at_rest(FaultyStore()) as store, TaskManager(store, ops=ops) as manager:
        for op, runner in (("known", None), ("other", None), ("known", known)):
            with pytest.raises(BadSetting, match="it has the policy it was registered with"):
                await manager.submit(op, runner, retry=RetryPolicy())
        with pytest.raises(BadSetting, match="None beside retry"):
            await manager.submit("mine", raising(ValueError()), retries=1, retry=RetryPolicy())
        with pytest.raises(BadSetting, match="must be a RetryPolicy"):
            await manager.submit("mine", raising(ValueError()), retry=3)  # type: ignore[arg-type]

        assert await store.count() == dict.fromkeys(TaskStatus, 0)


@pytest.mark.parametrize(
    "settings",
    [
        *({"times": -1}, {"delay": -1}, {"factor": 0}, {"most": -1}, {"within": 0}),
        *({"jitter": 2}, {"jitter": float("nan")}),
        *({"on": int}, {"on": "ValueError"}, {"on": (ValueError, 3)}, {"not_on": None}),
    ],
)
def test_a_policy_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    """The setting is named."""
    with pytest.raises(BadSetting, match=next(iter(settings))):
        RetryPolicy(**settings)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), True])
def test_a_retry_in_no_number_of_seconds_is_refused(seconds: float) -> None:
    """Where it is raised: in the runner."""
    with pytest.raises(BadSetting, match="in_"):
        Retry(in_=seconds)


def test_an_op_has_retries_or_a_policy() -> None:
    """Two numbers would be two truths."""
    with pytest.raises(BadSetting, match="RetryPolicy"):
        Ops().op("work", retries=1, retry=RetryPolicy())
