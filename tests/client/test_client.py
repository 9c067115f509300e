"""The verbs of both clients: values and errors are those of a manager, and a token stays secret."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import pytest
from httpx import AsyncClient

from tapescope import (
    BadOp,
    BadParams,
    BadSetting,
    CancelState,
    IdempotencyConflict,
    OpNotRegistered,
    RequestRefused,
    ResultTimeout,
    ScopeMissing,
    ServerFailed,
    ServerNotUnderstood,
    ServerUnavailable,
    Submission,
    TapescopeError,
    TaskCancelled,
    TaskFailed,
    TaskManager,
    TaskNotEnded,
    TokenRefused,
    UniqueKeyTaken,
    UnknownTask,
)
from tapescope.client import Client, SyncClient
from tapescope.client.wire import AsyncioWire, Wire
from tapescope.http.access import Grant
from tapescope.http.api import make_app
from tapescope.http.tokens import TokenFile
from tapescope.testing import until
from tapescope_telemetry.spans import continue_trace
from tests.cli.command import slow
from tests.client.servers import KINDS, Cutter, Shop, canned, ended_by, http, puppet
from tests.http.client import serving
from tests.stress.delays import Delays, pause
from tests.support.breaches import make_ended

Kind = type[Client] | type[SyncClient]
ID = "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"
SECRET = "tapescope_JCJjmNXhORxObdmDcHLOREU8cON9IVW1EmbX3qhZYgc"


@pytest.fixture(params=["sqlite", slow("postgresql")])
def served_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store: of a file every day, of PostgreSQL with what is slow."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_a_client_says_what_the_manager_says(served_url: str, kind: Kind) -> None:
    """Rows, pages, tapes, late events, numbers, results and errors, by either client."""
    async with Shop.open(served_url) as shop:
        manager, store = shop.manager, shop.manager.store

        async def ask(verb: str, *arguments: Any) -> Any:
            return await ended_by(kind, shop.url, verb, *arguments)

        shop.go_on.set()
        task = await ask("submit", "count")
        assert isinstance(task.created, bool)
        failed = await ask("submit", "fail")
        attempt, _ = await make_ended(store)
        ended = await asyncio.gather(
            manager.handle(failed.task_id).result(), return_exceptions=True
        )
        await asyncio.gather(manager.handle(task.task_id).result(), return_exceptions=True)
        told = {
            "row": await ask("get", task.task_id) == await store.get(task.task_id),
            "page": (await ask("list")).tasks == (await store.list()).tasks,
            "tape": await ask("tape", attempt.task_id) == await store.read_tape(attempt.task_id),
            "drops": (await ask("drops")).drops == (await store.read_quarantine()).drops,
            "stats": (await ask("stats")).ops == (await store.backlog.read()).ops,
            "traced": await ask("read_traced", task.task_id)
            == list(await store.read_traced([task.task_id])),
            "audit": await ask("audit") == await manager.audit(),
        }
        errors = [
            await ask("result", failed.task_id),
            await ask("get", ID),
            await ask("get", "../metrics"),
            await ask("submit", "unknown"),
            await ask("drops", ID),
            await ask("find_traced", "zz"),
            await ask("retry", ID),
        ]

    assert told == dict.fromkeys(told, True)
    assert str(errors[0]) == str(ended[0])
    assert isinstance(errors[0], TaskFailed)
    assert isinstance(errors[3], OpNotRegistered)
    assert isinstance(errors[5], BadSetting)
    for error in (errors[1], errors[2], errors[4], errors[6]):
        assert isinstance(error, UnknownTask)


async def test_a_submit_is_that_of_the_manager(sqlite_url: str) -> None:
    """Params and settings come through; a key leads to the task that was there, or conflicts."""
    async with Shop.open(sqlite_url) as shop, Client(shop.url) as client:
        first = await client.submit("double", params={"n": 4}, idempotency_key="k", retries=2)
        again = await client.submit("double", params={"n": 4}, idempotency_key="k", retries=2)
        other = await client.submit(
            "double",
            params={"n": 4},
            delay=3_600,
            timeout=9,
            priority=-4,
            tags=["b", "a"],
            queue="bulk",
            expires_in=1.5,
        )
        with pytest.raises(IdempotencyConflict) as raised:
            await client.submit("double", params={"n": 5}, idempotency_key="k")
        with pytest.raises(TaskNotEnded):
            await other.retry()
        for bad in ("", " k", "schlüssel", "a\r\nb: c"):
            with pytest.raises(BadSetting, match="it goes in a header"):
                await client.submit("double", idempotency_key=bad)
        result = await first.result()
        retried = await first.retry(idempotency_key="r")
        same = await first.retry(idempotency_key="r")
        row, waits = await first.status(), await other.status()
        tagged = await client.list(tag="a")
        children = await client.list(parent_id=first.task_id)
        queued = await client.list(queue="bulk")
        cancelled = await other.cancel("no need")
        with pytest.raises(TaskCancelled, match="no need"):
            await other.result()

    assert (first.created, again.created, other.created) == (True, False, True)
    assert first.task_id == again.task_id == raised.value.task_id
    assert (retried.task_id, retried.created, same.created) == (same.task_id, True, False)
    assert result == 8
    assert (row.retries, waits.timeout, waits.idempotency_key is not None) == (2, 9, True)
    assert (row.priority, waits.priority) == (0, -4)
    assert [task.task_id for task in queued.tasks] == [other.task_id]
    assert (row.tags, waits.tags, waits.parent_id) == ((), ("a", "b"), None)
    assert [task.task_id for task in tagged.tasks] == [other.task_id]
    assert children.tasks == ()
    assert (row.queue, waits.queue) == ("default", "bulk")
    assert (row.expires_in, waits.expires_in) == (None, 1.5)
    assert waits.expires_us == waits.run_us + 1_500_000
    assert (cancelled.state, cancelled.lost) == (CancelState.CANCELLED, None)
    assert cancelled.request is not None
    assert cancelled.request.message == "no need"


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_a_unique_key_is_told_from_a_lost_reply(sqlite_url: str, kind: Kind) -> None:
    """A submit whose reply was lost made its task; one that met an open task of another did not."""
    async with Shop.open(sqlite_url) as shop:
        cutter = Cutter(shop.server.port, (1,))

        async def submit(url: str, *keys: str) -> Any:
            many = [Submission("double", params={"n": 1}, delay=60, unique_key=key) for key in keys]
            return await ended_by(kind, url, "submit_many", many)

        async with cutter.open() as url:
            (first,) = await submit(url, "a")
            (again,) = await submit(url, "a")
            others = await submit(url, "a", "b")
        row = await shop.manager.store.get(first.task_id)
        await shop.manager.handle(first.task_id).cancel()
        await submit(shop.url, "a")
        refused = await ended_by(kind, shop.url, "retry", first.task_id)

    assert (first.created, again.created) == (True, False)
    assert first.task_id == again.task_id == others[0].task_id
    assert [one.created for one in others] == [False, True]
    assert row.unique_key == "a"
    assert isinstance(refused, UniqueKeyTaken)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_names_the_span_it_is_made_in(sqlite_url: str, kind: Kind) -> None:
    """So a task leads to who submitted it through a server, and to who cancelled it."""
    caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-b2b2b2b2b2b2b2b2-01"
    async with Shop.open(sqlite_url) as shop:
        with continue_trace(caller):
            task = await ended_by(kind, shop.url, "submit", "count")
            await ended_by(kind, shop.url, "cancel", task.task_id)
        row = await shop.manager.store.get(task.task_id)

    assert row.traceparent == caller
    assert row.cancel is not None
    assert row.cancel.traceparent == caller


@pytest.mark.slow
async def test_a_result_is_waited_for_across_servers(sqlite_url: str) -> None:
    """The wait goes on with the next server; its limit is the local handle's error."""
    async with TaskManager(sqlite_url, drain=0) as worker:
        shop = Shop(worker)
        task = await worker.submit("count", params={"to": 1})
        await shop.begun.wait()
        reader = TaskManager(sqlite_url, work=False)
        async with reader, serving(make_app(reader)) as (server, _):
            port, client = server.port, Client(server.url, reconnect=60)
            with pytest.raises(ResultTimeout, match="running"):
                await client.result(task.task_id, 0.05)
            waiting = asyncio.ensure_future(client.result(task.task_id))
            await until(lambda: server._app.state.tapescope.seats.taken == 1)  # pyright: ignore[reportPrivateUsage]
        shop.go_on.set()
        await task.result()
        reader = TaskManager(sqlite_url, work=False)
        async with reader, serving(make_app(reader), port):
            result = await waiting
        await client.aclose()

    assert result == 1


