"""Schedules over HTTP: what is added, changed and triggered, by whom, and what is sent again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from tapescope import Ops, Reporter, Schedule, TaskManager, read_firing
from tapescope.http.access import Grant
from tapescope.http.api import make_app, schemas
from tapescope.http.tokens import TokenFile
from tests.http.client import asking, problem_of

NIGHTLY = {"name": "nightly", "op": "send", "cron": "0 3 * * *", "params": {"n": 1}}


def make_ops() -> Ops:
    """Two ops, of which one has a declared schedule."""
    ops = Ops()

    @ops.op("send")
    async def send(report: Reporter, n: int = 0) -> int:
        return n

    @ops.op("other")
    async def other(report: Reporter) -> None:
        pass

    ops.schedule("declared", "other", every=60)
    return ops


@asynccontextmanager
async def open_api(
    url: str, tokens: TokenFile | None = None
) -> AsyncGenerator[tuple[TaskManager, AsyncClient]]:
    """A manager with ``make_ops``, and a client of its API."""
    async with (
        TaskManager(url, ops=make_ops(), drain=0) as manager,
        asking(make_app(manager, tokens=tokens)) as client,
    ):
        yield manager, client


async def test_a_schedule_is_added_once_and_changed(served_url: str) -> None:
    """201 and 200 as the store had it, 409 for another one; each act sent twice is done once."""
    async with open_api(served_url) as (manager, client):
        added = await client.post("/v1/schedules", json=NIGHTLY)
        again = await client.post("/v1/schedules", json=NIGHTLY)
        taken = await client.post("/v1/schedules", json={**NIGHTLY, "params": {"n": 2}})
        declared = await client.post(
            "/v1/schedules", json={"name": "declared", "op": "other", "every": 60}
        )
        paused = [await client.post("/v1/schedules/nightly/pause") for _ in range(2)]
        still = await client.post("/v1/schedules", json=NIGHTLY)
        row = await manager.schedules.get("nightly")
        resumed = [await client.post("/v1/schedules/nightly/resume") for _ in range(2)]
        seen = await client.get(added.headers["location"])
        removed = [await client.delete("/v1/schedules/nightly") for _ in range(2)]
        left = await manager.store.schedules.find("nightly")

    schemas.ScheduleAdded.model_validate_json(added.content)
    assert (added.status_code, again.status_code, still.status_code) == (201, 200, 200)
    assert added.headers["location"] == "/v1/schedules/nightly"
    assert added.json() | {"created": False} == again.json()
    assert problem_of(taken) == (409, "ScheduleTaken")
    assert (declared.status_code, declared.json()["origin"]) == (200, "code")
    assert [one.json()["paused"] for one in (*paused, *resumed)] == [True, True, False, False]
    assert paused[0].json() == paused[1].json()
    assert resumed[0].json() == resumed[1].json() == seen.json()
    assert row.paused
    assert still.json()["paused"], "to add it again does not resume it"
    assert removed[0].json()["name"] == "nightly"
    assert problem_of(removed[1]) == (404, "UnknownSchedule")
    assert left is None


async def test_a_trigger_makes_one_task_for_a_key(served_url: str) -> None:
    """The answer names it; its own key says which schedule it is of, and that it was by hand."""
    async with open_api(served_url) as (manager, client):
        await client.post("/v1/schedules", json=NIGHTLY)
        path = "/v1/schedules/nightly/trigger"
        keyed = [await client.post(path, headers={"Idempotency-Key": "x@1#2"}) for _ in range(2)]
        free = [await client.post(path) for _ in range(2)]
        absent = await client.post("/v1/schedules/absent/trigger")
        long = await client.post(path, headers={"Idempotency-Key": "x" * 1_020})
        task_id = keyed[0].json()["task_id"]
        firing = read_firing((await manager.store.get(task_id)).idempotency_key)
        result = await manager.handle(task_id).result()
        await client.post("/v1/schedules", json={**NIGHTLY, "name": "second"})
        second = await client.post(
            "/v1/schedules/second/trigger", headers={"Idempotency-Key": "x@1#2"}
        )

    assert [one.status_code for one in (*keyed, *free)] == [201, 200, 201, 201]
    assert keyed[0].headers["location"] == f"/v1/tasks/{task_id}"
    assert keyed[1].json() == {
        "task_id": task_id,
        "op": "send",
        "created": False,
        "found_by": "idempotency_key",
    }
    assert len({one.json()["task_id"] for one in (keyed[0], *free, second)}) == 4
    assert firing is not None
    assert (firing.schedule, firing.by_hand, firing.at) == ("nightly", True, None)
    assert result == 1
    assert problem_of(absent) == (404, "UnknownSchedule")
    assert problem_of(long) == (422, "BadSetting")


REFUSED: list[tuple[dict[str, Any], int, str]] = [
    ({"cron": "0 3 * *"}, 422, "BadSetting"),
    ({"cron": "0 0 30 2 *"}, 422, "BadSetting"),
    ({"every": 60}, 422, "BadSetting"),
    ({"cron": None, "every": 0.5}, 422, "BadSetting"),
    ({"time_zone": "Mars"}, 422, "BadSetting"),
    ({"catch_up": "some"}, 422, "BadSetting"),
    ({"name": "no name"}, 422, "BadSetting"),
    ({"op": "no op"}, 422, "BadOp"),
    ({"op": "unknown"}, 409, "OpNotRegistered"),
    ({"params": {"m": 1}}, 422, "BadParams"),
    ({"more": 1}, 422, "BadBody"),
    ({"retries": -1}, 422, "BadSetting"),
]


async def test_what_cannot_be_a_schedule_is_refused(sqlite_url: str) -> None:
    """With the error that the manager has for it, and nothing is kept."""
    async with open_api(sqlite_url) as (manager, client):
        answers = [await client.post("/v1/schedules", json=NIGHTLY | one) for one, _, _ in REFUSED]
        infinite = await client.post(
            "/v1/schedules",
            content=b'{"name": "x", "op": "send", "params": {"n": Infinity}}',
            headers={"Content-Type": "application/json"},
        )
        names = [one.name for one in (await manager.schedules.list()).schedules]

    assert [problem_of(one) for one in answers] == [(status, error) for _, status, error in REFUSED]
    assert problem_of(infinite) == (400, "BadBody")
    assert names == ["declared"]


async def test_every_schedule_is_on_one_page(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a cursor; with a token for some ops its own, however many others are between."""
    monkeypatch.setattr("tapescope.http.api.visible._CHUNK", 4)
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("read:mine")], 0)
    every = tokens.add("all", [Grant.parse("read")], 0)
    async with TaskManager(sqlite_url, work=False) as manager:
        rows = [Schedule(f"o{n:05}", "other", every=60) for n in range(11)]
        rows += [Schedule(name, "mine", every=60) for name in ("a", "o00003a", "z")]
        for row in rows:
            await manager.store.schedules.add_if_absent(row)
        async with asking(make_app(manager, tokens=tokens), token=token) as client:
            own = await _list_all(client, 2)
            whole = await client.get("/v1/schedules?limit=3")
            client.headers["Authorization"] = f"Bearer {every}"
            names = await _list_all(client, 5)
            bad = await client.get("/v1/schedules?cursor=%00")

    schemas.Schedules.model_validate_json(whole.content)
    assert own == ["a", "o00003a", "z"]
    assert whole.json()["next"] is None
    assert names == sorted(row.name for row in rows)
    assert problem_of(bad) == (422, "BadSetting")
    assert "cursor" in bad.json()["detail"]


