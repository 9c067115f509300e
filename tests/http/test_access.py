"""Who may ask: tokens and their scopes, and what is answered where there are none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx import ASGITransport, AsyncClient, Response

from tapescope import BadSetting, NewTask, Reporter, Schedule, TaskManager
from tapescope.http.access import Caller, Grant, Scope
from tapescope.http.api import ApiLimits, make_app
from tapescope.http.api.routes import routers
from tapescope.http.tokens import BadTokenFile, TokenFile
from tapescope.model.ops import KnownOp
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.http.client import asking, problem_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"

ROUTES: dict[tuple[str, str], Scope | None] = {
    ("GET", "/v1/tasks"): Scope.READ,
    ("POST", "/v1/tasks"): Scope.SUBMIT,
    ("POST", "/v1/tasks:batch"): Scope.SUBMIT,
    ("POST", "/v1/tasks:cancel"): Scope.CANCEL,
    ("POST", "/v1/tasks:retry"): Scope.SUBMIT,
    ("GET", "/v1/tasks/{task_id}"): Scope.READ,
    ("GET", "/v1/tasks/{task_id}/result"): Scope.READ,
    ("POST", "/v1/tasks/{task_id}/cancel"): Scope.CANCEL,
    ("POST", "/v1/tasks/{task_id}/retry"): Scope.SUBMIT,
    ("GET", "/v1/tasks/{task_id}/tape"): Scope.READ,
    ("GET", "/v1/tasks/{task_id}/stream"): Scope.READ,
    ("GET", "/v1/tasks/{task_id}/messages"): Scope.READ,
    ("POST", "/v1/tasks/{task_id}/messages"): Scope.SUBMIT,
    ("GET", "/v1/tasks/{task_id}/drops"): Scope.READ,
    ("GET", "/v1/tasks/{task_id}/traces"): Scope.READ,
    ("GET", "/v1/drops"): Scope.READ,
    ("GET", "/v1/schedules"): Scope.READ,
    ("POST", "/v1/schedules"): Scope.ADMIN,
    ("GET", "/v1/schedules/{name}"): Scope.READ,
    ("POST", "/v1/schedules/{name}/pause"): Scope.ADMIN,
    ("POST", "/v1/schedules/{name}/resume"): Scope.ADMIN,
    ("POST", "/v1/schedules/{name}/trigger"): Scope.SUBMIT,
    ("DELETE", "/v1/schedules/{name}"): Scope.ADMIN,
    ("GET", "/v1/pauses"): Scope.READ,
    ("POST", "/v1/ops/{op}/pause"): Scope.ADMIN,
    ("POST", "/v1/ops/{op}/resume"): Scope.ADMIN,
    ("GET", "/v1/workers"): Scope.READ,
    ("POST", "/v1/workers/{owner}/drain"): Scope.ADMIN,
    ("POST", "/v1/workers/{owner}/undrain"): Scope.ADMIN,
    ("GET", "/v1/stats"): Scope.READ,
    ("POST", "/v1/audit"): Scope.ADMIN,
    ("GET", "/v1/traces/{trace_id}"): Scope.READ,
    ("GET", "/metrics"): Scope.READ,
    ("GET", "/readyz?verbose"): Scope.READ,
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/v1/openapi.json"): None,
}
"""Each route, and the scope that it takes; ``None``: it is for everybody."""


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """A file of tokens that is not there yet."""
    return TokenFile(tmp_path / "tokens" / "tokens.json")


def make(tokens: TokenFile, name: str, *scopes: str) -> str:
    """A token with these scopes."""
    return tokens.add(name, map(Grant.parse, scopes), 0)


@asynccontextmanager
async def closed(url: str, tokens: TokenFile) -> AsyncGenerator[tuple[TaskManager, FastAPI]]:
    """An application that takes tokens, with a task of the op ``x``."""
    manager = TaskManager(url, work=False)
    async with manager:
        yield manager, make_app(manager, tokens=tokens)


async def ask(client: AsyncClient, method: str, path: str, task_id: str) -> int:
    """The status of a route."""
    where = path.format(
        task_id=task_id, trace_id=TRACE, name="nightly", op="mail", owner="web-1:4711"
    )
    body: dict[str, Any] = {"json": {"op": "x"}} if (method, path) == ("POST", "/v1/tasks") else {}
    return (await client.request(method, where, **body)).status_code


async def test_every_route_takes_the_right_token(sqlite_url: str, tokens: TokenFile) -> None:
    """Without a token and with a wrong one 401, with one that is too narrow 403; a table."""
    narrow = {scope: "read" if scope is not Scope.READ else "cancel" for scope in Scope}
    held = {scope: make(tokens, f"right-{scope}", scope) for scope in Scope}
    lacks = {scope: make(tokens, f"narrow-{scope}", word) for scope, word in narrow.items()}
    told: dict[tuple[str, str], list[bool | int]] = {}
    async with closed(sqlite_url, tokens) as (manager, app):
        task, _ = await manager.store.create(NewTask(new_task_id(), "x"))
        await manager.store.request_cancel(task.task_id)
        listed = {
            (method, route.path)
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }
        async with asking(app) as client:
            for (method, path), scope in ROUTES.items():
                told[method, path] = [await ask(client, method, path, task.task_id)]
                for token in ("wrong", "" if scope is None else lacks[scope]):
                    client.headers["Authorization"] = f"Bearer {token}"
                    told[method, path].append(await ask(client, method, path, task.task_id))
                if scope is not None:
                    client.headers["Authorization"] = f"Bearer {held[scope]}"
                right = await ask(client, method, path, task.task_id)
                told[method, path].append(right not in (401, 403))
                del client.headers["Authorization"]

    assert told == {
        route: [401, 401, 403, True] if scope else [told[route][0]] * 3 + [True]
        for route, scope in ROUTES.items()
    }
    assert all(told[route][0] in (200, 503) for route, scope in ROUTES.items() if scope is None)
    assert listed == {route for route in ROUTES if route[1].startswith("/v1/") and ROUTES[route]}


async def test_a_scope_may_name_an_op(sqlite_url: str, tokens: TokenFile) -> None:
    """What the token cannot read is not there; what it can read and not do is forbidden."""
    token = make(tokens, "narrow", "read:a", "read:b", "cancel:a", "submit:a")
    async with closed(sqlite_url, tokens) as (manager, app):
        ids: dict[str, str] = {}
        for op in ("a", "b", "c"):
            task, _ = await manager.store.create(NewTask(new_task_id(), op))
            ids[op] = task.task_id
        async with asking(app, token=token) as client:
            cancels = [await client.post(f"/v1/tasks/{ids[op]}/cancel") for op in "abc"]
            reads = [await client.get(f"/v1/tasks/{ids[op]}/tape") for op in "abc"]
            rows = [
                [(await client.get(f"/v1/tasks/{ids[op]}/{of}")).status_code for op in "abc"]
                for of in ("traces", "drops")
            ]
            hidden = await client.get(f"/v1/tasks/{ids['c']}")
            every = await client.get("/v1/tasks")
            one = await client.get("/v1/tasks?op=b")
            drops = await client.get("/v1/drops")
            other = await client.post("/v1/tasks", json={"op": "b"})
            stats = await client.get("/v1/stats")
            cancel = (await client.get(f"/v1/tasks/{ids['a']}")).json()["cancel"]
        left = await manager.store.get(ids["b"])

    assert [one.status_code for one in cancels] == [200, 403, 404]
    assert [one.status_code for one in reads] == [200, 200, 404]
    assert rows == [[200, 200, 404]] * 2
    assert problem_of(hidden) == (404, "UnknownTask")
    assert problem_of(every) == problem_of(drops) == problem_of(other) == (403, "Forbidden")
    assert [task["task_id"] for task in one.json()["tasks"]] == [ids["b"]]
    assert {row["op"] for row in stats.json()["ops"]} == {"a", "b"}
    assert cancel["by"] == "narrow"
    assert left.cancel is None


OF_A_TAG: dict[tuple[str, str], tuple[int, int]] = {
    ("GET", "/v1/tasks"): (200, 403),
    ("POST", "/v1/tasks"): (201, 403),
    ("POST", "/v1/tasks:batch"): (200, 200),  # each of it is judged on its own
    ("POST", "/v1/tasks:cancel"): (200, 403),
    ("POST", "/v1/tasks:retry"): (200, 403),
    ("GET", "/v1/tasks/{task_id}"): (200, 404),
    ("GET", "/v1/tasks/{task_id}/result"): (200, 404),
    ("POST", "/v1/tasks/{task_id}/cancel"): (200, 404),
    ("POST", "/v1/tasks/{task_id}/retry"): (201, 404),
    ("GET", "/v1/tasks/{task_id}/tape"): (200, 404),
    ("GET", "/v1/tasks/{task_id}/stream"): (200, 404),
    ("GET", "/v1/tasks/{task_id}/messages"): (200, 404),
    ("POST", "/v1/tasks/{task_id}/messages"): (409, 404),  # it has ended
    ("GET", "/v1/tasks/{task_id}/drops"): (200, 404),
    ("GET", "/v1/tasks/{task_id}/traces"): (200, 404),
    ("GET", "/v1/drops"): (403, 403),
    ("GET", "/v1/schedules"): (200, 200),  # those of the tag
    ("POST", "/v1/schedules"): (403, 403),
    ("GET", "/v1/schedules/{name}"): (200, 404),
    ("POST", "/v1/schedules/{name}/pause"): (403, 403),
    ("POST", "/v1/schedules/{name}/resume"): (403, 403),
    ("POST", "/v1/schedules/{name}/trigger"): (201, 404),
    ("DELETE", "/v1/schedules/{name}"): (403, 403),
    ("GET", "/v1/pauses"): (403, 403),
    ("POST", "/v1/ops/{op}/pause"): (403, 403),
    ("POST", "/v1/ops/{op}/resume"): (403, 403),
    ("GET", "/v1/workers"): (403, 403),
    ("POST", "/v1/workers/{owner}/drain"): (403, 403),
    ("POST", "/v1/workers/{owner}/undrain"): (403, 403),
    ("GET", "/v1/stats"): (403, 403),
    ("POST", "/v1/audit"): (403, 403),
    ("GET", "/v1/traces/{trace_id}"): (200, 200),  # the attempts of the tag
    ("GET", "/metrics"): (403, 403),
    ("GET", "/readyz?verbose"): (403, 403),
}
"""What a token of one tag is answered: of what has the tag, and of what has another one."""


async def test_a_token_of_a_tag_at_every_route(sqlite_url: str, tokens: TokenFile) -> None:
    """What has its tag is there; what has none of it is not; what is told by op is forbidden."""
    token = make(tokens, "narrow", "read:tag=a", "submit:tag=a", "cancel:tag=a")
    told: dict[tuple[str, str], list[int]] = {route: [] for route in OF_A_TAG}
    async with closed(sqlite_url, tokens) as (manager, app):
        manager.op("x")(_do_nothing)
        await manager.store.ops.register([KnownOp("x")])
        ids: dict[str, str] = {}
        for tag in "ab":
            task, _ = await manager.store.create(NewTask(new_task_id(), "x", tags=(tag, "both")))
            await manager.store.request_cancel(task.task_id)
            ids[tag] = task.task_id
            what = Schedule(f"nightly-{tag}", "x", every=60, tags=(tag,))
            await manager.store.schedules.add_if_absent(what)
        async with asking(app, token=token) as client:
            for (method, path), answers in told.items():
                for tag in "ab":
                    where = path.format(
                        task_id=ids[tag], trace_id=TRACE, name=f"nightly-{tag}", op="x", owner="w:1"
                    )
                    body = {
                        "/v1/tasks": {"op": "x", "tags": [tag]},
                        "/v1/tasks:batch": {"tasks": [{"op": "x", "tags": [tag]}]},
                        "/v1/tasks:cancel": {"tag": tag},
                        "/v1/tasks:retry": {"tag": tag, "status": "cancelled"},
                        "/v1/tasks/{task_id}/messages": {"body": 1},
                    }.get(path)
                    given: dict[str, Any] = (
                        {} if method == "GET" or body is None else {"json": body}
                    )
                    if (method, path) == ("GET", "/v1/tasks"):
                        given = {"params": {"tag": tag}}
                    answers.append((await client.request(method, where, **given)).status_code)
            batch = [{"op": "x", "tags": tags} for tags in (["a"], ["b"], ["b", "a"], [])]
            made = await client.post("/v1/tasks:batch", json={"tasks": batch})
            bare = await client.get("/v1/tasks")
            both = await client.get("/v1/tasks?tag=both")
            listed = await client.get("/v1/tasks?tag=a&op=x&limit=1000")
            plans = await client.get("/v1/schedules")
            untagged = await client.post("/v1/tasks", json={"op": "x"})
        own = {task.task_id for task in (await manager.store.list(tag="a", limit=1_000)).tasks}

    assert set(OF_A_TAG) == {route for route, scope in ROUTES.items() if scope is not None}
    assert told == {route: list(answers) for route, answers in OF_A_TAG.items()}
    problems = [one["problem"] and one["problem"]["error"] for one in made.json()["tasks"]]
    assert problems == [None, "Forbidden", None, "Forbidden"]
    assert problem_of(bare) == problem_of(both) == (403, "Forbidden")
    assert "tag a" in bare.json()["detail"]
    assert {task["task_id"] for task in listed.json()["tasks"]} == own
    assert ids["b"] not in own
    assert [one["name"] for one in plans.json()["schedules"]] == ["nightly-a"]
    assert "in 'tags'" in untagged.json()["detail"]


async def _do_nothing(report: Reporter) -> None:
    pass


async def test_ops_and_tags_of_a_token_add_up(sqlite_url: str, tokens: TokenFile) -> None:
    """A task is in the scope by its op or by a tag; to read more than may be changed is no way."""
    token = make(tokens, "ann", "read", "cancel:a", "cancel:tag=red")
    other = make(tokens, "bob", "read:a", "read:tag=red", "read:tag=blue")
    async with closed(sqlite_url, tokens) as (manager, app):
        made = [
            (await manager.store.create(NewTask(new_task_id(), op, tags=tags)))[0].task_id
            for op, tags in (("a", ()), ("b", ("red",)), ("b", ("blue",)), ("b", ()))
        ]
        async with asking(app, token=token) as client:
            cancels = [await client.post(f"/v1/tasks/{one}/cancel") for one in made]
        async with asking(app, token=other) as client:
            reads = [await client.get(f"/v1/tasks/{one}") for one in made]
            acts = [await client.post(f"/v1/tasks/{one}/cancel") for one in made]
            queries = ("op=a", "tag=red", "op=b&tag=blue", "op=b", "tag=green", "op=a&tag=green")
            lists = [await client.get(f"/v1/tasks?{query}") for query in queries]
            stats = await client.get("/v1/stats")

    assert [one.status_code for one in cancels] == [200, 200, 403, 403]
    assert [one.status_code for one in reads] == [200, 200, 200, 404]
    assert [one.status_code for one in acts] == [403] * 4, "it has no scope to cancel at all"
    assert [one.status_code for one in lists] == [200, 200, 200, 403, 403, 200]
    assert [[task["task_id"] for task in one.json()["tasks"]] for one in lists[:3]] == [
        [made[0]],
        [made[1]],
        [made[2]],
    ]
    assert {row["op"] for row in stats.json()["ops"]} == {"a"}


async def test_a_key_leads_a_token_to_no_task_of_another_tag(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """Neither its id nor whether the params are the same: one answer on every way to submit."""
    token = make(tokens, "narrow", "read:tag=a", "submit:tag=a")
    async with closed(sqlite_url, tokens) as (manager, app):
        manager.op("x")(_take)
        await manager.store.ops.register([KnownOp("x")])
        await manager.store.schedules.add_if_absent(
            Schedule("nightly", "x", {"n": 1}, every=60, tags=("a",))
        )
        keys = (
            {"idempotency_key": "k"},
            {"unique_key": "u"},
            {"idempotency_key": "trigger:nightly#t"},
        )
        hidden = [
            (await manager.submit("x", params={"n": 1}, tags=["b"], **key)).task_id  # type: ignore[arg-type]
            for key in keys
        ]
        mine = await manager.submit("x", params={"n": 1}, tags=["a"], unique_key="v")
        await mine.cancel()
        await manager.submit("x", params={"n": 1}, tags=["b"], unique_key="v")
        async with asking(app, token=token) as client:

            async def submit(n: int, key: str | None = None, **more: Any) -> Response:
                headers = {} if key is None else {"Idempotency-Key": key}
                body = {"op": "x", "params": {"n": n}, "tags": ["a"], **more}
                return await client.post("/v1/tasks", json=body, headers=headers)

            one = {"op": "x", "params": {"n": 1}, "tags": ["a"], "idempotency_key": "k"}
            batch = await client.post("/v1/tasks:batch", json={"tasks": [one]})
            refused = [
                await submit(1, "k"),
                await submit(2, "k"),
                await submit(1, unique_key="u"),
                await client.post(
                    "/v1/schedules/nightly/trigger", headers={"Idempotency-Key": "t"}
                ),
                await client.post(f"/v1/tasks/{mine.task_id}/retry"),
                await client.post(
                    f"/v1/tasks/{mine.task_id}/retry", headers={"Idempotency-Key": "k"}
                ),
            ]
            own = [await submit(1, "own") for _ in range(2)]
            conflict = await submit(2, "own")

    assert {problem_of(one) for one in refused} == {(403, "Forbidden")}
    assert len({one.json()["detail"] for one in refused}) == 1
    assert batch.json()["tasks"][0]["problem"]["detail"] == refused[0].json()["detail"]
    told = "".join(one.text for one in (*refused, batch))
    assert not [task_id for task_id in hidden if task_id in told]
    assert [one.status_code for one in own] == [201, 200]
    assert own[0].json()["task_id"] == own[1].json()["task_id"]
    assert problem_of(conflict) == (409, "IdempotencyConflict")


async def _take(report: Reporter, n: int) -> int:
    return n


async def test_a_token_of_a_tag_sees_the_attempts_of_its_tag(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """A trace goes through tasks of others, too."""
    token = make(tokens, "narrow", "read:tag=a")
    async with closed(sqlite_url, tokens) as (manager, app):
        store = manager.store
        for nth, tags in enumerate([("a",), ("b",), ()], 1):
            task, _ = await store.create(NewTask(new_task_id(), "x", tags=tags))
            claim = await store.claim_if_pending(task, "me", 60)
            assert claim is not None
            store.attach_span(claim.attempt, TRACE, None, f"{nth:016x}")
            await store.note_traces([claim.attempt])
        async with asking(app, token=token) as client:
            found = await client.get(f"/v1/traces/{TRACE}")

    assert [one["tags"] for one in found.json()["attempts"]] == [["a"]]


async def test_a_token_that_is_revoked_is_so_at_once(sqlite_url: str, tokens: TokenFile) -> None:
    """The file is read again when it changes; that it is gone opens nothing."""
    token = make(tokens, "ann", "read")
    async with closed(sqlite_url, tokens) as (_, app), asking(app, token=token) as client:
        before = await client.get("/v1/tasks")
        TokenFile(tokens.path).revoke("ann")
        revoked = await client.get("/v1/tasks")
        again = make(TokenFile(tokens.path), "ann", "read")
        client.headers["Authorization"] = f"Bearer {again}"
        anew = await client.get("/v1/tasks")
        tokens.path.write_text("{")
        broken = await client.get("/v1/tasks")
        tokens.path.unlink()
        gone = await client.get("/v1/tasks")

    assert before.status_code == anew.status_code == 200
    assert {problem_of(one) for one in (revoked, broken, gone)} == {(401, "NotAuthenticated")}
    assert revoked.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_file_has_no_token_and_is_its_users_alone(tokens: TokenFile) -> None:
    """Only hashes are kept, in a file of mode 0600; a name is taken once."""
    first, second = make(tokens, "ann", "read", "submit:resize"), make(tokens, "bob", "admin")
    text = tokens.path.read_text()

    assert first not in text
    assert second not in text
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tokens.path.parent) == [tokens.path.name]
    assert tokens.find(first) == Caller.of("ann", ["read", "submit:resize"])
    assert [one.name for one in tokens.read()] == ["ann", "bob"]
    with pytest.raises(BadSetting, match="one that no token has yet"):
        make(tokens, "ann", "read")
    assert tokens.revoke("ann")
    assert not tokens.revoke("ann")
    assert tokens.find(first) is None


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"tokens": [{"name": "a"}]}', b'{"tokens": [1]}', b"\xff"]
)
def test_a_file_that_is_not_one_of_tokens_knows_none(tokens: TokenFile, content: bytes) -> None:
    """It is an error for its owner, and no way in for anybody."""
    token = make(tokens, "ann", "read")
    tokens.path.write_bytes(content)

    with pytest.raises(BadTokenFile, match="not what was written"):
        tokens.read()
    assert tokens.find(token) is None
    assert tokens.required


def test_a_file_that_others_may_write_is_not_trusted(tokens: TokenFile) -> None:
    """Who writes it makes tokens."""
    token = make(tokens, "ann", "read")
    tokens.path.chmod(0o622)

    assert tokens.find(token) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "write", "read:", "read:Bad op", "admin:resize", "read,cancel", "admin:tag=a"),
        *("read:tag=", "read:tag=a b", "read:x:tag=a", "read:TAG=a"),
    ],
)
def test_a_scope_that_means_nothing_is_refused(text: str) -> None:
    """A misspelt scope grants nothing."""
    with pytest.raises(BadSetting, match="read, submit, cancel or admin"):
        Grant.parse(text)


def test_a_scope_is_written_as_it_is_read() -> None:
    """A tag may have a colon and a sign in it; an op of the name "tag" is an op."""
    texts = ["read", "submit:resize", "cancel:tag=customer:4711", "read:tag=a=b", "read:tag"]

    assert [str(Grant.parse(text)) for text in texts] == texts
    assert Grant.parse("read:tag") == Grant(Scope.READ, "tag")
    assert Grant.parse("cancel:tag=customer:4711") == Grant(Scope.CANCEL, tag="customer:4711")
    with pytest.raises(BadSetting, match="not of both"):
        Grant(Scope.READ, "resize", "a")


REFUSED: list[tuple[dict[str, str], tuple[int, str]]] = [
    ({"Host": "evil.example"}, (421, "HostRefused")),
    ({"Host": "localhost.evil.example"}, (421, "HostRefused")),
    ({"Host": "127.0.0.1.evil.example"}, (421, "HostRefused")),
    ({"Host": "[::1"}, (421, "HostRefused")),
    ({"Host": ""}, (421, "HostRefused")),
    ({"X-Forwarded-For": "192.0.2.1"}, (421, "HostRefused")),
    ({"Origin": "https://evil.example"}, (403, "CrossOriginRefused")),
    ({"Origin": "null"}, (403, "CrossOriginRefused")),
    ({"Origin": "http://localhost:1"}, (403, "CrossOriginRefused")),
    ({"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"}, (403, "CrossOriginRefused")),
    ({"Sec-Fetch-Site": "same-site"}, (403, "CrossOriginRefused")),
]


async def test_without_tokens_this_machine_alone_is_answered(sqlite_url: str) -> None:
    """A foreign name as Host is DNS rebinding, a foreign page's request a forgery: refused."""
    async with TaskManager(sqlite_url, work=False) as manager:
        async with asking(make_app(manager)) as client:
            told = [
                (headers, problem_of(await client.post("/v1/audit", headers=headers)))
                for headers, _ in REFUSED
            ]
            served = [
                (await client.post("/v1/audit", headers=headers)).status_code
                for headers in (
                    {"Host": "LOCALHOST:8000"},
                    {"Host": "127.0.0.1:8000", "Origin": "http://127.0.0.1:8000"},
                    {"Host": "[::1]:8000", "Sec-Fetch-Site": "same-origin"},
                )
            ]
        distant = ASGITransport(make_app(manager), client=("192.0.2.1", 1234))
        far = AsyncClient(transport=distant, base_url="http://localhost")
        async with far:
            other = await far.get("/v1/tasks")

    assert told == REFUSED
    assert served == [200, 200, 200]
    assert problem_of(other) == (421, "HostRefused")


