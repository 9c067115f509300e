"""The routes of the HTTP API: what they answer is what the manager and the command line say."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI, Request
from httpx import AsyncClient

from tapescope import Reporter, TaskManager
from tapescope.http.access import Caller
from tapescope.http.api import ApiLimits, make_app
from tapescope.http.api.schemas import (
    Attempts,
    Audit,
    Cancelled,
    Drops,
    Result,
    Stats,
    Submitted,
    Tape,
    TaskRow,
    Tasks,
    Waiting,
)
from tapescope.model.json_shapes import task_shape
from tapescope.testing import until
from tests.cli.tasks import claim, dead_owner
from tests.http.client import asking, problem_of
from tests.support.breaches import make_ended

JSON = {"Content-Type": "application/json"}
UNKNOWN = "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"


class Bench:
    """A manager with ops, and a client of its API."""

    def __init__(self, manager: TaskManager, client: AsyncClient) -> None:
        self.manager = manager
        self.client = client
        self.go_on = asyncio.Event()

    async def submit(self, op: str, **more: Any) -> str:
        """Submit a task over HTTP; gives its id."""
        answer = await self.client.post("/v1/tasks", json={"op": op, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["task_id"])

    async def get(self, path: str, **query: Any) -> Any:
        """What a path answers, with status 200."""
        answer = await self.client.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def working(url: str, *, work: bool = True, **limits: Any) -> AsyncGenerator[Bench]:
    """A manager that runs ``double``, ``fail`` and ``wait``; not, with ``work=False``."""
    manager = TaskManager(url, work=work, drain=0)
    async with asking(make_app(manager, limits=ApiLimits(**limits))) as client:
        bench = Bench(manager, client)

        @manager.op("double")
        async def double(report: Reporter, n: int) -> int:
            await report.log("info", "here")
            return 2 * n

        @manager.op("fail", retries=0)
        async def fail(report: Reporter) -> None:
            raise ValueError("no")

        @manager.op("wait")
        async def wait(report: Reporter) -> None:
            await report.log("info", "here")
            await bench.go_on.wait()

        async with manager:
            yield bench


async def test_a_task_is_submitted_run_and_read(served_url: str) -> None:
    """From submit to result: each answer is the shape of the model, and the document's."""
    async with working(served_url) as bench:
        answer = await bench.client.post("/v1/tasks", json={"op": "double", "params": {"n": 21}})
        submitted = Submitted.model_validate(answer.json())
        path = answer.headers["Location"]
        result = await bench.get(f"{path}/result", wait=30)
        row = await bench.get(path)
        tape = await bench.get(f"{path}/tape")
        later = await bench.get(f"{path}/tape", after_seq=1, limit=1)
        stats = await bench.get("/v1/stats")
        own = task_shape(await bench.manager.handle(submitted.task_id).status())

        assert (answer.status_code, submitted.created) == (201, True)
        assert path == f"/v1/tasks/{submitted.task_id}"
        assert Result.model_validate(result).result == 42
        assert row == own | {"lost": None}
        TaskRow.model_validate(row)
        assert Tape.model_validate(tape).final_seq == 3
        assert [event["seq"] for event in later["events"]] == [2]
        assert {one.op for one in Stats.model_validate(stats).ops} >= {"double"}


async def test_the_end_of_a_task_is_told_as_its_final_says_it(sqlite_url: str) -> None:
    """A failure and a cancel are results of a task, not errors of HTTP; no end is a 202."""
    async with working(sqlite_url) as bench:
        failed = await bench.submit("fail")
        failure = Result.model_validate(await bench.get(f"/v1/tasks/{failed}/result", wait=30))
        waits = await bench.submit("wait")
        early = await bench.client.get(f"/v1/tasks/{waits}/result")
        asked = await bench.client.post(f"/v1/tasks/{waits}/cancel", json={"message": "enough"})
        end = Result.model_validate(await bench.get(f"/v1/tasks/{waits}/result", wait=30))
        again = await bench.client.post(f"/v1/tasks/{waits}/cancel")

        assert failure.outcome == "failed"
        assert failure.error is not None
        assert failure.error.message == "no"
        assert early.status_code == 202
        Waiting.model_validate(early.json())
        assert Cancelled.model_validate(asked.json()).state in ("recorded", "cancelled")
        assert end.outcome == "cancelled"
        assert end.cancel is not None
        assert (end.cancel.message, end.cancel.reason) == ("enough", "user")
        assert again.json()["state"] == "terminal"


