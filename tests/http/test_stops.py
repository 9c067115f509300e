"""Paused ops and drained workers over HTTP: what is stopped, by whom, and who may see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from tapescope import NewTask, TaskManager
from tapescope.http.access import Grant
from tapescope.http.api import make_app, schemas
from tapescope.http.tokens import TokenFile
from tapescope.store.validation import new_task_id
from tests.http.client import asking, problem_of

OWNER = "web-1:4711:5-1.2-ab:cc"
OTHERS = ("web-1:471:5-1.2-ab:bb", "web-2:7:5-1.2-ab:aa")


@asynccontextmanager
async def open_api(
    url: str, tokens: TokenFile | None = None
) -> AsyncGenerator[tuple[TaskManager, AsyncClient]]:
    """A manager that runs nothing, with three workers of others, and a client of its API."""
    async with (
        TaskManager(url, work=False) as manager,
        asking(make_app(manager, tokens=tokens)) as client,
    ):
        for owner in (OWNER, *OTHERS):
            await manager.store.ops.tell(owner, ["mail", "sms"], 60)
        yield manager, client


async def test_an_op_is_paused_until_it_is_resumed(served_url: str) -> None:
    """No claim takes its tasks meanwhile; the first pause stays, and so does one that is resumed
    twice."""
    async with open_api(served_url) as (manager, client):
        store = manager.store
        task, _ = await store.create(NewTask(new_task_id(), "mail"))
        paused = [
            await client.post("/v1/ops/mail/pause", json={"reason": reason})
            for reason in ("the relay is down", "other")
        ]
        bare = await client.post("/v1/ops/later/pause")
        claimed = await store.claim_due(OWNER, ["mail"], 1, 30)
        listed = await client.get("/v1/pauses")
        stats = await client.get("/v1/stats?max_age=0")
        resumed = [await client.post("/v1/ops/mail/resume") for _ in range(2)]
        again = await store.claim_due(OWNER, ["mail"], 1, 30)

    schemas.Pause.model_validate_json(paused[0].content)
    schemas.Pauses.model_validate_json(listed.content)
    for one in resumed:
        schemas.Resumed.model_validate_json(one.content)
    assert paused[0].json() == paused[1].json()
    assert (paused[0].json()["reason"], paused[0].json()["by"]) == ("the relay is down", None)
    assert claimed == []
    assert listed.json() == {"pauses": [bare.json(), paused[0].json()], "next": None}
    assert {one["op"]: one["paused"] for one in stats.json()["ops"]}["mail"] == paused[0].json()
    assert [one.json() for one in resumed] == [
        {"op": "mail", "was": paused[0].json()},
        {"op": "mail", "was": None},
    ]
    assert [one.task.task_id for one in again] == [task.task_id]


async def test_a_worker_is_drained_until_it_is_let_again(served_url: str) -> None:
    """No claim of that owner takes a task meanwhile; others do; who is not there is unknown."""
    async with open_api(served_url) as (manager, client):
        store = manager.store
        for _ in range(2):
            await store.create(NewTask(new_task_id(), "mail"))
        path = f"/v1/workers/{OWNER}"
        drained = [
            await client.post(f"{path}/drain", json={"reason": reason})
            for reason in ("it leaks", "other")
        ]
        claimed = [await store.claim_due(owner, ["mail"], 1, 30) for owner in (OWNER, OTHERS[0])]
        listed = await client.get("/v1/workers")
        undrained = [await client.post(f"{path}/undrain") for _ in range(2)]
        again = await store.claim_due(OWNER, ["mail"], 1, 30)
        unknown = [await client.post(f"/v1/workers/web-1/{act}") for act in ("drain", "undrain")]

    schemas.Drained.model_validate_json(drained[0].content)
    schemas.Workers.model_validate_json(listed.content)
    schemas.Undrained.model_validate_json(undrained[0].content)
    assert drained[0].json() == drained[1].json()
    assert drained[0].json()["drain"]["reason"] == "it leaks"
    assert [len(one) for one in claimed] == [0, 1]
    rows = {one["owner"]: one for one in listed.json()["workers"]}
    assert rows[OWNER]["drain"] == drained[0].json()["drain"]
    assert (rows[OWNER]["host"], rows[OWNER]["pid"], rows[OWNER]["running"]) == ("web-1", 4711, 0)
    assert (rows[OTHERS[0]]["drain"], rows[OTHERS[0]]["running"]) == (None, 1)
    assert [one.json() for one in undrained] == [{"owner": OWNER}] * 2
    assert len(again) == 1
    assert {problem_of(one) for one in unknown} == {(404, "UnknownWorker")}


async def test_lists_go_on_by_a_cursor(sqlite_url: str) -> None:
    """Each is on one page; a cursor that is none is told by its name."""
    async with open_api(sqlite_url) as (manager, client):
        for n in range(5):
            await manager.pause(f"op{n}")
        owners = await _list_all(client, "workers", "owner")
        ops = await _list_all(client, "pauses", "op")
        bad = [await client.get(f"/v1/{what}?cursor=%00") for what in ("workers", "pauses")]

    assert owners == sorted((OWNER, *OTHERS))
    assert ops == [f"op{n}" for n in range(5)]
    assert {problem_of(one) for one in bad} == {(422, "BadSetting")}
    assert all("cursor" in one.json()["detail"] for one in bad)


async def _list_all(client: AsyncClient, what: str, name: str) -> list[str]:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await client.get(f"/v1/{what}", params=query)).json()
        assert len(page[what]) <= 2
        seen += [one[name] for one in page[what]]
        cursor = page["next"]
    return seen


async def test_what_a_narrow_token_sees_of_pauses_is_bounded(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own alone, however many others are between; a page looks at so many of others."""
    monkeypatch.setattr("tapescope.http.api.visible._CHUNK", 4)
    monkeypatch.setattr("tapescope.http.api.visible._LOOKED", 8)
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", map(Grant.parse, ("read:a", "read:m", "read:z")), 0)
    async with open_api(sqlite_url, tokens) as (manager, client):
        for op in ("a", "z", *(f"o{n:02}" for n in range(20))):
            await manager.pause(op)
        client.headers["Authorization"] = f"Bearer {token}"
        own = await _list_all(client, "pauses", "op")
        first = (await client.get("/v1/pauses?limit=2")).json()

    assert own == ["a", "z"]
    assert (len(first["pauses"]), first["next"]) == (1, "o06")