async def test_with_tokens_any_host_is_answered(sqlite_url: str, tokens: TokenFile) -> None:
    """A page of another site has no token; it is refused all the same."""
    token = make(tokens, "ann", "admin")
    async with (
        closed(sqlite_url, tokens) as (_, app),
        asking(app, token=token, base="http://tasks.example") as client,
    ):
        own = await client.get("/v1/tasks")
        other = await client.get("/v1/tasks", headers={"Origin": "https://evil.example"})

    assert own.status_code == 200
    assert problem_of(other) == (403, "CrossOriginRefused")
    assert own.headers["X-Content-Type-Options"] == "nosniff"
    assert own.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in own.headers["Content-Security-Policy"]


async def test_a_stream_ends_when_its_token_is_revoked(sqlite_url: str, tokens: TokenFile) -> None:
    """It is asked again at each heartbeat: a stream that was open is no way around."""
    token = make(tokens, "ann", "read")
    async with TaskManager(sqlite_url, work=False) as manager:
        task, _ = await manager.store.create(NewTask(new_task_id(), "x"))
        app = make_app(manager, tokens=tokens, limits=ApiLimits(heartbeat=0.01))
        async with asking(app, token=token) as client:
            stream = asyncio.ensure_future(client.get(f"/v1/tasks/{task.task_id}/stream"))
            seats = app.state.tapescope.seats
            assert await until(lambda: seats.taken == 1)
            tokens.revoke("ann")
            async with asyncio.timeout(30):
                answer = await stream

    assert '"error":"NotAuthenticated"' in answer.text