async def test_a_cancel_at_once_ends_as_cancelled(store_url: str) -> None:
    """Submit, then cancel at once, many times: each ends as cancelled, with its one final (I2)."""
    async with working(store_url) as bench:
        ids = await asyncio.gather(*(bench.submit("wait") for _ in range(20)))
        for task_id in ids:
            answer = await bench.client.post(f"/v1/tasks/{task_id}/cancel")
            assert answer.status_code == 200, answer.text
        for task_id in ids:
            end = await bench.get(f"/v1/tasks/{task_id}/result", wait=30)
            tape = await bench.get(f"/v1/tasks/{task_id}/tape")
            finals = [event for event in tape["events"] if event["type"] == "final"]

            assert end["outcome"] == "cancelled"
            assert [one["seq"] for one in finals] == [tape["final_seq"]]
        audit = await bench.client.post("/v1/audit")

        assert Audit.model_validate(audit.json()).violations == []


async def test_an_idempotency_key_gives_the_task_that_was_there(sqlite_url: str) -> None:
    """201 for a new task, 200 for the same again, 409 for other params."""
    async with working(sqlite_url, work=False) as bench:

        async def submit(n: int) -> Any:
            body = {"op": "double", "params": {"n": n}}
            return await bench.client.post(
                "/v1/tasks", json=body, headers={"Idempotency-Key": "one"}
            )

        first, second, other = await submit(1), await submit(1), await submit(2)

        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["task_id"] == second.json()["task_id"]
        assert first.headers["Location"] == second.headers["Location"]
        assert problem_of(other) == (409, "IdempotencyConflict")


async def test_a_list_is_read_by_pages_and_filters(served_url: str) -> None:
    """Every task comes once over the pages, newest first; filters meet in one query."""
    async with working(served_url, work=False) as bench:
        began = datetime.now(UTC) - timedelta(hours=1)
        ids = [await bench.submit("double", params={"n": n}) for n in range(5)]
        other = await bench.submit("wait", delay=3_600, queue="bulk")
        await bench.client.post(f"/v1/tasks/{other}/cancel")
        pages: list[list[str]] = []
        cursor: str | None = None
        while True:
            query: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
            page = await bench.get("/v1/tasks", limit=2, op="double", **query)
            Tasks.model_validate(page)
            pages.append([task["task_id"] for task in page["tasks"]])
            cursor = page["next"]
            if cursor is None:
                break
        cancelled = await bench.get("/v1/tasks", status="cancelled", since=began.isoformat())
        before = await bench.get("/v1/tasks", until=began.isoformat())
        bulk = await bench.get("/v1/tasks", queue="bulk")
        bad = await bench.client.get("/v1/tasks", params={"queue": "no name"})

        assert [one for page in pages for one in page] == ids[::-1]
        assert [task["task_id"] for task in cancelled["tasks"]] == [other]
        assert before["tasks"] == []
        assert [task["task_id"] for task in bulk["tasks"]] == [other]
        assert problem_of(bad) == (422, "BadSetting")


async def test_an_ended_task_is_submitted_again(sqlite_url: str) -> None:
    """A retry is a new task with the old one's params; one that has not ended is left alone."""
    async with working(sqlite_url) as bench:
        first = await bench.submit("double", params={"n": 4})
        early = await bench.client.post(f"/v1/tasks/{await bench.submit('wait')}/retry")
        await bench.get(f"/v1/tasks/{first}/result", wait=30)
        answer = await bench.client.post(f"/v1/tasks/{first}/retry")
        result = await bench.get(f"{answer.headers['Location']}/result", wait=30)

        assert answer.status_code == 201
        assert Submitted.model_validate(answer.json()).task_id != first
        assert result["result"] == 8
        assert problem_of(early) == (409, "TaskNotEnded")


async def test_late_events_and_traces_are_read(sqlite_url: str) -> None:
    """What was kept off a tape is told with its reason, of one task and of the store."""
    async with working(sqlite_url) as bench:
        attempt, _ = await make_ended(bench.manager.store)
        of_one = await bench.get(f"/v1/tasks/{attempt.task_id}/drops")
        first = await bench.get("/v1/drops", limit=1)
        second = await bench.get("/v1/drops", limit=1, after=first["next"])
        nothing = await bench.get("/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736")
        unknown = await bench.client.get(f"/v1/tasks/{UNKNOWN}/drops")

        late = Drops.model_validate(of_one).drops
        assert [(one.reason, one.body) for one in late] == [
            ("after_terminal", 0),
            ("after_terminal", 1),
        ]
        assert first["drops"] + second["drops"] == of_one["drops"]
        assert Attempts.model_validate(nothing).attempts == []
        assert problem_of(unknown) == (404, "UnknownTask")


