"""Followers over HTTP: every seq once and in order, whatever becomes of the connection (I9)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from tapescope import (
    ServerNotUnderstood,
    ServerUnavailable,
    TapeGap,
    TaskManager,
    UnknownTask,
    WouldBlockLoop,
)
from tapescope.client import Client, SyncClient
from tapescope.errors import BadSetting, ClientClosed, ServerFailed, TokenRefused
from tapescope.http.api import make_app
from tapescope.testing import until
from tests.cli.command import slow
from tests.client.servers import KINDS, Cutter, Shop, canned, collect, http, ndjson
from tests.http.client import serving

Kind = type[Client] | type[SyncClient]
ID = "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"


def line(seq: int, type: str = "count", body: Any = None) -> bytes:
    """An event as a stream has it."""
    shape = {"seq": seq, "type": type, "ts": "2026-01-31T12:00:00.000000Z", "attempt": 1}
    return orjson.dumps(shape | {"body": body, "last_seq": seq, "final_seq": None}) + b"\n"


def problem(status: int, name: str, retry_ms: int = 1) -> bytes:
    """The end of a stream that is none of the tape."""
    shape = {"status": status, "error": name, "detail": f"It is {name}.", "title": "", "type": ""}
    return orjson.dumps(shape | {"type": "error", "retry_ms": retry_ms}) + b"\n"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_follower_is_told_what_the_tape_has(sqlite_url: str, kind: Kind) -> None:
    """Live and from the middle; a tape that was seen to its end gives nothing."""
    async with Shop.open(sqlite_url) as shop, Client(shop.url) as client:
        task = await client.submit("count", params={"to": 3})
        following = asyncio.ensure_future(collect(kind, shop.url, task.task_id))
        await shop.begun.wait()
        shop.go_on.set()
        told = await following
        rest = await collect(kind, shop.url, task.task_id, 6)
        none = await collect(kind, shop.url, task.task_id, 8)
        tape = (await shop.manager.tape(task.task_id)).events

    assert [event.seq for event in told] == list(range(1, 9))
    assert tuple(told) == tape
    assert tuple(rest) == tape[6:]
    assert none == []


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_a_connection_that_is_cut_anywhere_loses_nothing(sqlite_url: str, kind: Kind) -> None:
    """In the head, in the midst of a line, behind one: each seq comes once and in order."""
    async with Shop.open(sqlite_url) as shop, Client(shop.url) as client:
        shop.go_on.set()
        task = await client.submit("count", params={"to": 10})
        await task.result()
        cuts = [0, 1, 100, *(420 + 61 * n for n in range(1, 9)), 573, 576]  # a head is some 420
        cutter = Cutter(shop.server.port, cuts)
        async with cutter.open() as url:
            told = await collect(kind, url, task.task_id)

    assert [event.seq for event in told] == list(range(1, 23))
    assert cutter.connections > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
async def test_a_follower_goes_on_with_the_next_server(sqlite_url: str, kind: Kind) -> None:
    """One that stops says so; one that is not there yet is waited for, and it is said once."""
    said: list[str] = []
    async with TaskManager(sqlite_url, drain=0) as worker:
        shop = Shop(worker)
        task = await worker.submit("count", params={"to": 5})
        await shop.begun.wait()
        reader = TaskManager(sqlite_url, work=False)
        async with reader, serving(make_app(reader)) as (server, _):
            port = server.port
            following = asyncio.ensure_future(
                collect(kind, server.url, task.task_id, reconnect=60, on_lost=said.append)
            )
            await until(lambda: _seats(server) == 1)
        await until(lambda: said)
        shop.go_on.set()
        await task.result()
        reader = TaskManager(sqlite_url, work=False)
        async with reader, serving(make_app(reader), port):
            told = await following

    assert [event.seq for event in told] == list(range(1, 13))
    assert len(said) == 1
    assert "trying again" in said[0]


def _seats(server: Any) -> int:
    """How many streams the server has."""
    taken: int = server._app.state.tapescope.seats.taken
    return taken


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reader_that_goes_early_leaves_nothing_open(sqlite_url: str, kind: Kind) -> None:
    """The server's seat is free again, and so is the connection."""
    async with Shop.open(sqlite_url) as shop, Client(shop.url) as client:
        task = await client.submit("count")
        await shop.begun.wait()
        if kind is Client:
            async with aclosing(client.follow(task.task_id)) as events:
                first = await anext(events)
                seats = _seats(shop.server)
            await until(lambda: _seats(shop.server) == 0)
        else:
            with SyncClient(shop.url) as sync:
                with pytest.raises(WouldBlockLoop, match="SyncClient"):
                    sync.list()
                following = sync.follow(task.task_id)
                first = await asyncio.to_thread(next, following)
                seats = _seats(shop.server)
                await asyncio.to_thread(following.close)
                await until(lambda: _seats(shop.server) == 0)
        shop.go_on.set()

    assert (first.seq, seats) == (1, 1)


