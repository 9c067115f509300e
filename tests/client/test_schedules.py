"""``client.schedules``: what the manager's verbs say, and once, whatever a network loses."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from tapescope import (
    BadParams,
    BadSetting,
    OpNotRegistered,
    ScheduleTaken,
    ServerNotUnderstood,
    Submission,
    UnknownSchedule,
)
from tapescope.client import Client, SyncClient
from tapescope.client.client import ClientSchedules
from tapescope.client.sync_client import SyncClientSchedules
from tapescope.manager.schedules import ManagerSchedules
from tests.cli.command import slow
from tests.client.servers import Cutter, Shop, canned, ended_by, http

Kind = type[Client] | type[SyncClient]


@pytest.mark.parametrize("other", [ClientSchedules, SyncClientSchedules])
def test_every_verb_of_the_managers_is_there(other: type) -> None:
    """With the arguments of the manager's own."""
    verbs = [name for name in dir(ManagerSchedules) if not name.startswith("_")]

    assert verbs == [name for name in dir(other) if not name.startswith("_")]
    for name in verbs:
        theirs = inspect.signature(getattr(ManagerSchedules, name)).parameters
        ours = inspect.signature(getattr(other, name)).parameters
        assert list(ours) == list(theirs)
        assert [one.default for one in ours.values()] == [one.default for one in theirs.values()]


@pytest.mark.parametrize("kind", [slow(Client), SyncClient])
async def test_a_client_says_what_the_manager_says(sqlite_url: str, kind: Kind) -> None:
    """Rows, pages and errors are those of ``manager.schedules``, by either client."""
    async with Shop.open(sqlite_url) as shop:
        schedules = shop.manager.schedules

        async def ask(verb: str, *arguments: Any) -> Any:
            return await ended_by(kind, shop.url, f"schedules.{verb}", *arguments)

        what = Submission(
            "double",
            params={"n": 4},
            timeout=9,
            retries=2,
            priority=-3,
            queue="bulk",
            expires_in=1.5,
        )
        async with Client(shop.url) as client:
            added = await client.schedules.add(
                "nightly", what, cron="0 3 * * *", time_zone="Europe/Berlin", overlap="skip"
            )
            with pytest.raises(ScheduleTaken) as taken:
                await client.schedules.add(
                    "nightly", what, cron="0 3 * * *", time_zone="Europe/Berlin", overlap="skip"
                )
            same = await client.schedules.ensure(
                "nightly", what, cron="0 3 * * *", time_zone="Europe/Berlin", overlap="skip"
            )
            with pytest.raises(BadSetting) as bad:
                await client.schedules.add("x", "double", every=0.5, params={"n": 1})
            with pytest.raises(BadSetting) as both:
                await client.schedules.add("x", what, every=60, params={"n": 1})
            await client.schedules.ensure("zz", "double", every=60, params={"n": 1})
            short = await client.schedules.list(limit=1)
            rest = await client.schedules.list(after=short.next)
            await client.schedules.remove("zz")
            with pytest.raises(OpNotRegistered):
                await client.schedules.add("x", "nobodys", every=60)
            with pytest.raises(BadParams):
                await client.schedules.add("x", "double", every=60, params={"m": 1})
        with pytest.raises(BadSetting) as bad_here:
            await schedules.add("x", "double", every=0.5, params={"n": 1})
        with pytest.raises(BadSetting) as both_here:
            await schedules.add("x", what, every=60, params={"n": 1})
        await schedules.add("a", "double", every=86_400, params={"n": 1})
        got, page = await ask("get", "nightly"), await ask("list")
        first = page.schedules[0]
        paused = await ask("pause", "nightly")
        kept = await schedules.get("nightly")
        resumed = await ask("resume", "nightly")
        task = await ask("trigger", "nightly")
        result = await shop.manager.handle(task.task_id).result()
        removed = await ask("remove", "nightly")
        errors = [
            await ask(verb, "nightly") for verb in ("get", "pause", "resume", "trigger", "remove")
        ]
        odd = await ask("get", "a/b")
        whole = await schedules.list()

    assert added == got == same[0]
    assert same[1] is False
    assert (added.op, added.params, added.timeout, added.retries) == ("double", {"n": 4}, 9, 2)
    assert str(taken.value) == str(ScheduleTaken("nightly"))
    assert (str(bad.value), str(both.value)) == (str(bad_here.value), str(both_here.value))
    assert [one.name for one in page.schedules] == ["a", "nightly"]
    assert first == whole.schedules[0]
    assert [one.name for one in (*short.schedules, *rest.schedules)] == ["nightly", "zz"]
    assert (short.next, rest.next) == ("nightly", None)
    assert paused == kept
    assert (paused.paused, resumed.paused, task.created, result) == (True, False, True, 8)
    assert removed is None
    assert {type(one) for one in (*errors, odd)} == {UnknownSchedule}
    assert {str(one) for one in errors} == {str(UnknownSchedule("nightly"))}


@pytest.mark.parametrize("kind", [Client, slow(SyncClient)])
async def test_what_is_asked_again_is_done_once(sqlite_url: str, kind: Kind) -> None:
    """The reply of each first try is lost: there is no error, and one task."""
    async with Shop.open(sqlite_url) as shop:

        async def ask(verb: str, *arguments: Any) -> Any:
            cutter = Cutter(shop.server.port, (1,))
            async with cutter.open() as url:
                told = await ended_by(kind, url, f"schedules.{verb}", *arguments)
            assert cutter.connections == 2
            return told

        schedules = shop.manager.schedules
        added = await _add(kind, shop)
        paused = await ask("pause", "nightly")
        resumed = await ask("resume", "nightly")
        task = await ask("trigger", "nightly")
        tasks = (await shop.manager.store.list(op="double")).tasks
        removed = await ask("remove", "nightly")
        unknown = await ask("remove", "absent")
        left = await schedules.list()

    assert (added.name, paused.paused, resumed.paused) == ("nightly", True, False)
    assert (added.revision, paused.revision, resumed.revision) == (1, 2, 3)
    assert task.created is True
    assert [one.task_id for one in tasks] == [task.task_id]
    assert removed is None
    assert unknown is None, "a first try may have removed it"
    assert left.schedules == ()


async def _add(kind: Kind, shop: Shop) -> Any:
    async with Cutter(shop.server.port, (1,)).open() as url:
        if kind is Client:
            async with Client(url) as client:
                return await client.schedules.add("nightly", "double", every=60, params={"n": 1})

        def add() -> Any:
            with SyncClient(url) as client:
                return client.schedules.add("nightly", "double", every=60, params={"n": 1})

        return await asyncio.to_thread(add)


@pytest.mark.parametrize("answer", [b'{"name": "x"}', b'{"schedules": [{}], "next": null}', b"{}"])
async def test_an_answer_that_is_no_schedule_is_said(answer: bytes) -> None:
    """By an error that names the server, and not by a half of a value."""
    async with canned([http(answer)]) as (url, _):
        told = [
            await ended_by(Client, url, f"schedules.{verb}", *arguments)
            for verb, *arguments in (("get", "x"), ("list",), ("trigger", "x"))
        ]

    assert {type(one) for one in told} == {ServerNotUnderstood}