async def test_a_tape_is_waited_for(served_url: str) -> None:
    """With ``wait`` the answer comes with the next event, or empty when the time is over."""
    async with working(served_url) as bench:
        task_id = await bench.submit("wait")
        path = f"/v1/tasks/{task_id}/tape"
        begun = await bench.get(path, after_seq=1, wait=30)
        waiting = asyncio.ensure_future(bench.get(path, after_seq=2, wait=30))
        over = await bench.get(path, after_seq=2, wait=0.01)
        bench.go_on.set()
        end = await waiting

        assert [event["type"] for event in begun["events"]] == ["log"]
        assert (over["events"], over["final_seq"]) == ([], None)
        assert [event["type"] for event in end["events"]] == ["final"]


BAD: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("GET", "/v1/tasks?limit=0", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?limit=1001", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?stauts=failed", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?status=late", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?since=2026-01-01T00:00:00", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?until=0.5", {}, 422, "BadSetting"),
    ("GET", "/v1/drops?since=0.5", {}, 422, "BadSetting"),
    ("GET", "/v1/tasks?cursor=first", {}, 422, "BadSetting"),
    ("GET", f"/v1/tasks?op={'x' * 9_000}", {}, 414, "QueryTooLong"),
    ("GET", "/v1/tasks/none", {}, 404, "UnknownTask"),
    ("GET", f"/v1/tasks/{UNKNOWN}", {}, 404, "UnknownTask"),
    ("GET", f"/v1/tasks/{UNKNOWN}/result", {}, 404, "UnknownTask"),
    ("GET", f"/v1/tasks/{UNKNOWN}/tape", {}, 404, "UnknownTask"),
    ("GET", f"/v1/tasks/{UNKNOWN}/tape?wait=61", {}, 422, "BadSetting"),
    ("GET", f"/v1/tasks/{UNKNOWN}/stream", {}, 404, "UnknownTask"),
    ("POST", f"/v1/tasks/{UNKNOWN}/cancel", {}, 404, "UnknownTask"),
    ("POST", f"/v1/tasks/{UNKNOWN}/retry", {}, 404, "UnknownTask"),
    ("GET", "/v1/traces/none", {}, 422, "BadSetting"),
    ("GET", "/v1/nothing", {}, 404, "NoSuchPath"),
    ("DELETE", "/v1/tasks", {}, 405, "MethodNotAllowed"),
    ("POST", "/v1/tasks", {"json": {"op": "nobody"}}, 409, "OpNotRegistered"),
    ("POST", "/v1/tasks", {"json": {"op": "Bad op"}}, 422, "BadOp"),
    ("POST", "/v1/tasks", {"json": {"op": "double", "params": {"m": 1}}}, 422, "BadParams"),
    ("POST", "/v1/tasks", {"json": {"op": "wait", "delay": -1}}, 422, "BadSetting"),
    ("POST", "/v1/tasks", {"json": {"op": "wait", "delay": "1"}}, 422, "BadBody"),
    ("POST", "/v1/tasks", {"json": {"op": "wait", "run_at": "today"}}, 422, "BadSetting"),
    ("POST", "/v1/tasks", {"json": {"op": "wait", "parms": {}}}, 422, "BadBody"),
    ("POST", "/v1/tasks", {"json": {}}, 422, "BadBody"),
    ("POST", "/v1/tasks", {"json": ["wait"]}, 422, "BadBody"),
    ("POST", "/v1/tasks", {"data": {"op": "wait"}}, 415, "BadContentType"),
    ("POST", "/v1/tasks", {"content": b'{"op": NaN}', "headers": JSON}, 400, "BadBody"),
    ("POST", "/v1/tasks", {"content": b"\xff", "headers": JSON}, 400, "BadBody"),
    ("POST", "/v1/tasks", {"content": b"x" * 2_001, "headers": JSON}, 413, "BodyTooLarge"),
    ("POST", "/v1/audit", {"json": {"thorough": 1}}, 422, "BadBody"),
]


