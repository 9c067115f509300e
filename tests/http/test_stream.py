"""Streams: every seq once and in order, to the final or to a frame that says why not (I9)."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import orjson
import psutil
import pytest
from httpx import AsyncClient

from tapescope import Reporter, TapeGap, TapePage, TaskHandle, TaskManager, find_store
from tapescope.http.api import ApiLimits, begin_drain, make_app
from tapescope.testing import MemoryStore, settle_loop, until
from tapescope.testing.tasks import log, start
from tests.http.client import Frame, asking, follow, problem_of, read_frames, serving
from tests.support.services import require
from tests.support.virtual_time import VirtualClock, in_virtual_time


async def collect(frames: AsyncGenerator[Frame]) -> list[Frame]:
    """All the frames, to the end."""
    return [frame async for frame in frames]


class Counting:
    """A runner that counts to ``to``, and on when it is told to."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, report: Reporter) -> None:
        """Count, wait, and count on."""
        for n in range(self.to):
            await report.emit("count", n)
        self.begun.set()
        await self.go_on.wait()
        await asyncio.gather(*(report.emit("count", n) for n in range(self.to)))


@asynccontextmanager
async def begun(
    url: str, to: int = 5, **limits: Any
) -> AsyncGenerator[tuple[TaskManager, TaskHandle, Counting, AsyncClient]]:
    """A task that has counted to ``to`` and waits, and a client of a real server."""
    runner = Counting(to)
    manager = TaskManager(url, drain=0)
    app = make_app(manager, limits=ApiLimits(**limits))
    async with manager, serving(app) as (_, client):
        task = await manager.submit("count", runner)
        await runner.begun.wait()
        yield manager, task, runner, client


async def test_followers_see_every_event_once_and_in_order(served_url: str) -> None:
    """As server-sent events and as lines, each with the tape's end; both end after the final."""
    async with begun(served_url) as (_, task, runner, client):
        following = follow(client, task.task_id)
        first = await anext(following)
        lines = asyncio.ensure_future(
            client.get(
                f"/v1/tasks/{task.task_id}/stream?after_seq=3",
                headers={"Accept": "application/x-ndjson"},
            )
        )
        runner.go_on.set()
        frames, answer = [first, *await collect(following)], await lines
        tape = (await task.tape()).events
        told = [orjson.loads(line) for line in answer.text.split("\n") if line]

        assert len(tape) == 12
        assert [(f.id, f.type) for f in frames] == [(str(e.seq), e.type) for e in tape]
        assert [f.data["body"] for f in frames] == [e.body for e in tape]
        assert frames[-1].data["final_seq"] == frames[-1].data["last_seq"] == 12
        assert frames[0].data["final_seq"] is None
        assert [one["seq"] for one in told] == list(range(4, 13))
        assert answer.headers["content-type"] == "application/x-ndjson"


async def test_a_tape_that_was_seen_to_its_end_is_a_204(sqlite_url: str) -> None:
    """So a browser's EventSource stops; a place past the end of an open tape is an error."""
    async with begun(sqlite_url) as (_, task, runner, client):
        path = f"/v1/tasks/{task.task_id}/stream"
        past = await client.get(path, headers={"Last-Event-ID": "7"})
        bad = await client.get(path, headers={"Last-Event-ID": "last"})
        other = await client.get(path, headers={"Accept": "text/html"})
        runner.go_on.set()
        await task.result()
        seen = await client.get(path, headers={"Last-Event-ID": "12"})
        rest = await client.get(path, headers={"Last-Event-ID": "11"})

        assert problem_of(past) == (422, "BadSetting")
        assert problem_of(bad) == (422, "BadSetting")
        assert problem_of(other) == (406, "NotAcceptable")
        assert (seen.status_code, seen.text) == (204, "")
        assert [f.type for f in read_frames(rest.text) if f.data] == ["final"]