REFUSED: list[tuple[str, Any, int, str]] = [
    ("/ops/no op/pause", {}, 422, "BadOp"),
    ("/ops/no op/resume", None, 422, "BadOp"),
    ("/ops/mail/pause", {"reason": "x" * 1_025}, 422, "BadSetting"),
    ("/ops/mail/pause", {"reason": 1}, 422, "BadBody"),
    ("/ops/mail/pause", {"by": "eve"}, 422, "BadBody"),
    (f"/workers/{OWNER}/drain", {"reason": "x" * 1_025}, 422, "BadSetting"),
    (f"/workers/{OWNER}/drain", [], 422, "BadBody"),
    (f"/workers/{'x' * 2_000}/drain", {}, 422, "BadSetting"),
]


async def test_what_cannot_be_stopped_is_refused(sqlite_url: str) -> None:
    """With the error that the store has for it, and nothing is kept."""
    async with open_api(sqlite_url) as (manager, client):
        answers = [await client.post(f"/v1{path}", json=body) for path, body, _, _ in REFUSED]
        pauses = (await manager.list_paused()).pauses
        drain = await manager.store.ops.find_drain(OWNER)

    assert [problem_of(one) for one in answers] == [one[2:] for one in REFUSED]
    assert (pauses, drain) == ((), None)


async def test_who_may_stop_what(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A stop takes ``admin`` and keeps the token's name; a worker is seen by who reads every op;
    each act leaves a line with who."""
    caplog.set_level("INFO", "tapescope.acts")
    tokens = TokenFile(tmp_path / "tokens.json")
    held = {
        "narrow": tokens.add("ann", map(Grant.parse, ("read:mail", "submit", "cancel")), 0),
        "reader": tokens.add("bob", [Grant.parse("read")], 0),
        "admin": tokens.add("eve", [Grant.parse("admin")], 0),
    }
    told: dict[str, list[int]] = {}
    async with open_api(sqlite_url, tokens) as (manager, client):
        await manager.pause("sms", by="dan")
        for name, token in held.items():
            client.headers["Authorization"] = f"Bearer {token}"
            told[name] = [
                (await client.request(method, f"/v1{path}")).status_code for method, path in _ACTS
            ]
        client.headers["Authorization"] = f"Bearer {held['narrow']}"
        seen = (await client.get("/v1/pauses")).json()["pauses"]
        drain = await manager.store.ops.find_drain(OWNER)

    assert told == {
        #          pauses, workers, pause, drain, resume, undrain another
        "narrow": [200, 403, 403, 403, 403, 403],
        "reader": [200, 200, 403, 403, 403, 403],
        "admin": [200, 200, 200, 200, 200, 200],
    }
    assert [(one["op"], one["by"]) for one in seen] == [("mail", "eve")]
    assert drain is not None
    assert drain.by == "eve"
    lines = [record.getMessage() for record in caplog.records if record.name == "tapescope.acts"]
    assert [line.partition(" from ")[0] for line in lines] == [
        "pause of op 'mail' by eve",
        f"drain of worker '{OWNER}' by eve",
        "resume of op 'sms' by eve",
        f"undrain of worker '{OTHERS[0]}' by eve",
    ]


_ACTS = [
    ("GET", "/pauses"),
    ("GET", "/workers"),
    ("POST", "/ops/mail/pause"),
    ("POST", f"/workers/{OWNER}/drain"),
    ("POST", "/ops/sms/resume"),
    ("POST", f"/workers/{OTHERS[0]}/undrain"),
]