# --- what a network loses -------------------------------------------------------------------------


async def test_a_submit_whose_reply_was_lost_submits_once(sqlite_url: str) -> None:
    """It is sent again with the same key, and the task is the client's own."""
    async with Shop.open(sqlite_url) as shop:
        seen: list[bytes] = []

        async def lose_first(head: bytes, writer: asyncio.StreamWriter) -> None:
            seen.append(re.findall(rb"(?i)idempotency-key: (\S+)", head)[0])
            body = b'{"op":"double","params":{"n":1}}'
            there, here = await asyncio.open_connection("127.0.0.1", shop.server.port)
            here.write(re.sub(rb"(?i)content-length: \d+", b"Content-Length: %d" % len(body), head))
            here.write(body)
            answer = await there.readuntil(b"}")
            here.close()
            if len(seen) > 1:
                writer.write(answer)

        async with puppet(lose_first) as url, Client(url) as client:
            task = await client.submit("double", params={"n": 1})
        tasks = (await shop.manager.store.list()).tasks

    assert [one.task_id for one in tasks] == [task.task_id]
    assert task.created
    assert len(seen) == 2
    assert seen[0] == seen[1] == (tasks[0].idempotency_key or "").encode()


def problem(status: int, name: str, headers: str = "") -> bytes:
    """An answer that refuses."""
    body = f'{{"status":{status},"error":"{name}","detail":"It is {name}.","title":"","type":""}}'
    return http(body.encode(), "application/problem+json", f"{status} No", headers)