async def test_a_follower_goes_on_after_a_restart_of_the_server(store_url: str) -> None:
    """The server ends the stream with a frame that says so; from the last id on nothing is lost."""
    runner = Counting(5)
    seen: list[Frame] = []
    ends: list[Frame] = []
    async with TaskManager(store_url, drain=0) as worker:
        task = await worker.submit("count", runner)
        await runner.begun.wait()
        port = 0
        for last in (False, True):
            manager = TaskManager(store_url, work=False)
            async with manager, serving(make_app(manager), port) as (server, client):
                port = server.port
                headers = {"Last-Event-ID": seen[-1].id or ""} if seen else {}
                if last:
                    runner.go_on.set()
                async with aclosing(follow(client, task.task_id, headers)) as frames:
                    async for frame in frames:
                        if frame.type == "error":
                            ends.append(frame)
                            break
                        seen.append(frame)
                        if len(seen) == 3 and not last:
                            server.drain()
        tape = (await task.tape()).events

    assert [frame.data["error"] for frame in ends] == ["Draining"]
    assert [frame.retry is not None for frame in ends] == [True]
    assert [int(frame.id or 0) for frame in seen] == [event.seq for event in tape]
    assert seen[-1].type == "final"


async def test_curl_follows_as_the_pages_say_through_a_restart(sqlite_url: str) -> None:
    """Each curl ends by itself and well; the next one comes back with the last id that was seen."""
    curl = require("curl")
    runner = Counting(5)
    told: list[Frame] = []
    async with TaskManager(sqlite_url, drain=0) as worker:
        task = await worker.submit("count", runner)
        await runner.begun.wait()
        port = 0
        for last in (False, True):
            manager = TaskManager(sqlite_url, work=False)
            async with manager, serving(make_app(manager), port) as (server, _):
                port = server.port
                seen = [frame.id for frame in told if frame.id]
                following = await asyncio.create_subprocess_exec(
                    *(curl, "--silent", "--show-error", "--no-buffer", "--max-time", "60"),
                    *("-H", f"Last-Event-ID: {seen[-1] if seen else 0}"),
                    f"{server.url}/v1/tasks/{task.task_id}/stream",
                    stdout=asyncio.subprocess.PIPE,
                )
                assert following.stdout is not None
                if last:
                    runner.go_on.set()
                head = b"" if last else await following.stdout.readuntil(b"id: 3\n")
                if not last:
                    server.drain()
                told += read_frames((head + await following.stdout.read()).decode())
                assert await following.wait() == 0
        tape = (await task.tape()).events

    assert [frame.data["error"] for frame in told if frame.type == "error"] == ["Draining"]
    assert [int(frame.id) for frame in told if frame.id] == [event.seq for event in tape]
    assert told[-1].type == "final"


async def test_a_server_that_drains_answers_no_more(sqlite_url: str) -> None:
    """New requests are refused with 503, but for the probes; a waiting one is answered at once."""
    manager = TaskManager(sqlite_url, drain=0)
    app = make_app(manager)
    async with manager, asking(app) as client:
        runner = Counting(1)
        task = await manager.submit("count", runner)
        await runner.begun.wait()
        waiting = [
            asyncio.ensure_future(client.get(f"/v1/tasks/{task.task_id}/{path}"))
            for path in ("result?wait=60", "tape?after_seq=2&wait=60", "stream")
        ]
        seats = app.state.tapescope.seats
        assert await until(lambda: seats.taken == 3)
        begin_drain(app)
        result, tape, stream = await asyncio.gather(*waiting)
        refused = await client.get("/v1/tasks")
        probe = await client.get("/livez")

        assert result.status_code == 202
        assert tape.json()["events"] == []
        assert read_frames(stream.text)[-1].data["error"] == "Draining"
        assert problem_of(refused) == (503, "Draining")
        assert probe.status_code == 200
        assert seats.taken == 0


async def test_there_are_so_many_streams_and_no_more(sqlite_url: str) -> None:
    """One more is a 503 with Retry-After; a place is free again when a reader goes."""
    async with begun(sqlite_url, streams=1) as (_, task, runner, client):
        async with aclosing(follow(client, task.task_id)) as first:
            await anext(first)
            full = await client.get(f"/v1/tasks/{task.task_id}/stream")
            waits = await client.get(f"/v1/tasks/{task.task_id}/result?wait=9")

        async def free() -> bool:
            return (await client.get(f"/v1/tasks/{task.task_id}/result?wait=0.001")).is_success

        assert await until(free)
        assert problem_of(full) == problem_of(waits) == (503, "TooManyStreams")
        assert full.headers["Retry-After"]
        runner.go_on.set()


