"""The text of the bodies that a store writes by itself: the same on every store, to the byte."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tapescope import ErrorInfo, FinalEvent, NewTask, TaskStore, find_store
from tapescope.codec import encode
from tapescope.model.tasks import Attempt
from tapescope.store.validation import new_task_id
from tests.support.breaches import run_round
from tests.support.postgres_sessions import session
from tests.support.times import TIMES

MESSAGE = "enough: 'é' \"q\" \\ / \x01\x1f\x7f \b\f\n\r\t \u2028 😀 <&>"
BY = 'ann "the" \\ admin'
ERROR = ErrorInfo("ValueError", MESSAGE, "line 1\nline 2", {"n": 1.5, "big": 2**60, "nul": None})
OWNER = "there:1:0:aa"


async def read_final(url: str, task_id: str) -> str:
    """The text of a task's ``final``, as it stands in the table."""
    query = (
        "SELECT e.body FROM events e JOIN tasks t ON t.id = e.task "
        f"WHERE t.task_id = '{task_id}' AND e.type = 'final'"
    )
    if url.startswith("postgresql"):
        async with session(url) as conn:
            return str(await conn.fetchval(query))
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as conn:
        return str(conn.execute(query).fetchone()[0])


async def start_cancelled(store: TaskStore, by: str | None = BY) -> Attempt:
    """An attempt that runs, with a cancel on record."""
    task, _ = await store.create(NewTask(new_task_id(), "x"))
    claim = await store.claim_if_pending(task, OWNER, 60)
    assert claim is not None
    await store.request_cancel(task.task_id, message=MESSAGE, by=by)
    return claim.attempt


async def expect_final(store: TaskStore, task_id: str, error: ErrorInfo | None = None) -> str:
    """The text that the platform's codec writes of the cancel on record."""
    cancel = (await store.get(task_id)).cancel
    assert cancel is not None
    return encode(FinalEvent.cancelled(cancel, error).as_json(), "final")


@pytest.mark.parametrize("by", [BY, None])
async def test_a_cancel_in_the_place_of_a_retry(store_url: str, by: str | None) -> None:
    """The ``final`` keeps the error as the attempt offered it."""
    async with find_store(store_url) as store:
        attempt = await start_cancelled(store, by)
        await store.retry_later(attempt, ERROR, store.clock.now())
        expected = await expect_final(store, attempt.task_id, ERROR)

    assert await read_final(store_url, attempt.task_id) == expected


async def test_a_cancel_in_the_place_of_a_release(store_url: str) -> None:
    """The ``final`` has no error."""
    async with find_store(store_url) as store:
        attempt = await start_cancelled(store)
        await store.release(attempt, "the manager was closed")
        expected = await expect_final(store, attempt.task_id)

    assert await read_final(store_url, attempt.task_id) == expected


async def test_a_cancel_in_the_place_of_a_rescue(store_url: str) -> None:
    """The ``final`` is the one that the owner would have written."""
    async with find_store(store_url) as store:
        attempt = await start_cancelled(store)
        await store.leases.rescue_expired(dead_owners=[OWNER])
        expected = await expect_final(store, attempt.task_id)

    assert await read_final(store_url, attempt.task_id) == expected


@pytest.mark.parametrize("end", ["cancelled", "failed", "succeeded"])
async def test_a_final_that_a_repair_writes(store_url: str, end: str) -> None:
    """It is what the row tells, in the same text, marked at its end."""
    async with find_store(store_url) as store:
        attempt = await start_cancelled(store)
        final = {
            "cancelled": FinalEvent.cancelled((await store.get(attempt.task_id)).cancel),  # type: ignore[arg-type]  # it is on record
            "failed": FinalEvent.failed(ErrorInfo('odd "code"')),
            "succeeded": FinalEvent.succeeded(),
        }[end]
        await store.finish_if_running(attempt, final)
        key = (await store.get(attempt.task_id)).key
        await run_round(store_url, f"DELETE FROM events WHERE task = {key} AND type = 'final'")
        await store.maintenance.repair(attempt.task_id, by="the tests")

    lost = "its final was lost; a repair wrote this one from the row"
    if end == "failed":
        final = FinalEvent.failed(ErrorInfo('odd "code"', lost))
    expected = encode({**final.as_json(), "repaired": True}, "final")
    assert await read_final(store_url, attempt.task_id) == expected


async def test_postgres_writes_a_time_as_the_platform_does(postgres_url: str) -> None:
    """``time_text`` is exact where a double precision number is not."""
    async with find_store(postgres_url), session(postgres_url) as conn:
        written = [await conn.fetchval("SELECT time_text($1)", number) for number, _ in TIMES]

    assert written == [text for _, text in TIMES]