async def test_a_list_tells_nothing_of_children_that_a_token_may_not_see(
    sqlite_url: str, tokens: TokenFile
) -> None:
    """Not their ids as the place of the next page, nor whether one of them is as a filter asks."""
    token = make(tokens, "narrow", "read:a")
    async with closed(sqlite_url, tokens) as (manager, app):
        store = manager.store
        top, _ = await store.create(NewTask(new_task_id(), "a"))
        parent = top.task_id
        shown, _ = await store.create(NewTask(new_task_id(), "a", parent_id=parent))
        hidden = NewTask(new_task_id(), "b", {"n": "secret"}, idempotency_key="k", parent_id=parent)
        for one in (hidden, NewTask(new_task_id(), "b", parent_id=parent)):
            await store.create(one)
        asked: list[dict[str, Any]] = [
            {"limit": 1},
            {"limit": 1, "text": "secret"},
            {"limit": 1, "key": "k"},
            {"limit": 1, "op": "a"},
        ]
        async with asking(app, token=token) as client:
            told = [
                (await client.get("/v1/tasks", params={"parent": parent} | more)).json()
                for more in asked
            ]

    assert [([one["task_id"] for one in page["tasks"]], page["next"]) for page in told] == [
        ([shown.task_id], None),
        ([], None),
        ([], None),
        ([shown.task_id], None),
    ]