async def test_what_cannot_be_is_refused_as_a_problem(sqlite_url: str) -> None:
    """Each mistake has its status, its error's name and words; nothing is a 500, or done."""
    async with working(sqlite_url, work=False, body_bytes=2_000) as bench:
        told = [
            (method, path, problem_of(await bench.client.request(method, path, **more)))
            for method, path, more, _, _ in BAD
        ]

        assert told == [(method, path, (status, name)) for method, path, _, status, name in BAD]
        assert (await bench.get("/v1/tasks"))["tasks"] == []
        assert (await bench.client.delete("/v1/tasks")).headers["Allow"] == "GET, POST"


async def test_a_body_without_an_end_is_not_taken_in(sqlite_url: str) -> None:
    """A body that does not say how long it is ends at the limit."""

    async def pour() -> AsyncGenerator[bytes]:
        while True:
            yield b"x" * 1_000

    async with working(sqlite_url, work=False, body_bytes=2_000) as bench:
        answer = await bench.client.post("/v1/tasks", content=pour(), headers=JSON)

        assert problem_of(answer) == (413, "BodyTooLarge")


async def test_health_and_metrics_are_those_of_the_listener(sqlite_url: str) -> None:
    """The three paths answer as the health listener does."""
    async with working(sqlite_url) as bench:
        assert await until(lambda: all(one.ok for one in bench.manager.check_health()))
        live, ready, verbose, none = [
            await bench.client.get(path)
            for path in ("/livez", "/readyz", "/readyz?verbose", "/metrics")
        ]
        head = await bench.client.head("/livez")

        assert (live.status_code, live.text) == (200, "ok\n")
        assert (ready.status_code, ready.text) == (200, "ok\n")
        assert "[+] manager: " in verbose.text
        assert (none.status_code, "reader" in none.text) == (404, True)
        assert (head.status_code, head.text) == (200, "")


