"""Pauses and workers through a server: what the manager and its store say, and once."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import orjson
import pytest

from tapescope import BadOp, BadSetting, ServerNotUnderstood, TaskManager, UnknownWorker
from tapescope.client import Client, SyncClient
from tapescope.model.backlog import Backlog, OpBacklog
from tapescope.model.json_shapes import backlog_shape
from tapescope.model.ops import Pause
from tests.cli.command import Tapescope, slow
from tests.client.servers import Cutter, Shop, canned, ended_by, http

Kind = type[Client] | type[SyncClient]

OWNER = "web-1:4711:5-1.2-ab:cc"
ODD = "wörker ?#%&:7:1:x"


@pytest.mark.parametrize("other", [Client, SyncClient])
def test_every_verb_of_the_managers_is_there(other: type) -> None:
    """With the arguments of the manager's own, but for who asks: a server knows that."""
    for name in ("pause", "resume", "list_paused"):
        theirs = dict(inspect.signature(getattr(TaskManager, name)).parameters)
        theirs.pop("by", None)
        ours = inspect.signature(getattr(other, name)).parameters
        assert list(ours) == list(theirs)
        assert [one.default for one in ours.values()] == [one.default for one in theirs.values()]


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_a_client_says_what_the_store_says(sqlite_url: str, kind: Kind) -> None:
    """Pauses, drains, pages and errors are those of the store, by either client."""
    async with Shop.open(sqlite_url) as shop:
        ops = shop.manager.store.ops
        for owner in (OWNER, ODD):
            await ops.tell(owner, ["double"], 60)
        await ops.tell("silent", ["double"], 0.000001)

        async def ask(verb: str, *arguments: Any) -> Any:
            return await ended_by(kind, shop.url, verb, *arguments)

        paused = await ask("pause", "mail")
        (kept,) = (await shop.manager.list_paused()).pauses
        again = await ask("pause", "mail")
        await shop.manager.pause("sms", reason="why", by="ann")
        pauses = await ask("list_paused")
        pauses_here = await shop.manager.list_paused()
        drained = [await ask("workers.drain", owner) for owner in (OWNER, ODD)]
        drains = [await ops.find_drain(owner) for owner in (OWNER, ODD)]
        workers = await ask("workers.list")
        workers_here = await ops.list_workers()
        ended = [await ask("resume", "mail") for _ in range(2)]
        undrained = await ask("workers.undrain", ODD)
        left = await ops.find_drain(ODD)
        unknown = [
            await ask(f"workers.{verb}", owner)
            for verb in ("drain", "undrain")
            for owner in ("web-1", "a/b", "..", "")
        ]
        bad = [await ask("pause", "no op"), await ask("resume", "no op")]
        text = await ask("workers.drain", 7)
        async with Client(shop.url) as client:
            with_reason = await client.pause("fail", reason="it fails")
            other = await client.workers.drain(OWNER, reason="another")
            short = await client.list_paused(limit=1)
            rest = await client.list_paused(after=short.next)
            first = await client.workers.list(limit=1)
            more = await client.workers.list(after=first.next)

    assert paused == kept == again
    assert pauses == pauses_here
    assert drained == drains
    heard = [(one.owner, one.alive, one.drain, one.ops, one.since) for one in workers.workers]
    assert heard == [
        (one.owner, one.alive, one.drain, one.ops, one.since) for one in workers_here.workers
    ]
    assert ended == [kept, None]
    assert (undrained, left) == (None, None)
    assert {type(one) for one in unknown} == {UnknownWorker}
    assert str(unknown[0]) == str(UnknownWorker("web-1"))
    assert {type(one) for one in bad} == {BadOp}
    assert isinstance(text, BadSetting)
    assert (with_reason.reason, with_reason.by) == ("it fails", None)
    assert other == drains[0], "the first one stays"
    assert [one.op for one in (*short.pauses, *rest.pauses)] == ["fail", "sms"]
    owners = [one.owner for one in (*first.workers, *more.workers)]
    assert owners == [one.owner for one in workers_here.workers]


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_what_is_asked_again_is_done_once(sqlite_url: str, kind: Kind) -> None:
    """The reply of each first try is lost: there is no error, and nothing is done twice."""
    async with Shop.open(sqlite_url) as shop:
        ops = shop.manager.store.ops
        await ops.tell(OWNER, ["double"], 60)

        async def ask(verb: str, *arguments: Any) -> Any:
            cutter = Cutter(shop.server.port, (1,))
            async with cutter.open() as url:
                told = await ended_by(kind, url, verb, *arguments)
            assert cutter.connections == 2
            return told

        paused = await ask("pause", "mail")
        (kept,) = (await shop.manager.list_paused()).pauses
        drained = await ask("workers.drain", OWNER)
        drain = await ops.find_drain(OWNER)
        undrained = await ask("workers.undrain", OWNER)
        resumed = await ask("resume", "mail")
        left = (await shop.manager.list_paused()).pauses, await ops.find_drain(OWNER)

    assert paused == kept
    assert drained == drain
    assert undrained is None
    assert resumed is None, "the lost reply had it"
    assert left == ((), None)


async def test_a_resume_says_what_it_ended_whatever_was_lost(tapescope: Tapescope) -> None:
    """The command asks what was paused before: its second try finds no pause."""
    paused = OpBacklog("mail", paused=Pause("mail", 1, "ann", "why"))
    stats = orjson.dumps(backlog_shape(Backlog(1, 0.0, (paused,))))
    answers = [http(stats), b"", http(b'{"op": "mail", "was": null}')]
    async with canned(answers) as (url, asked):
        done = await asyncio.to_thread(tapescope.here, "resume", "mail", "--server", url)

    assert [head.split()[1] for head in asked[1:]] == [b"/v1/ops/mail/resume"] * 2
    assert b"mail is resumed; it was paused since" in done.stderr
    assert b", by ann: why" in done.stderr


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("list_paused", b'{"pauses": [{}], "next": null}'),
        ("list_paused", b'{"pauses": []}'),
        ("workers.list", b'{"workers": [{"owner": "x"}], "next": null}'),
        ("workers.list", b'{"workers": [], "next": 7}'),
    ],
)
async def test_an_answer_that_is_none_is_said(verb: str, body: bytes) -> None:
    """By an error that names the server, and not by a half of a value."""
    async with canned([http(body)]) as (url, _):
        told = await ended_by(Client, url, verb)

    assert isinstance(told, ServerNotUnderstood)