WITHOUT_EXTRA = """
import sys
import tapescope, tapescope.http
print('httpx' in sys.modules)
sys.modules['httpx'] = None
try:
    import tapescope.client
except tapescope.errors.MissingExtra as error:
    print(error)
"""


@pytest.mark.parametrize("arguments", ['{"task_id": "x"}', '{"id": 1}', "[1]", '{"task_id": 5}'])
async def test_an_error_of_another_version_is_told_by_its_text(arguments: str) -> None:
    """Made again of its arguments it would say something else, or cannot be made."""
    body = (
        '{"status":409,"error":"UnknownTask","detail":"There is none.","title":"","type":"",'
        f'"arguments":{arguments}}}'
    )
    answer = http(body.encode(), "application/problem+json", "409 Conflict")
    async with canned([answer]) as (url, _):
        met = await ended_by(Client, url, "get", ID)

    assert type(met) is RequestRefused
    assert (met.status, met.name, met.detail) == (409, "UnknownTask", "There is none.")


SLOWLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (http(b"<html>", "text/html"), ServerNotUnderstood, "text/html"),
        (http(b"<html>"), ServerNotUnderstood, "not JSON"),
        (http(b"[]"), ServerNotUnderstood, "not an object"),
        (http(b"{}"), ServerNotUnderstood, "lacks 'cancel'"),
        (http(b"no", "text/plain", "404 Not Found"), ServerNotUnderstood, "status 404"),
        (problem(404, "NoSuchPath"), ServerNotUnderstood, "its version"),
        (problem(401, "NotAuthenticated"), TokenRefused, "TAPESCOPE_TOKEN"),
        (problem(403, "Forbidden"), ScopeMissing, "token add --scope"),
        (problem(421, "HostRefused"), RequestRefused, "It is HostRefused"),
        (problem(500, "InternalError"), ServerFailed, "It is InternalError"),
        (problem(503, "StoreUnavailable"), ServerUnavailable, "It is StoreUnavailable"),
        (problem(429, "TooMany", "Retry-After: 60\r\n"), RequestRefused, "It is TooMany"),
        (http(b"busy", "text/html", "502 Bad Gateway"), ServerUnavailable, "answers 502"),
        (http(b"who?", "text/html", "401 No"), RequestRefused, "before the server"),
        (SLOWLY, ServerUnavailable, "cannot be used now"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ServerUnavailable, "illegal"),
        (b"", ServerUnavailable, "disconnected"),
    ],
)
async def test_an_answer_that_is_none_says_what_to_do(
    kind: Kind, answer: bytes, error: type[Exception], says: str
) -> None:
    """Of another program, another version or a proxy; of a server that cannot, or will not."""
    async with canned([answer]) as (url, _):
        met = await ended_by(kind, url, "get", ID, patience=0.1, timeout=10)

    assert type(met) is error
    assert says in str(met)
    assert url in str(met)


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_an_answer_that_drips_has_an_end(kind: Kind) -> None:
    """Each byte comes in time, and all of it never would: ten timeouts are the limit."""
    sent = asyncio.Event()

    async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(SLOWLY)
        while not sent.is_set():
            writer.write(b" ")
            await writer.drain()
            await pause(0.01)

    async with puppet(drip) as url:
        began = time.monotonic()
        met = await ended_by(kind, url, "get", ID, patience=0, timeout=0.05)
        took = time.monotonic() - began
        sent.set()

    assert isinstance(met, ServerUnavailable)
    assert "too slowly" in str(met)
    assert took < 10


