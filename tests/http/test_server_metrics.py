"""What a server tells of itself: its requests by route, its streams, and what it refused."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    NoOpTracer,
    SpanKind,
    Tracer,
    TracerProvider,
)

from tapescope import Reporter, Schedule, TaskManager, TaskStatus
from tapescope.http.access import Grant
from tapescope.http.api import ApiLimits, begin_drain, make_app, server
from tapescope.http.tokens import TokenFile
from tapescope.model import TelemetrySource
from tapescope.testing import until
from tapescope_telemetry import Telemetry
from tapescope_telemetry.guard import read_errors
from tapescope_telemetry.names import (
    SERVER_ABORTED,
    SERVER_DURATION,
    SERVER_METRICS,
    SERVER_REFUSED,
    SERVER_STREAMS,
    SERVER_STREAMS_ENDED,
)
from tests.http.client import asking, follow, serving
from tests.support.captured_telemetry import CapturedTelemetry
from tests.support.faulty_telemetry import Fault, FaultyTelemetry, HookFailed

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def shared_anew() -> Iterator[None]:
    """What shares the process's own telemetry has another one meanwhile: a tracer of it would keep
    the first provider that it meets."""
    before = Telemetry.share(None)
    yield
    Telemetry.share(before)


@asynccontextmanager
async def metered(
    captured: CapturedTelemetry, url: str, tokens: TokenFile | None = None, **limits: Any
) -> AsyncGenerator[tuple[TaskManager, FastAPI]]:
    """A manager that runs ``work`` and ``wait``, and its application."""
    manager = TaskManager(url, telemetry=captured.telemetry, drain=0)
    manager.op("work")(_work)
    manager.op("wait")(_wait)
    async with manager:
        yield manager, make_app(manager, tokens=tokens, limits=ApiLimits(**limits))


async def _work(report: Reporter) -> int:
    return 1


async def _wait(report: Reporter) -> None:
    await report.emit("began")
    await asyncio.Event().wait()


def count(captured: CapturedTelemetry, metric: str) -> dict[str, float]:
    """The series of a metric with one label, but for those at 0."""
    return {
        next(iter(point.labels.values())): point.value
        for point in captured.points(metric)
        if point.value
    }


def routes(captured: CapturedTelemetry) -> set[tuple[str, str | None, str]]:
    """Method, route and status of what was measured."""
    return {
        (
            point.labels["http.request.method"],
            point.labels.get("http.route"),
            point.labels["http.response.status_code"],
        )
        for point in captured.points(SERVER_DURATION.name)
    }


async def test_requests_are_told_by_the_template_of_their_route(
    captured: CapturedTelemetry, sqlite_url: str
) -> None:
    """No id and no name of a caller's is on a metric, whatever the path was; nor an odd method."""
    async with metered(captured, sqlite_url) as (manager, app), asking(app) as client:
        made = await client.post("/v1/tasks", json={"op": "work"})
        task_id = made.json()["task_id"]
        await manager.handle(task_id).result()
        await manager.store.schedules.add_if_absent(Schedule("nightly", "work", every=60))
        for path in (f"/v1/tasks/{task_id}", "/v1/tasks/absent", f"/tasks/{task_id}"):
            await client.get(path)
        for path in ("/v1/schedules/nightly", "/schedules/nightly", "/static/page.css"):
            await client.get(path)
        for path in ("/livez", "/v1/openapi.json", "/nowhere/at/all", f"/tasks/{task_id}/x/y"):
            await client.get(path)
        await client.head(f"/tasks/{task_id}")
        await client.request("BREW", "/v1/tasks")
        await client.put(f"/v1/tasks/{task_id}")
        told = routes(captured)

    assert told == {
        ("POST", "/v1/tasks", "201"),
        ("GET", "/v1/tasks/{task_id}", "200"),
        ("GET", "/v1/tasks/{task_id}", "404"),
        ("GET", "/tasks/{task_id}", "200"),
        ("HEAD", "/tasks/{task_id}", "200"),
        ("GET", "/v1/schedules/{name}", "200"),
        ("GET", "/schedules/{name}", "200"),
        ("GET", "/static/{name}", "200"),
        ("GET", "/livez", "200"),
        ("GET", "/v1/openapi.json", "200"),
        ("GET", None, "404"),
        ("_OTHER", "/v1/tasks", "405"),
        ("PUT", "/v1/tasks/{task_id}", "405"),
    }


