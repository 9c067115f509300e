"""Cancels and retries of all tasks that meet some conditions, a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from httpx import AsyncClient

from tapescope import NewTask, Reporter, TaskManager
from tapescope.http.access import Grant
from tapescope.http.api import ApiLimits, make_app, schemas
from tapescope.http.api.search import merge_pages
from tapescope.http.tokens import TokenFile
from tapescope.model.tasks import TaskPage, TaskStatus
from tapescope.store.validation import new_task_id
from tests.http.client import asking, problem_of
from tests.support.holding import held

CANCEL, RETRY = "/v1/tasks:cancel", "/v1/tasks:retry"


def make_manager(url: str) -> TaskManager:
    """One that knows ``a`` and ``b``, and runs nothing."""
    manager = TaskManager(url, work=False)
    manager.op("a")(_nothing)
    manager.op("b")(_nothing)
    return manager


async def _nothing(report: Reporter) -> None:
    pass


async def make_tasks(manager: TaskManager, **ops: int) -> list[str]:
    """So many of each op, one after the other; their ids, the newest first."""
    made = [NewTask(new_task_id(), op, tags=("t",)) for op, n in ops.items() for _ in range(n)]
    await asyncio.gather(*map(manager.store.create, made))
    return [one.task_id for one in reversed(made)]


async def read_all(
    client: AsyncClient, path: str, body: Mapping[str, Any], key: str | None = None
) -> list[Any]:
    """What became of each of all pages."""
    headers = {} if key is None else {"Idempotency-Key": key}
    told: list[Any] = []
    cursor: str | None = None
    while True:
        answer = await client.post(path, json={**body, "cursor": cursor}, headers=headers)
        assert answer.status_code == 200, answer.text
        shape = schemas.CancelledMany if path == CANCEL else schemas.RetriedMany
        shape.model_validate_json(answer.content)
        told += answer.json()["tasks"]
        cursor = answer.json()["next"]
        if cursor is None:
            return told


async def test_all_that_meet_the_conditions_are_cancelled(served_url: str) -> None:
    """Pending and running ones, newest first and each once, with the reason; others go on."""
    async with make_manager(served_url) as manager:
        ids = await make_tasks(manager, b=2, a=7)
        store = manager.store
        for task_id in (ids[1], ids[5]):
            await store.claim_if_pending(await store.get(task_id), "me", 60)
        async with asking(make_app(manager)) as client:
            told = await read_all(client, CANCEL, {"op": "a", "limit": 2, "message": "INC-42"})
            again = await read_all(client, CANCEL, {"op": "a", "limit": 5})
            running = await read_all(client, CANCEL, {"status": "running", "tag": "t"})
        rows = [await store.get(task_id) for task_id in ids]

    assert [one["task_id"] for one in told] == ids[:7]
    assert [one["state"] for one in told] == [
        "recorded" if n in (1, 5) else "cancelled" for n in range(7)
    ]
    assert [(one["task_id"], one["state"]) for one in again] == [
        (ids[n], "already_recorded") for n in (1, 5)
    ]
    assert [one["task_id"] for one in running] == [ids[1], ids[5]]
    assert [row.cancel and row.cancel.message for row in rows] == ["INC-42"] * 7 + [None] * 2


async def test_all_that_failed_are_submitted_again_once(served_url: str) -> None:
    """A key makes each retry one, however often it is asked for; those of other statuses stay."""
    async with make_manager(served_url) as manager:
        ids = await make_tasks(manager, b=1, a=5)
        await asyncio.gather(*(manager.store.request_cancel(one) for one in ids[1:]))
        body = {"status": "cancelled", "op": "a", "limit": 3}
        async with asking(make_app(manager)) as client:
            told = await read_all(client, RETRY, body, "inc-42")
            again = await read_all(client, RETRY, body, "inc-42")
        pending = await manager.store.list(status=TaskStatus.PENDING)
        made = [await manager.store.get(one["new_task_id"]) for one in told]

    assert [one["task_id"] for one in told] == ids[1:5]
    assert [one["created"] for one in told] == [True] * 4
    assert [(one["new_task_id"], one["created"], one["found_by"]) for one in again] == [
        (one["new_task_id"], False, "idempotency_key") for one in told
    ]
    assert [one.idempotency_key for one in made] == [f"inc-42/{task_id}" for task_id in ids[1:5]]
    assert {task.task_id for task in pending.tasks} == {ids[0], *(one.task_id for one in made)}


async def test_one_that_cannot_be_submitted_again_stops_no_other(sqlite_url: str) -> None:
    """Its op is registered nowhere: it has its problem, the others are made."""
    async with make_manager(sqlite_url) as manager:
        ids = await make_tasks(manager, a=1, gone=1)
        await asyncio.gather(*(manager.store.request_cancel(one) for one in ids))
        async with asking(make_app(manager)) as client:
            told = await read_all(client, RETRY, {"status": "cancelled"})

    assert [one["problem"] and one["problem"]["error"] for one in told] == [
        *("OpNotRegistered", None)
    ]
    assert [one["new_task_id"] is None for one in told] == [True, False]


REFUSED: tuple[tuple[str, dict[str, Any], str], ...] = (
    (CANCEL, {}, "BadSetting"),
    (CANCEL, {"message": "all of them?", "limit": 5}, "BadSetting"),
    (CANCEL, {"op": None, "tag": None, "status": None, "since": None}, "BadSetting"),
    (CANCEL, {"status": "failed"}, "BadBody"),
    (CANCEL, {"op": "a", "limit": 201}, "BadSetting"),
    (CANCEL, {"op": "a", "limit": 0}, "BadBody"),
    (CANCEL, {"op": "a", "cursor": "x"}, "BadSetting"),
    (CANCEL, {"op": "a", "since": "yesterday"}, "BadSetting"),
    (CANCEL, {"opp": "a"}, "BadBody"),
    (RETRY, {"op": "a"}, "BadBody"),
    (RETRY, {"status": "running"}, "BadBody"),
    (RETRY, {"status": "failed", "limit": 201}, "BadSetting"),
)


async def test_what_chooses_nothing_is_refused(sqlite_url: str) -> None:
    """No condition at all is not all tasks: nothing is done."""
    async with make_manager(sqlite_url) as manager:
        ids = await make_tasks(manager, a=1)
        async with asking(make_app(manager, limits=ApiLimits(batch=200))) as client:
            answers = [(await client.post(path, json=body)) for path, body, _ in REFUSED]
        left = await manager.store.get(ids[0])

    assert [problem_of(one) for one in answers] == [(422, error) for *_, error in REFUSED]
    assert left.cancel is None


async def test_a_token_reaches_what_it_is_for(sqlite_url: str, tmp_path: Path) -> None:
    """It names its op or tag, and may not choose among all; the act is in its name."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", map(Grant.parse, ("cancel:a", "submit:a")), 0)
    async with make_manager(sqlite_url) as manager:
        ids = await make_tasks(manager, a=1, b=1)
        async with asking(make_app(manager, tokens=tokens), token=token) as client:
            refused = [
                await client.post(CANCEL, json={"op": "b"}),
                await client.post(CANCEL, json={"status": "pending"}),
                await client.post(RETRY, json={"status": "failed"}),
            ]
            told = await read_all(client, CANCEL, {"op": "a"})
        rows = [await manager.store.get(task_id) for task_id in ids]

    assert [problem_of(one) for one in refused] == [(403, "Forbidden")] * 3
    assert [one["task_id"] for one in told] == [ids[1]]
    assert [row.cancel and row.cancel.by for row in rows] == [None, "ann"]