async def test_a_head_that_drips_has_an_end() -> None:
    """In an event loop; a blocking call waits as long as bytes come."""

    async def drip(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not writer.is_closing():
            writer.write(b"x")
            await writer.drain()
            await pause(0.01)

    async with puppet(drip) as url:
        met = await ended_by(Client, url, "get", ID, patience=0, timeout=0.2)

    assert isinstance(met, ServerUnavailable)
    assert "in time" in str(met)


async def test_a_retry_after_is_kept_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits as long as the server says, and not at all past its own patience."""
    pauses: list[float] = []

    async def note(self: Wire, seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(AsyncioWire, "pause", note)
    busy = problem(429, "TooMany", "Retry-After: 7\r\n")
    async with canned([busy, problem(404, "NoSuchPath")]) as (url, asked):
        first = await ended_by(Client, url, "get", ID)
    async with canned([busy]) as (url, once):
        second = await ended_by(Client, url, "get", ID, patience=3)

    assert isinstance(first, ServerNotUnderstood)
    assert (pauses, len(asked), len(once)) == ([7], 2, 1)
    assert isinstance(second, RequestRefused)


async def test_an_op_that_is_full_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where a server of another version says it in other words."""

    async def pause_not(self: Wire, seconds: float) -> None:
        raise AssertionError(seconds)

    monkeypatch.setattr(AsyncioWire, "pause", pause_not)
    async with canned([problem(429, "OpFull", "Retry-After: 1\r\n")]) as (url, asked):
        met = await ended_by(Client, url, "submit", "work")

    assert isinstance(met, RequestRefused)
    assert (met.name, len(asked)) == ("OpFull", 1)


# --- the token ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_is_sent_nowhere_else(kind: Kind) -> None:
    """A redirect is an error that names where it leads, and is not followed."""
    async with canned([http(b"{}")]) as (other, asked_there):
        where = f"Location: {other}/v1/tasks/x\r\n"
        async with canned([http(b"", "text/html", "307 Moved", where)]) as (url, asked):
            met = await ended_by(kind, url, "get", ID, token=SECRET)

    assert isinstance(met, ServerNotUnderstood)
    assert f"it sends on to {other}" in str(met)
    assert f"Bearer {SECRET}".encode() in asked[0]
    assert asked_there == []
    assert SECRET not in str(met) + repr(met) + repr(vars(met))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_goes_through_no_proxy_to_this_machine(
    kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever proxy the environment names would be shown it."""
    async with canned([http(b"{}")]) as (proxy, asked_proxy), canned([http(b"{}")]) as (url, asked):
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy)
        await ended_by(kind, url, "get", ID, token=SECRET)

    assert (len(asked), len(asked_proxy)) == (1, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_repr_and_no_error_shows_the_token(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one that is bad; and the variable's token is taken like an argument."""
    monkeypatch.setenv("TAPESCOPE_TOKEN", SECRET)
    client = kind("https://tasks.example/path/")
    shown = [repr(client), repr(client.handle(ID)), repr(client._verbs.wire.address)]  # pyright: ignore[reportPrivateUsage]
    for url, token in (("http://tasks.example", None), ("https://x", f"{SECRET}\r\nX: y")):
        with pytest.raises(BadSetting) as raised:
            kind(url, token=token)
        shown += [str(raised.value), repr(vars(raised.value))]
    allowed = kind("http://tasks.example", plain_http=True)

    assert client.server == "https://tasks.example/path"
    assert allowed.server == "http://tasks.example"
    assert "an https URL" in shown[3]
    assert not [text for text in shown if SECRET[10:] in text]


@pytest.mark.parametrize(
    "url",
    [
        *("", "tasks.example", "ftp://tasks.example", "http://", "http://x:y", "http://[::1"),
        *("http://ann:hunter2@localhost", "http://x/?a=b", "http://x/#a", "http://a b", "http://ü"),
        *("http://x\r\nA: b", None, 8470),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url: Any) -> None:
    """With what one looks like, and without a password in it."""
    with pytest.raises(BadSetting) as raised:
        Client(url)

    assert "http://127.0.0.1:8470" in str(raised.value)
    assert "hunter2" not in str(raised.value)


async def test_what_a_token_may_not_do_is_said(sqlite_url: str, tmp_path: Any) -> None:
    """Without one, with a wrong one, with one that is too narrow; a task that it may not see."""
    tokens = TokenFile(tmp_path / "tokens.json")
    narrow = tokens.add("ann", [Grant.parse("read:double")], 0)
    async with Shop.open(sqlite_url, tokens) as shop:
        hidden = await shop.manager.submit("count")
        met = [
            await ended_by(Client, shop.url, "list", token=token) for token in ("", "wrong", narrow)
        ]
        met.append(await ended_by(Client, shop.url, "submit", "double", token=narrow))
        met.append(await ended_by(Client, shop.url, "get", hidden.task_id, token=narrow))
        shop.go_on.set()

    kinds = [TokenRefused, TokenRefused, ScopeMissing, ScopeMissing, UnknownTask]
    assert [type(one) for one in met] == kinds
    assert "Name an op that the token is for: double" in str(met[2])


@pytest.mark.slow
def test_without_its_extra_it_says_what_to_install() -> None:
    """The client is imported by name alone."""
    said = subprocess.run(
        (
            sys.executable,
            "-c",
            WITHOUT_EXTRA,
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout

    assert said == "False\nThe client needs more packages: pip install 'tapescope[client]'\n"


FORKING = """
import os, sys
from tapescope.client import SyncClient
client = SyncClient(sys.argv[1])
client.list()
child = os.fork()
if not child:
    client.list()
    os._exit(0)
print(os.waitpid(child, 0)[1])
client.list()
"""


@pytest.mark.slow
async def test_a_forked_child_has_connections_of_its_own(sqlite_url: str) -> None:
    """Those of its parent stay the parent's: neither hears what the other one asked."""
    async with Shop.open(sqlite_url) as shop:
        proxy = Cutter(shop.server.port, ())
        async with proxy.open() as url:
            program = (sys.executable, "-c", FORKING, url)
            done = await asyncio.to_thread(
                subprocess.run, program, capture_output=True, text=True, timeout=60, check=False
            )

    assert (done.stdout, done.stderr) == ("0\n", "")
    assert proxy.connections == 2


# --- a cancel right after a submit ----------------------------------------------------------------


@pytest.mark.timeout(3_600)
async def test_a_cancel_right_after_a_submit_ends_as_cancelled(served_url: str) -> None:
    """From 0 to 20 ms later, over HTTP: each tape has one final, and it says cancelled (I2).

    Thousands of them are a kind of ``make stress``.
    """
    delays = Delays(20)
    async with Shop.open(served_url) as shop, Client(shop.url) as client:

        async def submit_and_cancel() -> str:
            task = await client.submit("count", params={"to": 1})
            await pause(delays.draw("cancel", 0, 20))
            await task.cancel("at once")
            with pytest.raises(TaskCancelled):
                await task.result(60)
            return task.task_id

        ids = await asyncio.gather(*(submit_and_cancel() for _ in range(10)))
        tapes = [await shop.manager.store.read_tape(task_id) for task_id in ids]
        rows = [await shop.manager.store.get(task_id) for task_id in ids]
        audit = await client.audit(thorough=True)

    assert {row.status.value for row in rows} == {"cancelled"}
    assert [[one.type for one in tape.events].count("final") for tape in tapes] == [1] * 10
    assert all(tape.final_seq == tape.last_seq for tape in tapes)
    assert audit.violations == ()


# --- many at once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_many_are_submitted_once_whatever_is_lost(sqlite_url: str, kind: Kind) -> None:
    """In their order and in few requests, each with its key: a lost reply makes nothing twice."""
    wanted = [
        Submission(
            "double",
            params={"n": n},
            idempotency_key=None if n % 2 else f"k{n}",
            delay=3_600,
            priority=n % 7 or None,
            tags=[f"t{n % 3}"],
            queue="bulk" if n % 2 else None,
            expires_in=n or None,
        )
        for n in range(600)
    ]
    async with Shop.open(sqlite_url) as shop:
        cutter = Cutter(shop.server.port, (1,))
        async with cutter.open() as url:
            tasks = await ended_by(kind, url, "submit_many", wanted)
            again = await ended_by(kind, url, "submit_many", wanted[:1])
        first = await shop.manager.store.get(tasks[0].task_id)
        last = await shop.manager.store.get(tasks[599].task_id)
        rows = (await shop.manager.store.list(limit=1_000)).tasks
        none = await ended_by(kind, shop.url, "submit_many", [])

    assert len({task.task_id for task in tasks}) == len(rows) == 600
    assert ([first.params, last.params], first.idempotency_key) == ([{"n": 0}, {"n": 599}], "k0")
    assert [first.priority, last.priority] == [0, 599 % 7]
    assert [first.queue, last.queue] == ["default", "bulk"]
    assert [first.expires_in, last.expires_in] == [None, 599]
    assert tasks[1].created is True
    assert (again[0].task_id, again[0].created) == (tasks[0].task_id, False)
    assert none == []


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_one_of_many_that_is_refused_is_raised(sqlite_url: str, kind: Kind) -> None:
    """What can be seen here is raised before any is sent; else the others are submitted."""
    good = Submission("double", params={"n": 1})
    async with Shop.open(sqlite_url) as shop:

        async def submit(*bad: Any) -> Any:
            return await ended_by(kind, shop.url, "submit_many", [good, *bad])

        here = [
            await submit(Submission("no op")),
            await submit(Submission("double", params={"n": 1}, timeout=-1)),
            await submit(Submission("double", runner=print)),
        ]
        before = len((await shop.manager.store.list()).tasks)
        there = await submit(Submission("nobodys"), good)
        after = len((await shop.manager.store.list()).tasks)

    assert [type(one) for one in here] == [BadOp, BadSetting, BadSetting]
    assert isinstance(there, OpNotRegistered)
    assert (before, after) == (0, 2)


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_each_of_many_has_its_handle_or_its_error(sqlite_url: str, kind: Kind) -> None:
    """Asked for so, the handles of those that were submitted are given beside each refusal."""
    wanted = [
        Submission("double", params={"n": 1}, idempotency_key="k"),
        Submission("nobodys"),
        Submission("double", params={"n": 2}, idempotency_key="k"),
        Submission("double", params={"m": 1}),
        Submission("double", params={"n": 1}, idempotency_key="k"),
    ]
    async with Shop.open(sqlite_url) as shop:
        told = await _submit_all(kind, shop.url, wanted)
        bad = await _submit_all(kind, shop.url, [*wanted, Submission("no op")])
        result = await shop.manager.handle(told[0].task_id).result()

    kinds = [IdempotencyConflict, OpNotRegistered, BadParams]
    assert [type(told[place]) for place in (2, 1, 3)] == kinds
    assert (told[0].created, told[4].created) == (True, False)
    assert told[0].task_id == told[4].task_id
    assert result == 2
    assert isinstance(bad, BadOp), "what can be seen here is raised, and nothing is sent"


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_what_was_submitted_before_the_server_was_lost_is_known(
    sqlite_url: str, kind: Kind
) -> None:
    """The first part has its handles; the part that was lost, and those behind it, have why."""
    wanted = [Submission("double", params={"n": n}, delay=3_600) for n in range(1_100)]
    async with Shop.open(sqlite_url) as shop:
        async with AsyncClient(base_url=shop.url) as client:
            tasks = [{"op": "double", "params": {"n": n}} for n in range(500)]
            first = await client.post("/v1/tasks:batch", json={"tasks": tasks})
        answers = [http(first.content), problem(503, "Draining", "Retry-After: 9\r\n")]
        async with canned(answers) as (url, asked):
            told = await _submit_all(kind, url, wanted, patience=0)
            raised = await ended_by(kind, url, "submit_many", wanted[:1], patience=0)
        known = await shop.manager.store.get(told[499].task_id)

    assert [isinstance(one, TapescopeError) for one in told] == [n >= 500 for n in range(1_100)]
    assert {type(one) for one in told[500:]} == {ServerUnavailable}
    assert known.params == {"n": 499}
    assert len(asked) == 3, "what is behind a part that was lost is not sent"
    assert isinstance(raised, ServerUnavailable)


async def _submit_all(
    kind: Kind, url: str, wanted: Sequence[Submission[Any]], **settings: Any
) -> Any:
    """What ``submit_many`` gives that returns exceptions, or the error that it raises."""
    try:
        if kind is Client:
            async with Client(url, **settings) as client:
                return await client.submit_many(wanted, return_exceptions=True)

        def call() -> Any:
            with SyncClient(url, **settings) as client:
                return client.submit_many(wanted, return_exceptions=True)

        return await asyncio.to_thread(call)
    except Exception as error:  # noqa: BLE001  # it is what the test asks for
        return error


@pytest.mark.parametrize(
    "answer",
    [b'{"tasks": []}', b'{"tasks": [{"task_id": "x"}]}', b"{}", b'{"tasks": [{"problem": 1}]}'],
)
async def test_an_answer_to_many_that_is_none_is_said(answer: bytes) -> None:
    """An answer of another length, or without what became of each."""
    async with canned([http(answer)]) as (url, _):
        met = await ended_by(Client, url, "submit_many", [Submission("double", params={"n": 1})])

    assert isinstance(met, ServerNotUnderstood)