async def test_a_stream_and_a_wait_do_not_spoil_the_histogram(
    captured: CapturedTelemetry, sqlite_url: str
) -> None:
    """A stream is told when its head is sent, once; what a client waits for is not the server's."""
    async with (
        metered(captured, sqlite_url) as (manager, app),
        serving(app) as (_, client),
    ):
        task = await manager.submit("wait")
        path = f"/v1/tasks/{task.task_id}"
        async with aclosing(follow(client, task.task_id)) as frames:
            await anext(frames)
            (open_,) = captured.points(SERVER_DURATION.name, http_route=_STREAM)
            streams = captured.value(SERVER_STREAMS.name)
            await client.get(f"{path}/result?wait=0.3")
            await task.cancel()
            rest = [frame.type async for frame in frames]
        await task.status()
        assert await until(lambda: captured.value(SERVER_STREAMS.name) == 0)
        (ended,) = captured.points(SERVER_DURATION.name, http_route=_STREAM)
        (waited,) = captured.points(SERVER_DURATION.name, http_route=_RESULT)

    assert rest[-1] == "final"
    assert (open_.value, ended.value, streams) == (1, 1, 1)
    assert waited.point.sum < 0.3, "the wait is not in it"
    assert count(captured, SERVER_STREAMS_ENDED.name) == {"final": 1}


_STREAM = "/v1/tasks/{task_id}/stream"
_RESULT = "/v1/tasks/{task_id}/result"