async def test_too_many_retries_wait_for_none(sqlite_url: str) -> None:
    """Beside submits that wait they are refused together, with when to come back."""
    async with make_manager(sqlite_url) as manager:
        ids = await make_tasks(manager, a=3)
        await asyncio.gather(*(manager.store.request_cancel(one) for one in ids))
        app = make_app(manager, limits=ApiLimits(submits=3))
        async with asking(app) as client:
            with app.state.tapescope.submits.waits():
                refused = await client.post(RETRY, json={"status": "cancelled"})
            told = await read_all(client, RETRY, {"status": "cancelled"})

    assert problem_of(refused) == (429, "TooManySubmits")
    assert refused.headers["retry-after"] == "1"
    assert [one["created"] for one in told] == [True] * 3


async def test_a_store_that_is_away_is_the_problem_of_the_whole(sqlite_url: str) -> None:
    """Not of each task: whoever asks tries again, and none is taken to be refused."""
    async with make_manager(f"{sqlite_url}?patience=0.2") as manager:
        await make_tasks(manager, a=2)
        async with asking(make_app(manager)) as client:
            with held(sqlite_url):
                answer = await client.post(CANCEL, json={"op": "a"})
            told = await read_all(client, CANCEL, {"op": "a"})

    assert problem_of(answer) == (503, "StoreBusy")
    assert len(told) == 2


async def test_pages_of_two_lists_are_one(sqlite_url: str) -> None:
    """None is left out between a page that is full and one that is not, and none is in it twice."""
    async with make_manager(sqlite_url) as manager:
        ids = await make_tasks(manager, a=9)
        rows = [await manager.store.get(task_id) for task_id in ids]
    full = TaskPage((rows[0], rows[2], rows[3]), ids[3])
    rest = TaskPage((rows[1], rows[3], rows[5], rows[8]), None)
    merged = merge_pages([full, rest], 10)
    cut = merge_pages([full, rest], 2)

    assert [task.task_id for task in merged.tasks] == ids[:4]
    assert merged.next == ids[3]
    assert [task.task_id for task in cut.tasks] == ids[:2]
    assert cut.next == ids[1]
    assert merge_pages([TaskPage((), None)] * 2, 2) == TaskPage((), None)
