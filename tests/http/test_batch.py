"""Many tasks at once over HTTP: what becomes of each, in a flush or two, and once for each key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tapescope import Reporter, StoreUnavailable, TaskManager
from tapescope.http.access import Grant
from tapescope.http.api import ApiLimits, make_app, schemas
from tapescope.http.tokens import TokenFile
from tests.http.client import asking, problem_of
from tests.support.captured_telemetry import CapturedTelemetry

PATH = "/v1/tasks:batch"


def make_manager(url: str, **settings: Any) -> TaskManager:
    """One that knows ``double`` and ``other``, and runs nothing."""
    manager = TaskManager(url, work=False, **settings)
    manager.op("double")(_double)
    manager.op("other")(_other)
    return manager


async def _double(report: Reporter, n: int) -> int:
    return 2 * n


async def _other(report: Reporter) -> None:
    pass


def many(n: int) -> list[dict[str, Any]]:
    """So many tasks, each with its key."""
    return [{"op": "double", "params": {"n": i}, "idempotency_key": f"k{i}"} for i in range(n)]


async def test_each_has_its_answer_and_its_key(served_url: str, tmp_path: Path) -> None:
    """In the order in which they were sent; one that is refused stops no other; again is once."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", map(Grant.parse, ("submit:double", "submit:nobodys")), 0)
    tasks = [
        *many(2),
        {"op": "double", "params": {"m": 1}},
        {"op": "other"},
        {"op": "nobodys"},
        {"op": "double", "params": {"n": 1}, "idempotency_key": "k0"},
        {"op": "double", "params": {"n": 1}, "run_at": "tomorrow"},
        {
            "op": "double",
            "params": {"n": 1},
            "delay": 60,
            "retries": 1,
            "timeout": 5,
            "priority": 9,
            "tags": ["red", "blue"],
        },
        {"op": "double", "params": {"n": 1}, "idempotency_key": "k1"},
        {"op": "double", "params": {"n": 1}, "delay": 60, "unique_key": "u"},
        {"op": "double", "params": {"n": 2}, "unique_key": "u"},
    ]
    async with make_manager(served_url) as manager:
        async with asking(make_app(manager, tokens=tokens), token=token) as client:
            first = await client.post(PATH, json={"tasks": tasks})
            again = await client.post(PATH, json={"tasks": tasks[:2]})
        listed = (await manager.store.list()).tasks
        rows = [await manager.store.get(one["task_id"]) for one in again.json()["tasks"]]

    schemas.SubmittedMany.model_validate_json(first.content)
    told = first.json()["tasks"]
    assert [one["op"] for one in told] == [one["op"] for one in tasks]
    assert [one["problem"] and one["problem"]["error"] for one in told] == [
        *(None, None, "BadParams", "Forbidden", "OpNotRegistered", "IdempotencyConflict"),
        *("BadSetting", None, None, None, None),
    ]
    assert [one["created"] for one in told[:2]] == [True, True]
    assert told[1]["task_id"] == told[8]["task_id"], "two of one key are one task"
    assert told[9]["task_id"] == told[10]["task_id"], "while it is open so are two of a unique key"
    assert [one["created"] for one in told[9:]] == [True, False]
    assert [one["found_by"] for one in told[8:]] == ["idempotency_key", None, "unique_key"]
    assert [one["task_id"] for one in told if one["problem"]] == [None] * 5
    assert [(one["task_id"], one["created"]) for one in again.json()["tasks"]] == [
        (one["task_id"], False) for one in told[:2]
    ]
    assert [row.params for row in rows] == [{"n": 0}, {"n": 1}]
    assert len(listed) == 4


async def test_many_are_one_flush_or_two(sqlite_url: str) -> None:
    """Not a transaction for each: what comes while the first one is written is the next one."""
    captured = CapturedTelemetry()
    async with make_manager(sqlite_url, telemetry=captured.telemetry) as manager:
        async with asking(make_app(manager)) as client:
            await client.post("/v1/tasks", json={"op": "other"})
            before = captured.value("tapescope.store.flush.wait_time")
            made = await client.post(PATH, json={"tasks": many(300)})
        after = captured.value("tapescope.store.flush.wait_time")
    captured.close()

    assert len({one["task_id"] for one in made.json()["tasks"]}) == 300
    assert after - before <= 2


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"tasks": []}, 422, "BadSetting"),
    ({"tasks": many(4)}, 422, "BadSetting"),
    ({"tasks": [{"op": "double", "more": 1}]}, 422, "BadBody"),
    ({"tasks": {}}, 422, "BadBody"),
    ({}, 422, "BadBody"),
    ({"tasks": [{"op": "double", "params": {"n": "x" * 2_000}}]}, 413, "BodyTooLarge"),
]


async def test_what_is_no_batch_is_refused_whole(sqlite_url: str) -> None:
    """None, too many, too large, or not understood: nothing is made."""
    limits = ApiLimits(batch=3, body_bytes=1_000)
    async with make_manager(sqlite_url) as manager:
        async with asking(make_app(manager, limits=limits)) as client:
            answers = [await client.post(PATH, json=body) for body, _, _ in REFUSED]
        listed = (await manager.store.list()).tasks

    assert [problem_of(one) for one in answers] == [(status, error) for _, status, error in REFUSED]
    assert listed == ()


async def test_a_store_that_is_away_is_a_problem_of_the_whole(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503: it is sent again, and what was made before is not made twice."""
    async with make_manager(sqlite_url) as manager:
        create = manager.store.create

        async def fail(new_task: Any) -> Any:
            if new_task.params == {"n": 1}:
                raise StoreUnavailable("here", "away")
            return await create(new_task)

        async with asking(make_app(manager)) as client:
            monkeypatch.setattr(manager.store, "create", fail)
            away = await client.post(PATH, json={"tasks": many(3)})
            monkeypatch.setattr(manager.store, "create", create)
            back = await client.post(PATH, json={"tasks": many(3)})
        listed = (await manager.store.list()).tasks

    assert problem_of(away) == (503, "StoreUnavailable")
    assert away.headers["Retry-After"]
    assert [one["created"] for one in back.json()["tasks"]] == [False, True, False]
    assert len(listed) == 3
