"""A network that is half-open: nothing comes, and nothing says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tapescope import EventFateUnknown, NewEvent, NewTask, StoreUnavailable
from tapescope.model.tasks import Claim, ErrorInfo, FinalEvent
from tapescope.store.follow import follow_tape
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tapescope_adapters.postgres import PostgresStore, _connection, _listener
from tests.support.postgres_sessions import schema_of
from tests.support.tcp_proxy import TcpProxy

PATIENCE = 2.0

VERBS: dict[str, Callable[[TaskStore, Claim], Awaitable[object]]] = {
    "create": lambda store, _: store.create(NewTask(new_task_id(), "work")),
    "append": lambda store, claim: store.append(claim.attempt, [NewEvent("note", 1)]),
    "finish": lambda store, claim: store.finish_if_running(claim.attempt, FinalEvent.succeeded()),
    "retry_later": lambda store, claim: store.retry_later(claim.attempt, ErrorInfo("x"), 0),
    "request_cancel": lambda store, claim: store.request_cancel(claim.task.task_id),
    "claim_due": lambda store, _: store.claim_due("me", ["work"], 1, 30),
    "next_due": lambda store, _: store.next_due(["work"]),
    "release": lambda store, claim: store.release(claim.attempt),
    "announce": lambda store, _: store.announce(),
    "probe": lambda store, _: store.probe(),
    "get": lambda store, claim: store.get(claim.task.task_id),
    "count": lambda store, _: store.count(),
    "read_tape": lambda store, claim: store.read_tape(claim.task.task_id),
    "extend": lambda store, _: store.leases.extend("me", 30),
    "rescue_expired": lambda store, _: store.leases.rescue_expired(),
}


async def test_no_call_waits_past_its_patience(proxy: TcpProxy, postgres_url: str) -> None:
    """Every verb gives up, and says so; each has connections that were sound, and new ones."""
    waited: dict[str, float] = {}
    loop = asyncio.get_running_loop()

    async def fail(name: str, call: Awaitable[object]) -> None:
        began = loop.time()
        with pytest.raises((StoreUnavailable, EventFateUnknown)):
            await call
        waited[name] = loop.time() - began

    async with PostgresStore(proxy.url(schema_of(postgres_url)), patience=PATIENCE) as store:
        claims: list[Claim] = []
        for _ in VERBS:
            await store.create(NewTask(new_task_id(), "work", retries=1))
        claims = await store.claim_due("me", ["work"], len(VERBS), 30)
        proxy.freeze()
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(
                    fail(name, verb(store, claim))
                    for (name, verb), claim in zip(VERBS.items(), claims, strict=True)
                )
            )
            await asyncio.gather(
                *(
                    fail(f"{name} again", verb(store, claim))
                    for (name, verb), claim in zip(VERBS.items(), claims, strict=True)
                )
            )
        proxy.thaw()
        counts: Any = await until(lambda: _count(store))

    assert max(waited.values()) < 1.5 * PATIENCE, (
        waited
    )  # some were behind others, and none for long
    assert sum(counts.values()) >= len(VERBS)


async def _count(store: TaskStore) -> object:
    try:
        return await store.count()
    except StoreUnavailable:
        return None


async def test_a_follower_hears_of_it_when_the_network_is_back(
    proxy: TcpProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that was committed meanwhile is told, though the old connection never says a word."""
    monkeypatch.setattr(_listener, "_PING", 0.2)
    far = PostgresStore(proxy.url(schema_of(postgres_url)), patience=PATIENCE)
    async with PostgresStore(postgres_url) as near, far:
        task, _ = await near.create(NewTask(new_task_id(), "work"))
        events = follow_tape(far, task.task_id)
        (claim,) = await near.claim_due("me", ["work"], 1, 30)
        seen = [await anext(events)]
        await near.append(claim.attempt, [NewEvent("note", 1)])
        seen.append(await anext(events))  # it listens
        following = asyncio.ensure_future(anext(events))
        before = proxy.accepted
        proxy.freeze()
        await near.finish_if_running(claim.attempt, FinalEvent.succeeded())
        await until(lambda: proxy.accepted > before)  # it has noticed, and calls anew
        proxy.thaw()
        async with asyncio.timeout(20):
            seen.append(await following)

    assert [event.type for event in seen] == ["task_started", "note", "final"]


async def test_reads_go_on_past_connections_that_are_lost_in_silence(
    proxy: TcpProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first that says nothing is enough: no call waits its patience for each of the others."""
    monkeypatch.setattr(_connection, "_SOUND_FOR", 0.0)
    async with PostgresStore(proxy.url(schema_of(postgres_url)), patience=PATIENCE) as store:
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        many = [store.get(task.task_id) for _ in range(8)]
        await asyncio.gather(*many)
        proxy.strand()
        answers = await asyncio.gather(*(store.get(task.task_id) for _ in range(24)))

    assert answers == [task] * 24