async def test_a_gap_is_an_error_and_never_silence(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream tells what came before the gap, then the gap, and ends."""
    async with begun(sqlite_url) as (manager, task, _, client):
        read = manager.store.read_tape

        async def lose(task_id: str, *, after_seq: int = 0, limit: int = 1_000) -> TapePage:
            page = await read(task_id, after_seq=after_seq, limit=limit)
            events = tuple(event for event in page.events if event.seq != 3)
            return TapePage(task_id, events, page.last_seq, page.final_seq, page.dropped)

        monkeypatch.setattr(manager.store, "read_tape", lose)
        frames = await collect(follow(client, task.task_id))

        assert [frame.id for frame in frames] == ["1", "2", None]
        assert frames[-1].data["error"] == TapeGap.__name__


async def test_a_reader_that_does_not_read_is_disconnected(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is hung up on, with a line in the log; what it follows goes on meanwhile."""
    async with begun(sqlite_url, read_within=0.05) as (manager, _, runner, client):
        big = "x" * 60_000

        async def pour(report: Reporter) -> None:
            for _ in range(100):
                await report.emit("big", big)

        poured = await manager.submit("pour", pour)
        address = (client.base_url.host, client.base_url.port or 0)
        with socket.create_connection(address) as stuck:
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            request = f"GET /v1/tasks/{poured.task_id}/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
            stuck.sendall(request.encode())
            await poured.result()  # no writer waits for a reader
            assert await until(lambda: "took nothing for 0.05 s" in caplog.text)
            assert await until(lambda: not _is_served(stuck))
        runner.go_on.set()

    assert "uvicorn.error" not in {record.name for record in caplog.records}


def _is_served(client: socket.socket) -> bool:
    """Whether the server, which is in this process, has its end of the connection open."""
    return any(
        tuple(one.raddr or ()) == client.getsockname()
        for one in psutil.Process().net_connections("tcp")
    )


@in_virtual_time
async def test_a_stream_with_nothing_to_tell_says_so() -> None:
    """A comment every 15 s keeps proxies awake; its reader needs no other sign."""
    async with (
        MemoryStore(clock=VirtualClock()) as store,
        TaskManager(store, heartbeat=100, lease=300) as manager,
    ):
        attempt = await start(store)
        app = make_app(manager)
        sent: list[tuple[float, bytes]] = []
        gone = asyncio.Event()
        now = asyncio.get_running_loop().time

        async def receive() -> dict[str, Any]:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body" and message["body"]:
                sent.append((now(), message["body"]))

        scope = {
            "type": "http",
            "method": "GET",
            "path": f"/v1/tasks/{attempt.task_id}/stream",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
        }
        answering = asyncio.ensure_future(app(scope, receive, send))
        await asyncio.sleep(40)
        beats = [at for at, body in sent if body == b": heartbeat\n\n"]
        await store.append(attempt, [log()])
        await settle_loop()
        told = sent[-1][1]
        gone.set()
        await answering

        assert [round(at - sent[0][0]) for at in beats] == [15, 30]
        assert told.startswith(b"id: 2\nevent: log\n")


async def test_the_log_has_a_line_for_each_request_and_no_query(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Method, path, status, time and who; what a query holds is a caller's own."""
    async with find_store(sqlite_url) as store, TaskManager(store, work=False) as manager:
        with caplog.at_level(logging.INFO, "tapescope.access"):
            async with asking(make_app(manager)) as client:
                await client.get("/v1/tasks?key=private")

    (line,) = [one.getMessage() for one in caplog.records if one.name == "tapescope.access"]
    assert line.startswith("GET /v1/tasks 200 ")
    assert line.endswith(" ms, - from 127.0.0.1")
    assert "private" not in line