async def _list_all(client: AsyncClient, limit: int) -> list[str]:
    names: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/schedules", params=query)).json()
        assert len(page["schedules"]) <= limit
        names += [one["name"] for one in page["schedules"]]
        cursor = page["next"]
    return names


async def test_what_a_narrow_token_cannot_see_is_bounded(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page looks at so many schedules of others, and the next one goes on from there."""
    monkeypatch.setattr("tapescope.http.api.visible._CHUNK", 4)
    monkeypatch.setattr("tapescope.http.api.visible._LOOKED", 8)
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("read:mine")], 0)
    async with TaskManager(sqlite_url, work=False) as manager:
        for row in (
            *(Schedule(f"o{n:02}", "other", every=60) for n in range(20)),
            Schedule("z", "mine", every=60),
        ):
            await manager.store.schedules.add_if_absent(row)
        async with asking(make_app(manager, tokens=tokens), token=token) as client:
            first = (await client.get("/v1/schedules")).json()
            own = await _list_all(client, 5)

    assert first == {"schedules": [], "next": "o07"}
    assert own == ["z"]


async def test_who_may_change_what(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A trigger is a submit of its op; a change takes ``admin``; each leaves a line with who."""
    caplog.set_level("INFO", "tapescope.acts")
    tokens = TokenFile(tmp_path / "tokens.json")
    narrow = tokens.add("ann", map(Grant.parse, ("read:send", "submit:send", "cancel")), 0)
    reader = tokens.add("bob", [Grant.parse("read")], 0)
    admin = tokens.add("eve", [Grant.parse("admin")], 0)
    told: dict[str, list[int]] = {}
    async with open_api(sqlite_url, tokens) as (manager, client):
        await manager.schedules.add("mine", "send", every=60)
        for name, token in (("narrow", narrow), ("reader", reader), ("admin", admin)):
            client.headers["Authorization"] = f"Bearer {token}"
            told[name] = [
                (await client.request(method, f"/v1/schedules{path}", **more)).status_code
                for method, path, more in _ACTS
            ]

    assert told == {
        #          see, other's, trigger, other's, add, pause, resume, remove
        "narrow": [200, 404, 201, 404, 403, 403, 403, 403],
        "reader": [200, 200, 403, 403, 403, 403, 403, 403],
        "admin": [200, 200, 201, 201, 201, 200, 200, 200],
    }
    lines = [record.getMessage() for record in caplog.records if record.name == "tapescope.acts"]
    assert sum(" by ann " in line for line in lines) == 2, "the triggers that it may ask for"
    assert sum("not done" in line for line in lines) == 1
    for act in ("trigger", "add", "pause", "resume", "remove"):
        assert any(
            line.startswith(f"{act} of schedule") and " by eve " in line and "not done" not in line
            for line in lines
        )


_ACTS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/mine", {}),
    ("GET", "/declared", {}),
    ("POST", "/mine/trigger", {}),
    ("POST", "/declared/trigger", {}),
    ("POST", "", {"json": NIGHTLY}),
    ("POST", "/mine/pause", {}),
    ("POST", "/mine/resume", {}),
    ("DELETE", "/mine", {}),
]


async def test_an_op_that_nobody_registered_is_not_triggered(sqlite_url: str) -> None:
    """As by every submit over HTTP: no task is made that nobody runs."""
    async with open_api(sqlite_url) as (manager, client):
        await manager.schedules.add("lone", "nobodys", every=60)
        answer = await client.post("/v1/schedules/lone/trigger")
        count = len((await manager.store.list(op="nobodys")).tasks)

    assert problem_of(answer) == (409, "OpNotRegistered")
    assert count == 0


def test_the_example_of_a_schedule_can_be_sent() -> None:
    """It is a body that the route takes."""
    (example,) = schemas.ScheduleBody.model_json_schema()["examples"]

    assert schemas.ScheduleBody.model_validate(example).name == "nightly"