async def test_each_act_leaves_a_line_with_who(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Submit, cancel, retry and audit are in the log of acts, done or not; reading is not."""
    with caplog.at_level(logging.INFO, "tapescope.acts"):
        async with working(sqlite_url, work=False) as bench:
            task_id = await bench.submit("wait")
            await bench.client.post(f"/v1/tasks/{task_id}/cancel")
            await bench.client.post(f"/v1/tasks/{UNKNOWN}/retry")
            await bench.client.post("/v1/audit")
            await bench.get(f"/v1/tasks/{task_id}")

    lines = [one.getMessage() for one in caplog.records if one.name == "tapescope.acts"]
    assert lines == [
        f"submit of op 'wait' by - from 127.0.0.1: task {task_id}",
        f"cancel of task {task_id} by - from 127.0.0.1: cancelled",
        f"retry of task {UNKNOWN} by - from 127.0.0.1: not done (UnknownTask)",
        "audit of the store by - from 127.0.0.1: 1 tapes, 0 violations",
    ]


async def test_an_application_mounts_it_in_five_lines(sqlite_url: str) -> None:
    """In a FastAPI application of one's own, which knows its users; paths are below the mount."""
    manager = TaskManager(sqlite_url, work=False)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with manager:
            yield

    def ask_who(request: Request) -> Caller | None:
        user = request.headers.get("X-User")
        return None if user is None else Caller.of(user, ["read", "submit", "cancel"])

    app = FastAPI(lifespan=lifespan)
    app.mount("/tasks-of-shop", make_app(manager, who=ask_who))
    manager.op("resize")(_resize)
    async with lifespan(app), asking(app, base="https://shop.example/tasks-of-shop") as client:
        nobody = await client.get("/v1/tasks")
        client.headers["X-User"] = "ann"
        made = await client.post("/v1/tasks", json={"op": "resize"})
        client.base_url = "https://shop.example"
        found = await client.get(made.headers["Location"])
        live = await client.get("/tasks-of-shop/livez")

    assert problem_of(nobody) == (401, "NotAuthenticated")
    assert made.status_code == 201
    assert found.json()["task_id"] == made.json()["task_id"]
    assert live.text == "ok\n"


async def _resize(report: Reporter) -> None:
    """An op that nothing runs here."""


async def test_a_cancel_takes_a_task_from_a_lost_owner(served_url: str) -> None:
    """Until then the row says why it is lost; then the answer does, and the task has ended."""
    async with working(served_url, work=False) as bench:
        attempt = await claim(bench.manager.store, owner=dead_owner())
        path = f"/v1/tasks/{attempt.task_id}"
        row, (listed,) = await bench.get(path), (await bench.get("/v1/tasks"))["tasks"]
        answer = await bench.client.post(f"{path}/cancel", json={"message": "enough"})
        told = Cancelled.model_validate(answer.json())
        ended = await bench.get(path)

    assert row["lost"] == listed["lost"] == told.lost == "the process that ran it has ended"
    assert told.request is not None
    assert told.request.message == "enough"
    assert (ended["status"], ended["lost"]) == ("cancelled", None)


async def test_late_events_and_numbers_of_a_time_are_read(sqlite_url: str) -> None:
    """A task's late events by when they were offered; numbers that are new enough."""
    async with working(sqlite_url, work=False) as bench:
        attempt, _ = await make_ended(bench.manager.store)
        path = f"/v1/tasks/{attempt.task_id}/drops"
        none = await bench.get(path, since="2100-01-01T00:00:00Z")
        some = await bench.get(path, until="2100-01-01T00:00:00Z")
        stats = await bench.get("/v1/stats", max_age=0)
        audit = await bench.client.post("/v1/audit", json={"grace": 5, "rows_per_second": 1e6})
        bad = await bench.client.post("/v1/audit", json={"grace": -1})
        old = await bench.client.get("/v1/stats", params={"max_age": 61})

    assert (none["drops"], len(some["drops"])) == ([], 2)
    assert [one["op"] for one in stats["ops"]] == ["x"]
    assert audit.json() == {"checked": 1, "violations": []}
    assert problem_of(bad) == (422, "BadSetting")
    assert old.status_code == 422  # of a minute at most


async def test_a_retry_with_a_key_makes_one_task(sqlite_url: str) -> None:
    """Sent twice, for its answer was lost, it gives the same task, with 200."""
    async with working(sqlite_url) as bench:
        ended = await bench.submit("double", params={"n": 1})
        await bench.get(f"/v1/tasks/{ended}/result", wait=30)
        first, again = [
            await bench.client.post(f"/v1/tasks/{ended}/retry", headers={"Idempotency-Key": "r"})
            for _ in range(2)
        ]

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["task_id"] == again.json()["task_id"] != ended
    assert again.json()["created"] is False


# --- the limits -----------------------------------------------------------------------------------


def _limit_of(acts: Mapping[str, Any]) -> dict[str, Any]:
    """What the document says of a route's ``limit``; empty where it has none."""
    described = acts.get("get", {}).get("parameters", ())
    limits: list[dict[str, Any]] = [o["schema"] for o in described if o["name"] == "limit"]
    return limits[0] if limits else {}


async def test_a_page_and_a_wait_are_within_the_servers_limits(sqlite_url: str) -> None:
    """More is refused, in the answer and in the document; who asks for no number gets so many."""
    async with working(sqlite_url, work=False, page=2, longest_wait=0.5) as bench:
        tasks = [(await bench.manager.submit("wait")).task_id for _ in range(3)]
        for _ in range(3):
            sent = await bench.client.post(f"/v1/tasks/{tasks[0]}/messages", json={"body": "go"})
            assert sent.status_code == 201
        document = await bench.get("/v1/openapi.json")
        pages = [path for path, acts in document["paths"].items() if _limit_of(acts)]
        assert {"/v1/tasks", "/v1/tasks/{task_id}/messages", "/v1/pauses"} <= set(pages)
        for path in pages:
            of_one = path.format(task_id=tasks[0])
            assert (await bench.client.get(of_one, params={"limit": 2})).status_code == 200
            refused = await bench.client.get(of_one, params={"limit": 3})
            assert refused.status_code == 422, path
            assert refused.json()["detail"] == "limit may be 2 at most on this server."
            limit = _limit_of(document["paths"][path])
            assert (limit["maximum"], limit["default"]) == (2, 2)
        assert len((await bench.get("/v1/tasks"))["tasks"]) == 2
        assert len((await bench.get(f"/v1/tasks/{tasks[0]}/messages"))["messages"]) == 2

        for path in ("result", "tape"):
            asked = f"/v1/tasks/{tasks[0]}/{path}"
            assert (await bench.client.get(asked, params={"wait": 0.5})).is_success
            for too_long in ("0.6", "inf", "nan"):
                answer = await bench.client.get(asked, params={"wait": too_long})
                assert answer.status_code == 422, (path, too_long)
