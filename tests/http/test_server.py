"""The server: what a client may keep open, and for how long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import closing
from typing import Any, cast

import pytest

from tapescope import BadSetting, CannotListen, Reporter, TaskManager
from tapescope.http.api import ApiLimits, ApiServer, make_app, server
from tests.http.client import asking, problem_of, serving


@pytest.mark.parametrize(
    "sent", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"]
)
async def test_who_sends_no_request_is_hung_up_on(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A head that does not come to its end holds no connection; a whole one is answered."""
    monkeypatch.setattr(server, "_HEAD_WITHIN", 0.05)
    app = make_app(TaskManager(sqlite_url))
    async with serving(app) as (serves, client):
        reader, writer = await asyncio.open_connection("127.0.0.1", serves.port)
        writer.write(sent)
        try:
            async with asyncio.timeout(20):
                rest = await reader.read()
        except ConnectionResetError:
            rest = b""
        writer.close()
        monkeypatch.setattr(server, "_HEAD_WITHIN", 20)  # a slow machine's own whole head
        live = await client.get("/livez")

    assert rest == b""
    assert live.status_code == 200


async def test_an_answer_waits_for_no_packet(sqlite_url: str) -> None:
    """Nagle's algorithm is off: a body that is sent after its head is not held back by 40 ms."""
    async with serving(make_app(TaskManager(sqlite_url))) as (serves, client):
        await client.get("/livez")
        (connection,) = cast("Any", serves)._server.server_state.connections
        served = connection.transport.get_extra_info("socket")
        no_delay = served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    assert no_delay


async def test_a_body_that_does_not_come_is_not_waited_for(sqlite_url: str) -> None:
    """408, and the connection is given up."""
    never = asyncio.Event()

    async def trickle() -> AsyncGenerator[bytes]:
        yield b"{"
        await never.wait()

    app = make_app(TaskManager(sqlite_url), limits=ApiLimits(body_within=0.01))
    async with asking(app) as client:
        headers = {"Content-Type": "application/json"}
        answer = await client.post("/v1/tasks", content=trickle(), headers=headers)

    assert problem_of(answer) == (408, "BodyTooSlow")


async def test_an_address_that_cannot_be_served_is_said(sqlite_url: str) -> None:
    """A port that is taken or none, and a host that is not this machine's."""
    app = make_app(TaskManager(sqlite_url))
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as taken,
        pytest.raises(CannotListen, match="The API cannot be served"),
    ):
        ApiServer(app, "127.0.0.1", taken.getsockname()[1]).listen()
    with pytest.raises(CannotListen):
        ApiServer(app, "a" * 64 + ".example", 0).listen()
    with pytest.raises(BadSetting, match="a port"):
        ApiServer(app, "127.0.0.1", 70_000)


async def test_a_proxy_strips_the_root_path(sqlite_url: str) -> None:
    """Links are the client's: with the prefix that the proxy takes off."""
    manager = TaskManager(sqlite_url, work=False)
    manager.op("work")(_work)
    async with manager, serving(make_app(manager), root_path="/tasks") as (_, client):
        made = await client.post("/v1/tasks", json={"op": "work"})
        live = await client.get("/livez")

    assert made.headers["Location"].startswith("/tasks/v1/tasks/")
    assert live.status_code == 200


async def _work(report: Reporter) -> None:
    """An op that nothing runs here."""