async def test_a_client_that_is_closed_ends_its_followers(sqlite_url: str) -> None:
    """With an error: the end of the events is never silence. Closing twice is closing once."""
    async with Shop.open(sqlite_url) as shop:
        client = Client(shop.url)
        task = await client.submit("count")
        await shop.begun.wait()

        async def follow() -> None:
            async for _ in client.follow(task.task_id):
                pass

        following = asyncio.ensure_future(follow())
        await until(lambda: _seats(shop.server) == 1)
        await client.aclose()
        await client.aclose()
        with pytest.raises(ClientClosed, match="Open another one"):
            await following
        with pytest.raises(ClientClosed):
            await client.get(task.task_id)
        shop.go_on.set()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_event_that_is_missing_is_an_error(kind: Kind) -> None:
    """What was told before it was given; one that is told again is not given again."""
    given: list[int] = []
    streams = [ndjson(line(1), line(2)), ndjson(line(2), line(3), line(3), line(5))]
    async with canned(streams) as (url, asked):
        with pytest.raises(TapeGap) as raised:
            await collect(kind, url, ID, into=given)

    assert (raised.value.expected, raised.value.found) == (4, 5)
    assert given == [1, 2, 3]
    assert b"last-event-id: 2" in asked[1].lower()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (ndjson(b"<html>\n"), ServerNotUnderstood, "not JSON"),
        (ndjson(b"[1]\n"), ServerNotUnderstood, "not an object"),
        (ndjson(b'{"seq": "1"}\n'), ServerNotUnderstood, "whole number"),
        (ndjson(b'{"seq": 1, "type": "x"}\n'), ServerNotUnderstood, "lacks 'ts'"),
        (ndjson(b'{"type": "error"}\n'), ServerNotUnderstood, "no problem"),
        (ndjson(problem(401, "NotAuthenticated")), TokenRefused, "tapescope token add"),
        (ndjson(problem(500, "DamagedTape")), ServerFailed, "It is DamagedTape"),
        (ndjson(problem(503, "Draining")), ServerUnavailable, "It is Draining; event 0"),
        (ndjson(line(1)), ServerUnavailable, "before the final; event 1"),
        (http(b"<html>", "text/html"), ServerNotUnderstood, "text/html"),
        (http(b"", "text/html", "204 No Content"), ServerNotUnderstood, "status 204"),
        (http(b"{}", "application/json"), ServerNotUnderstood, "application/json"),
        (b"what is this?\r\n\r\n", ServerUnavailable, "illegal"),
    ],
)
async def test_a_stream_that_is_none_is_an_error_in_the_end(
    kind: Kind, answer: bytes, error: type[Exception], says: str
) -> None:
    """Whatever the server says, the follower ends, within its patience."""
    async with canned([answer]) as (url, _):
        with pytest.raises(error, match=says):
            await collect(kind, url, ID, patience=0.2, reconnect=0.2)


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_what_cannot_be_followed_is_the_error_of_a_handle(
    sqlite_url: str, kind: Kind
) -> None:
    """An id that the store does not have, or that is none; a place past the tape's end."""
    async with Shop.open(sqlite_url) as shop, Client(shop.url) as client:
        task = await client.submit("count")
        await shop.begun.wait()
        with pytest.raises(UnknownTask):
            await collect(kind, shop.url, ID)
        with pytest.raises(UnknownTask):
            await collect(kind, shop.url, "../../metrics")
        with pytest.raises(BadSetting, match="at most 6, the last seq of this tape"):
            await collect(kind, shop.url, task.task_id, 99)
        shop.go_on.set()
