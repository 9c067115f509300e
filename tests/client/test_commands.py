"""``--server``: what a command prints through a server is what it prints on the store."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tapescope import NewTask, TaskStatus
from tapescope.http.access import Grant
from tapescope.http.tokens import TokenFile
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope, slow
from tests.cli.tasks import claim, dead_owner
from tests.client.servers import Shop
from tests.support.breaches import make_ended

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(params=["sqlite", slow("postgresql")])
def shop_url(request: pytest.FixtureRequest) -> str:
    """The URL of a fresh store: of a file every day, of PostgreSQL with what is slow."""
    fixture = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(fixture)
    return url


@dataclass(frozen=True)
class Both:
    """One command line on a store, and through a server of it."""

    shop: Shop
    tapescope: Tapescope

    async def run(self, *arguments: str) -> list[subprocess.CompletedProcess[bytes]]:
        """On the store, then through the server."""
        server = ("--server", self.shop.url)
        return [
            await asyncio.to_thread(self.tapescope.here, *arguments, *more) for more in ((), server)
        ]

    def same(self, done: Sequence[subprocess.CompletedProcess[bytes]]) -> list[tuple[object, ...]]:
        """What each of them printed, without what tells one from the other, and the time."""
        return [self._strip(one) for one in done]

    def _strip(self, done: subprocess.CompletedProcess[bytes]) -> tuple[object, ...]:
        texts = [part.decode() for part in (done.stdout, done.stderr)]
        for name in (self.shop.manager.store.name, self.shop.url):
            texts = [text.replace(name, "HERE") for text in texts]
        for ages in (
            r'"(made_at|age|oldest_running)":[^,}]+',
            r"\([^()]*(ago|now|in )[^()]*\)",
            r"\d+\.\d+s?|\d+m\d\ds",
        ):
            texts = [re.sub(ages, "AGE", text) for text in texts]
        texts = [re.sub("  +", "  ", text) for text in texts]  # an age may be as wide as it likes
        return done.returncode, *texts


@asynccontextmanager
async def both(url: str, home: Path) -> AsyncGenerator[Both]:
    """A shop with tasks of every kind."""
    async with Shop.open(url) as shop:
        yield Both(shop, Tapescope(url, home))


@pytest.mark.parametrize("every", [False, slow(True)])
async def test_what_is_read_is_the_same(shop_url: str, tmp_path: Path, every: bool) -> None:
    """Lists, tasks, tapes, late events, numbers, traces and audits: text, JSON and exit status.

    A few of them in each form every day, all of them with what is slow.
    """
    async with both(shop_url, tmp_path) as pair:
        manager = pair.shop.manager
        ended = await manager.submit("double", params={"n": 21}, idempotency_key="k")
        failed = await manager.submit("fail")
        running = await manager.submit("count")
        later = await manager.submit("double", params={"n": 1}, delay=3_600)
        await pair.shop.begun.wait()
        for task in (ended, failed):
            await asyncio.wait((asyncio.ensure_future(task.result()),))
        await later.cancel("enough", by="ann")
        late = (await make_ended(manager.store))[0].task_id
        attempt = (await manager.store.get(running.task_id)).attempt
        ids = [one.task_id for one in (ended, failed, running, later)]
        asked = [
            ("list",),
            ("list", "--failed"),
            ("list", "--op", "double", "--limit", "1"),
            ("list", "--before", ids[1]),
            ("list", "--key", "k", "--since", "1h"),
            ("list", "--wide"),
            ("list", "--limit", "0"),
            ("list", "--owner", "nobody"),
            *(("show", task_id) for task_id in (*ids, late)),
            ("show", ids[0][:-1]),
            ("show", f"{ids[0][:13]}-{ids[0][-6:]}"),
            ("show", "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"),
            ("show", "zz"),
            *(("tape", task_id) for task_id in (*ids, late)),
            *(("tape", "--follow", task_id) for task_id in (ids[0], ids[1], ids[3])),
            ("drops",),
            ("drops", late),
            ("drops", late, "--limit", "2"),
            ("drops", "--since", "1h", "--after", "1"),
            ("drops", ids[0]),
            ("drops", "0192f0c1-2b7a-7c3e-9a51-0c4f1e2d3b4a"),
            ("stats",),
            ("trace", TRACE),
            ("trace", "none"),
            ("audit",),
            ("audit", "--grace", "5"),
        ]
        told = {
            (*one, *form): pair.same(await pair.run(*one, *form))
            for number, one in enumerate(asked)
            for form in ((), ("--json",))
            if every or (number % 4 == 0 and bool(form) == bool(number % 8))
        }
        pair.shop.go_on.set()

    assert attempt == 1
    assert {key: there for key, (_, there) in told.items()} == {
        key: here for key, (here, _) in told.items()
    }
    assert all(there[1] or there[2] for _, there in told.values())
    if every:
        assert {one[0] for key, (one, _) in told.items() if key[0] == "drops"} == {0, 1}
        assert late in str(told["drops", late, "--json"][1][1])
        assert "42" in str(told["tape", ids[0]][1][1])


@pytest.mark.slow
async def test_schedules_are_the_same(sqlite_url: str, tmp_path: Path) -> None:
    """Added, listed, paused, triggered and removed: text, JSON, errors and exit status."""
    async with both(sqlite_url, tmp_path) as pair:
        schedules = pair.shop.manager.schedules
        times = ("--cron", "0 3 * * *", "--params", '{"n": 2}')
        done: list[Sequence[subprocess.CompletedProcess[bytes]]] = []

        async def run_and_undo(*arguments: str, undo: bool = False) -> None:
            """On the store, then through the server; what the first one added is taken away."""
            here = await asyncio.to_thread(pair.tapescope.here, *arguments)
            if undo:
                await schedules.remove(arguments[2])
            server = ("--server", pair.shop.url)
            done.append((here, await asyncio.to_thread(pair.tapescope.here, *arguments, *server)))

        await run_and_undo("schedule", "add", "nightly", "double", *times, undo=True)
        await run_and_undo("schedule", "add", "nightly", "double", *times)
        often = ("often", "double", "--every", "1h", *times[2:])
        await run_and_undo("schedule", "add", *often, undo=True)
        await run_and_undo("schedule", "add", "bad", "double", "--cron", "0 3 * *")
        await run_and_undo("schedule", "list")
        await run_and_undo("schedule", "list", "--limit", "1", "--json")
        await run_and_undo("schedule", "list", "--after", "nightly")
        await run_and_undo("schedule", "pause", "nightly")
        await run_and_undo("schedule", "pause", "nightly", "--json")
        await run_and_undo("schedule", "resume", "nightly")
        await run_and_undo("schedule", "trigger", "nightly", "--wait", "--json")
        await run_and_undo("schedule", "trigger", "absent")
        await run_and_undo("schedule", "remove", "absent")
        removed = await asyncio.to_thread(
            pair.tapescope.here, "schedule", "remove", "nightly", "--server", pair.shop.url
        )
        left = await schedules.list()

    for here, there in map(_without_ids, map(pair.same, done)):
        assert here == there
    assert [here.returncode for here, _ in done] == [0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1]
    assert b"nightly" in done[4][1].stdout
    assert b'"result":4' in done[10][1].stdout
    assert removed.returncode == 0
    assert [one.name for one in left.schedules] == ["often"]


@pytest.mark.slow
async def test_stops_are_the_same(sqlite_url: str, tmp_path: Path) -> None:
    """Pauses, resumes, workers and drains: text, JSON, errors and exit status."""
    owners = ("web-1:12345:5-1.2-ab:cc", "web-1:12:5-1.2-ab:aa")
    async with both(sqlite_url, tmp_path) as pair:
        manager = pair.shop.manager
        ops = manager.store.ops
        for owner in owners:
            await ops.tell(owner, ["double"], 60)
        await manager.pause("fail", reason="why", by="ann")
        await ops.drain(owners[0], reason="it leaks", by="ann")
        same = [
            await pair.run(*one)
            for one in (
                ("pause", "fail"),
                ("pause", "fail", "--json"),
                ("pause", "no op"),
                ("resume", "double"),
                ("resume", "double", "--json"),
                ("workers", "--limit", "1", "--json"),
                ("workers", "--wide"),
                ("workers", "drain", "web-1:12345"),
                ("workers", "drain", "web-1"),
                ("workers", "drain", "nobody"),
                ("workers", "undrain", "web-1:12"),
                ("workers", "--limit", "0"),
            )
        ]
        here, there = [
            [
                await asyncio.to_thread(pair.tapescope.here, *one, *more)
                for one in (
                    ("pause", "count", "--reason", "the relay"),
                    ("resume", "count"),
                    ("workers", "drain", "web-1:12", "--reason", "it leaks"),
                    ("workers", "undrain", "web-1:12"),
                )
            ]
            for more in ((), ("--server", pair.shop.url))
        ]
        behind = await asyncio.to_thread(
            pair.tapescope.here, "workers", "--server", pair.shop.url, "drain", "web-1:12"
        )
        left = await ops.find_drain(owners[1])
        pauses = [one.op for one in (await manager.list_paused()).pauses]

    for one in same:
        assert pair.same(one)[0] == pair.same(one)[1]
    assert [one.returncode for one, _ in same] == [0, 0, 1, 0, 0, 0, 0, 0, 2, 1, 0, 1]
    for pair_of in zip(here, there, strict=True):
        assert [done.returncode for done in pair_of] == [0, 0]
        said = [re.sub(r", by [^:]+(?=: )", "", done.stderr.decode()) for done in pair_of]
        said = [re.sub(r"\d{4}-\S+ \S+", "TIME", one) for one in said]
        assert said[0] == said[1]
    assert behind.returncode == 0
    assert left is not None
    assert left.by is None
    assert pauses == ["fail"]


def _without_ids(done: Sequence[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [
        tuple(re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", str(part)) for part in one) for one in done
    ]


@pytest.mark.slow
async def test_what_is_done_is_the_same(shop_url: str, tmp_path: Path) -> None:
    """A submit, its result, a retry, a cancel: as it was done once, it is done the other way."""
    async with both(shop_url, tmp_path) as pair:
        manager = pair.shop.manager
        submit = ("submit", "double", "--params", '{"n": 4}', "--wait")
        submits = [await pair.run(*submit, *form) for form in ((), ("--json",))]
        fails = await pair.run("submit", "fail", "--wait")
        keyed = await pair.run("submit", "double", "--params", '{"n": 5}', "--key", "once")
        other = await pair.run("submit", "double", "--params", '{"n": 6}', "--key", "once")
        bad = await pair.run("submit", "Not an op")
        ended = (await manager.store.list(op="fail", limit=1)).tasks[0].task_id
        retries = await pair.run("retry", ended, "--wait")
        runs = [await manager.submit("count") for _ in range(2)]
        not_ended = await pair.run("retry", runs[0].task_id)
        cancels = [
            await asyncio.to_thread(
                pair.tapescope.here, "cancel", task.task_id, "--message", "enough", *more
            )
            for task, more in zip(runs, ((), ("--server", pair.shop.url)), strict=True)
        ]
        rows = [await manager.store.get(task.task_id) for task in runs]
        many = await pair.run("retry", "--status", "succeeded", "--key", "once", "--yes")
        none = await pair.run("cancel", "--op", "count", "--yes")

    for done in (*submits, fails, other, bad, not_ended, cancels, none, many):
        here, there = _without_ids(pair.same(done))
        assert here == there
    assert pair.same(keyed)[0] == pair.same(keyed)[1]  # the key led to the task
    assert len(set(_without_ids(pair.same(retries)))) == 1
    assert [one.returncode for one in (*submits[0], *fails, *retries, *other)] == [0, 0] + [1] * 6
    assert [row.cancel.message for row in rows if row.cancel] == ["enough", "enough"]


async def test_a_lost_task_is_told_and_ended(sqlite_url: str, tmp_path: Path) -> None:
    """The server says that the owner is gone, and a cancel takes the task from it at once."""
    async with both(sqlite_url, tmp_path) as pair:
        store = pair.shop.manager.store
        first = (await claim(store, owner=dead_owner())).task_id
        told = [pair.same(await pair.run(*one)) for one in (("list",), ("show", first, "--json"))]
        here = await asyncio.to_thread(pair.tapescope.here, "cancel", first)
        second = (
            await claim(store, owner=dead_owner())
        ).task_id  # a rescue takes all that are lost
        far = await asyncio.to_thread(
            pair.tapescope.here, "cancel", second, "--server", pair.shop.url
        )
        rows = [await store.get(task_id) for task_id in (first, second)]

    for shown in told:
        assert shown[0] == shown[1]
    assert '"lost":"the process that ran it has ended"' in str(told[1][0])
    for done in (here, far):
        assert b"was lost (the process that ran it has ended) and is cancelled" in done.stdout
    assert {row.status for row in rows} == {TaskStatus.CANCELLED}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("prune", "--server", "http://x"), b"works on a store itself"),
        (("--server", "http://x", "migrate"), b"works on a store itself"),
        (("worker", "--server", "http://x", "--app", "a:b"), b"works on a store itself"),
        (("audit", "--repair", "--server", "http://127.0.0.1:1"), b"works on a store itself"),
        (("list", "--server", "http://x", "--store", "sqlite:///x"), b"not both"),
        (("--server", "http://x", "list", "--store", "sqlite:///x"), b"not both"),
    ],
)
def test_what_works_on_a_store_alone_says_so(
    tapescope: Tapescope, arguments: Sequence[str], says: bytes
) -> None:
    """A usage error, wherever the option stands."""
    done = tapescope.here(*arguments)

    assert done.returncode == 2
    assert says in done.stderr


async def test_a_narrow_token_sees_a_tree_as_far_as_it_may(sqlite_url: str, tmp_path: Path) -> None:
    """Of the children those of its op or tag, and no pause of an op where it is for a tag."""
    tokens = TokenFile(tmp_path / "tokens.json")
    made = {
        scope: tokens.add(f"n{n}", [Grant.parse(scope)], 0)
        for n, scope in enumerate(("read:double", "read:tag=red", "read"))
    }
    async with Shop.open(sqlite_url, tokens) as shop:
        store = shop.manager.store
        await store.ops.pause("double", by="ann")
        top, _ = await store.create(NewTask(new_task_id(), "double", tags=("red",)))
        for op, tags in (("double", ()), ("fail", ("red",)), ("fail", ())):
            await store.create(NewTask(new_task_id(), op, tags=tags, parent_id=top.task_id))
        tapescope = Tapescope(sqlite_url, tmp_path)
        tapescope.env["TAPESCOPE_SERVER"] = shop.url
        shown: dict[str, Any] = {}
        for scope, token in made.items():
            tapescope.env["TAPESCOPE_TOKEN"] = token
            shown[scope] = await asyncio.to_thread(tapescope.json, "show", top.task_id, "--tree")

    children = {
        scope: [(one["op"], one["children"]) for one in shape["children"]]
        for scope, shape in shown.items()
    }
    assert children == {
        "read:double": [("double", [])],
        "read:tag=red": [("fail", [])],
        "read": [("double", []), ("fail", []), ("fail", [])],
    }
    assert [shape["paused"] is None for shape in shown.values()] == [False, True, False]


async def test_the_variables_name_server_and_token(sqlite_url: str, tmp_path: Path) -> None:
    """The token is sent and never shown; one that is wrong or too narrow says what to do."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("ann", [Grant.parse("read")], 0)
    tapescope = Tapescope(sqlite_url, tmp_path)
    async with Shop.open(sqlite_url, tokens) as shop:
        await shop.manager.submit("double", params={"n": 1})
        tapescope.env |= {"TAPESCOPE_SERVER": shop.url, "TAPESCOPE_TOKEN": token}
        listed = await asyncio.to_thread(tapescope.json, "list")
        own = await asyncio.to_thread(tapescope.json, "list", "--store", sqlite_url)
        narrow = await asyncio.to_thread(tapescope.here, "submit", "double")
        tapescope.env["TAPESCOPE_TOKEN"] = "wrong-token"
        wrong = await asyncio.to_thread(tapescope.here, "list")
        tapescope.env["TAPESCOPE_TOKEN"] = "not a token\nat all"
        bad = await asyncio.to_thread(tapescope.here, "list")

    assert listed["store"] == shop.url
    assert own["store"] == shop.manager.store.name
    assert (narrow.returncode, wrong.returncode, bad.returncode) == (2, 2, 1)
    assert b"'tapescope token add --scope' makes one" in narrow.stderr
    assert b"TAPESCOPE_TOKEN" in wrong.stderr
    said = narrow.stderr + wrong.stderr + bad.stderr
    assert not any(secret.encode() in said for secret in (token, "wrong-token", "at all"))


def test_a_server_that_is_not_there_is_said(
    tapescope: Tapescope, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to look at, and status 1."""
    monkeypatch.setattr("tapescope.cli._source._PATIENCE", 0.1)
    done = tapescope.here("list", "--server", "http://127.0.0.1:1")

    assert done.returncode == 1
    assert b"The server http://127.0.0.1:1 cannot be used now: connection refused." in done.stderr