async def test_streams_say_why_they_ended(
    captured: CapturedTelemetry, sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader went, its token was revoked, the tape failed, the server drained."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = {name: tokens.add(name, [Grant.parse("read")], 0) for name in ("ann", "bob")}
    async with (
        metered(captured, sqlite_url, tokens, heartbeat=0.02) as (manager, app),
        serving(app) as (_, client),
    ):
        task = await manager.submit("wait")

        def ended(n: int) -> bool:
            return sum(count(captured, SERVER_STREAMS_ENDED.name).values()) == n

        async with aclosing(_follow(client, task.task_id, token["ann"])) as frames:
            await anext(frames)
        assert await until(lambda: ended(1))
        revoked = asyncio.ensure_future(_follow_all(client, task.task_id, token["bob"]))
        assert await until(lambda: captured.value(SERVER_STREAMS.name) == 1)
        tokens.revoke("bob")
        await revoked
        read = manager.store.read_tape

        async def lose(*arguments: Any, **more: Any) -> Any:
            page = await read(*arguments, **more)
            monkeypatch.setattr(manager.store, "read_tape", fail)
            return page

        async def fail(*_: Any, **__: Any) -> Any:
            raise RuntimeError

        monkeypatch.setattr(manager.store, "read_tape", lose)
        await _follow_all(client, task.task_id, token["ann"])
        monkeypatch.setattr(manager.store, "read_tape", read)
        drained = asyncio.ensure_future(_follow_all(client, task.task_id, token["ann"]))
        assert await until(lambda: captured.value(SERVER_STREAMS.name) == 1)
        begin_drain(app)
        await drained
        assert await until(lambda: ended(4))

    assert count(captured, SERVER_STREAMS_ENDED.name) == {
        "reader_gone": 1,
        "refused": 1,
        "failed": 1,
        "draining": 1,
    }


def _follow(client: AsyncClient, task_id: str, token: str) -> AsyncGenerator[Any]:
    return follow(client, task_id, {"Authorization": f"Bearer {token}"})


async def _follow_all(client: AsyncClient, task_id: str, token: str) -> None:
    async with aclosing(_follow(client, task_id, token)) as frames:
        async for _ in frames:
            pass


async def test_refused_requests_are_counted_by_why(
    captured: CapturedTelemetry, sqlite_url: str, tmp_path: Path
) -> None:
    """Each kind once; a page that leads to the login refuses nobody, a wrong token there does."""
    tokens = TokenFile(tmp_path / "tokens.json")
    limits = {"body_bytes": 100, "query_bytes": 50, "streams": 0}
    async with metered(captured, sqlite_url, tokens, **limits) as (manager, app):
        task = await manager.submit("wait")
        async with asking(app) as client:
            open_ = await client.get("/v1/tasks", headers={"Host": "elsewhere.example"})
        token = tokens.add("ann", [Grant.parse("read")], 0)
        async with asking(app, token=token) as client:
            forbidden = await client.post("/v1/audit")
            foreign = await client.get("/v1/tasks", headers={"Sec-Fetch-Site": "cross-site"})
            long = await client.get(f"/v1/tasks?key={'x' * 60}")
            full = await client.get(f"/v1/tasks/{task.task_id}/stream")
            bad = await client.get("/v1/tasks?statu=failed")
            page = await client.get("/audit")
            client.headers.pop("Authorization")
            unknown = await client.get("/v1/tasks")
            led = await client.get("/tasks")
            ours = {"Origin": "http://localhost"}
            wrong = await client.post("/login", data={"token": "x"}, headers=ours)
            large = await client.post("/login", data={"token": "x" * 200}, headers=ours)
            begin_drain(app)
            late = await client.get("/v1/tasks")
        await manager.handle(task.task_id).cancel()

    answers = (open_, forbidden, foreign, long, full, bad, page, unknown, led, wrong, large, late)
    assert [one.status_code for one in answers] == [
        *(421, 403, 403, 414, 503, 422, 403, 401, 303, 401, 413, 503)
    ]
    assert count(captured, SERVER_REFUSED.name) == {
        "host": 1,
        "forbidden": 2,
        "cross_origin": 1,
        "too_large": 2,
        "too_many": 1,
        "unauthenticated": 2,
        "draining": 1,
    }


async def test_who_idles_and_who_reads_nothing_is_counted(
    captured: CapturedTelemetry, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection without a request, a reader that is stuck, and one connection too many."""
    monkeypatch.setattr(server, "_HEAD_WITHIN", 0.05)
    async with metered(captured, sqlite_url, read_within=0.05) as (manager, app):

        async def pour(report: Reporter) -> None:
            for _ in range(100):
                await report.emit("big", "x" * 60_000)

        poured = await manager.submit("pour", pour)
        async with serving(app) as (serves, _):
            with socket.create_connection(("127.0.0.1", serves.port)):
                assert await until(lambda: count(captured, SERVER_ABORTED.name) == {"no_head": 1})
            monkeypatch.setattr(server, "_HEAD_WITHIN", 10.0)
            with socket.create_connection(("127.0.0.1", serves.port)) as stuck:
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
                path = f"/v1/tasks/{poured.task_id}/stream"
                stuck.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                assert await until(lambda: "reader_stuck" in count(captured, SERVER_ABORTED.name))
        monkeypatch.setattr(server, "_CONNECTIONS", 1)
        async with serving(app) as (_, client):
            full = await client.get("/livez")
        await poured.result()
        row = await poured.status()

    assert row.status is TaskStatus.SUCCEEDED, "no writer waits"
    assert count(captured, SERVER_ABORTED.name) == {"no_head": 1, "reader_stuck": 1}
    assert count(captured, SERVER_STREAMS_ENDED.name) == {"reader_stuck": 1}
    assert full.status_code == 503
    assert count(captured, SERVER_REFUSED.name) == {"too_many": 1}


@pytest.mark.usefixtures("shared_anew")
async def test_an_acts_span_is_the_parent_of_its_submit(
    captured: CapturedTelemetry, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the trace that the request names, by its route; what reads makes no span."""
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", captured.tracer_provider)
    async with metered(captured, sqlite_url) as (manager, app), asking(app) as client:
        headers = {"traceparent": CALLER}
        await manager.schedules.add("nightly", "work", every=60)
        made = await client.post("/v1/tasks", json={"op": "work"}, headers=headers)
        await client.post("/v1/schedules/nightly/trigger", headers=headers)
        await client.get(f"/v1/tasks/{made.json()['task_id']}?", headers=headers)
        await client.get("/tasks?key=private")
        await client.delete("/v1/schedules/nightly", headers=headers)
        exemplars = [
            exemplar.trace_id
            for point in captured.points(SERVER_DURATION.name, http_route="/v1/tasks")
            if point.labels["http.request.method"] == "POST"
            for exemplar in point.point.exemplars
        ]

    served = {one.name: one for one in captured.spans() if one.kind is SpanKind.SERVER}
    submits = [one for one in captured.spans() if one.name == "submit work"]
    assert set(served) == {
        "POST /v1/tasks",
        "POST /v1/schedules/{name}/trigger",
        "DELETE /v1/schedules/{name}",
    }
    parents = {one.context.span_id: name for name, one in served.items() if one.context}
    assert [parents.get(one.parent.span_id) for one in submits if one.parent] == [
        "POST /v1/tasks",
        "POST /v1/schedules/{name}/trigger",
    ]
    traces = {one.context.trace_id for one in (*served.values(), *submits) if one.context}
    assert traces == {int(CALLER[3:35], 16)} == set(exemplars)


FAULTS = ("processor.on_start", "processor.on_end", "propagator.extract", "provider", "span")
"""Hooks of what an application may have chosen for the process: each raises at every call."""


class _BadSpan(NonRecordingSpan):
    """One that raises in whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        raise HookFailed(name)


class _BadTracer(NoOpTracer):
    def start_span(self, *_: Any, **__: Any) -> Any:
        return _BadSpan(INVALID_SPAN_CONTEXT)


class _BadProvider(TracerProvider):
    """It gives no tracer, or one whose spans raise."""

    def __init__(self, *, gives: bool) -> None:
        self._gives = gives

    def get_tracer(self, *_: Any, **__: Any) -> Tracer:
        if self._gives:
            return _BadTracer()
        raise HookFailed("provider.get_tracer")


class _At(Fault):
    """A fault at some hooks alone."""

    def __init__(self, *hooks: str) -> None:
        super().__init__()
        self._at = hooks

    def at(self, hook: str) -> None:
        if hook in self._at:
            super().at(hook)


@pytest.mark.usefixtures("shared_anew")
async def test_no_provider_and_no_propagator_fails_an_act(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The framework makes spans of acts by the process's own provider: what that raises is kept,
    and counted."""
    manager = TaskManager(sqlite_url, work=False)
    manager.op("work")(_work)
    told: dict[str, list[int]] = {}
    kept: dict[str, int] = {}
    async with manager:
        for hook in FAULTS:
            faulty = FaultyTelemetry(_At(hook))
            provider: TracerProvider = faulty.tracer_provider
            if hook in ("provider", "span"):
                provider = _BadProvider(gives=hook == "span")
            monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
            before = read_errors()[TelemetrySource.SPAN]
            with faulty.installed():
                async with asking(make_app(manager)) as client:
                    told[hook] = await _act(client)
            faulty.close()
            kept[hook] = read_errors()[TelemetrySource.SPAN] - before
        tasks = len((await manager.store.list()).tasks)

    assert told == {hook: [201, 200, 200, 201, 200, 303, 200, 404, 200] for hook in FAULTS}
    assert tasks == 4 * len(FAULTS)
    assert min(kept.values()) > 0


async def _act(client: AsyncClient) -> list[int]:
    """Make each kind of act, and a read; gives their statuses."""
    made = await client.post("/v1/tasks", json={"op": "work"}, headers={"traceparent": CALLER})
    path = f"/v1/tasks/{made.json()['task_id']}"
    form = {"data": {"op": "work"}, "headers": {"Origin": "http://localhost"}}
    acts: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/v1/tasks:batch", {"json": {"tasks": [{"op": "work"}]}}),
        ("POST", f"{path}/cancel", {}),
        ("POST", f"{path}/retry", {}),
        ("POST", "/v1/ops/work/pause", {}),
        ("POST", "/submit", form),
        ("POST", "/v1/audit", {}),
        ("DELETE", "/v1/schedules/absent", {}),
        ("GET", path, {}),
    ]
    answers = [await client.request(method, place, **more) for method, place, more in acts]
    return [one.status_code for one in (made, *answers)]


def test_what_a_server_tells_is_the_contract(captured: CapturedTelemetry) -> None:
    """Every metric of its table, with its zeros; a process that serves nothing has none of them."""
    names = {row.name for row in SERVER_METRICS}
    captured.telemetry.tasks.limit(1)
    before = set(captured.metrics())
    meter = captured.telemetry.server
    meter.answered("GET", None, 200, 0.1)
    metrics = captured.metrics()

    assert not names & before
    assert names <= set(metrics)
    assert captured.telemetry.server is meter
    for row in SERVER_METRICS:
        assert (metrics[row.name].unit, metrics[row.name].description) == (
            row.unit,
            row.description,
        )
        for point in captured.points(row.name):
            assert set(row.attributes) <= set(point.labels) <= {*row.attributes, *row.optional}
    assert [len(captured.points(row.name)) for row in SERVER_METRICS] == [1, 1, 6, 8, 2]
