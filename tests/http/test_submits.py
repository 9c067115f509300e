"""Submits are bounded: so many tasks wait for the store at once, and one more is told when to ask
again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from tapescope import NewTask, OpFull, Reporter, Submission, TaskManager
from tapescope.client import Client
from tapescope.http.api import ApiLimits, make_app
from tapescope.model import Refusal
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_telemetry.names import SERVER_REFUSED
from tests.http.client import asking, problem_of, serving
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.holding import held


async def _work(report: Reporter) -> None:
    pass


@asynccontextmanager
async def open_app(url: str, most: int, **settings: Any) -> AsyncGenerator[FastAPI]:
    """The application of a manager that knows ``work``, with room for ``most`` submits."""
    manager = TaskManager(url, work=False, **settings)
    manager.op("work")(_work)
    async with manager:
        yield make_app(manager, limits=ApiLimits(submits=most))


async def test_one_submit_too_many_is_told_when_to_ask_again(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """429 with ``Retry-After``, of every act that submits; nothing of it is kept, who waits is
    answered well, and then there is room."""
    caplog.set_level("INFO", "tapescope.acts")
    captured = CapturedTelemetry()
    async with (
        open_app(sqlite_url, 3, telemetry=captured.telemetry) as app,
        asking(app) as client,
    ):
        state = app.state.tapescope
        store = state.manager.store
        ended, _ = await store.create(NewTask(new_task_id(), "work"))
        await store.request_cancel(ended.task_id)
        await state.manager.schedules.add("nightly", "work", every=60)
        before = len((await store.list()).tasks)
        with held(sqlite_url):
            waiting = [
                asyncio.ensure_future(client.post("/v1/tasks", json={"op": "work"}))
                for _ in range(3)
            ]
            assert await until(lambda: state.submits.waiting == 3)
            refused = [
                await client.post("/v1/tasks", json={"op": "work"}),
                await client.post("/v1/tasks:batch", json={"tasks": [{"op": "work"}]}),
                await client.post(f"/v1/tasks/{ended.task_id}/retry"),
                await client.post("/v1/schedules/nightly/trigger"),
            ]
            form = {"Origin": "http://localhost"}
            page = await client.post("/submit", data={"op": "work"}, headers=form)
            reads = [await client.get("/v1/tasks"), await client.get("/livez")]
        answers = await asyncio.gather(*waiting)
        free = await client.post("/v1/tasks", json={"op": "work"})
        after = len((await store.list()).tasks)
    told = {
        point.labels["tapescope.server.refusal"]: point.value
        for point in captured.points(SERVER_REFUSED.name)
        if point.value
    }
    captured.close()

    assert {problem_of(one) for one in refused} == {(429, "TooManySubmits")}
    assert [one.headers["retry-after"] for one in (*refused, page)] == ["1"] * 5
    assert page.status_code == 429
    assert "wait to be submitted" in page.text
    assert [one.status_code for one in reads] == [200, 200]
    assert [one.status_code for one in (*answers, free)] == [201] * 4
    assert after == before + 4
    assert told == {"too_many": 5}
    lines = [one.getMessage() for one in caplog.records if one.name == "tapescope.acts"]
    assert sum("not done (TooManySubmits)" in line for line in lines) == 5


async def test_a_batch_counts_each_of_its_tasks(sqlite_url: str) -> None:
    """It waits as a whole or not at all; alone, it is taken however many it has."""
    many = {"tasks": [{"op": "work"}] * 3}
    async with open_app(sqlite_url, 2) as app, asking(app) as client:
        submits = app.state.tapescope.submits
        with held(sqlite_url):
            alone = asyncio.ensure_future(client.post("/v1/tasks:batch", json=many))
            assert await until(lambda: submits.waiting == 3)
            beside = await client.post("/v1/tasks", json={"op": "work"})
        first = await alone
        with held(sqlite_url):
            one = asyncio.ensure_future(client.post("/v1/tasks", json={"op": "work"}))
            assert await until(lambda: submits.waiting == 1)
            batch = await client.post("/v1/tasks:batch", json=many)
        last = await one
        tasks = len((await app.state.tapescope.manager.store.list()).tasks)

    assert first.status_code == 200
    assert problem_of(beside) == problem_of(batch) == (429, "TooManySubmits")
    assert last.status_code == 201
    assert submits.waiting == 0
    assert tasks == 4


async def test_a_client_asks_again_until_there_is_room(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps to the ``Retry-After`` within its patience, and its task is made once."""
    async with open_app(sqlite_url, 1) as app, serving(app) as (server, client):
        state = app.state.tapescope
        async with Client(server.url) as other:
            with held(sqlite_url):
                first = asyncio.ensure_future(client.post("/v1/tasks", json={"op": "work"}))
                assert await until(lambda: state.submits.waiting == 1)
                patient = asyncio.ensure_future(other.submit("work"))
                heard = asyncio.Event()

                def hear(_: Refusal) -> None:
                    heard.set()

                monkeypatch.setattr(state.meter, "refused", hear)
                await heard.wait()
            made = await first
            task = await patient
        tasks = (await state.manager.store.list()).tasks

    assert made.status_code == 201
    assert task.created is True
    assert {one.task_id for one in tasks} == {made.json()["task_id"], task.task_id}


async def test_an_op_that_is_full_is_said_to_be(sqlite_url: str) -> None:
    """429 with ``Retry-After`` and what is full, also of one of many, whose others are made; both
    doors of the client raise it at once, however patient."""
    manager = TaskManager(sqlite_url, work=False)
    manager.op("work", max_waiting=1)(_work)
    manager.op("other")(_work)
    async with manager:
        app = make_app(manager)
        async with asking(app) as client:
            made = await client.post("/v1/tasks", json={"op": "work"})
            full = await client.post("/v1/tasks", json={"op": "work"})
            body = {"tasks": [{"op": "work"}, {"op": "other"}]}
            many = (await client.post("/v1/tasks:batch", json=body)).json()["tasks"]
        async with serving(app) as (server, _), Client(server.url, patience=600) as through:
            with pytest.raises(OpFull) as raised:
                await through.submit("work")
            outcomes = await through.submit_many(
                [Submission("work"), Submission("other")], return_exceptions=True
            )
    problem = full.json()

    assert made.status_code == 201
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
    assert (problem["error"], problem["arguments"]) == (
        "OpFull",
        {"op": "work", "waiting": 1, "most": 1},
    )
    assert [one["problem"] and one["problem"]["error"] for one in many] == ["OpFull", None]
    assert (raised.value.op, raised.value.most) == ("work", 1)
    assert [isinstance(one, OpFull) for one in outcomes] == [True, False]
