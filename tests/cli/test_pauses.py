"""``tapescope pause``, ``resume`` and ``workers``: what a person stops, and how it is told."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tapescope import NewTask, TaskStore, find_store
from tapescope.cli._settings import name_caller
from tapescope.model.ops import KnownOp
from tapescope.store.validation import new_task_id
from tapescope.testing import until
from tests.cli.command import Tapescope
from tests.cli.program import Program

LONG = "a" * 64
OWNERS = ("web-1:12345:5-1.2-ab:cc", "web-1:123:5-1.2-ab:bb", "web-1:12:5-1.2-ab:aa")
"""As they are sorted."""


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` changes, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


async def create(store: TaskStore, op: str, *, only_by: str | None = None) -> str:
    """A task that is due."""
    task, _ = await store.create(NewTask(new_task_id(), op, only_by=only_by))
    return task.task_id


async def test_an_op_is_paused_and_resumed(store: TaskStore, tapescope: Tapescope) -> None:
    """Who paused it is kept; a second pause and a second resume change nothing, and say so."""
    await store.ops.register([KnownOp("mail")])
    await create(store, "mail")
    await store.claim_due("worker", ["mail"], 1, 30)
    first = tapescope.here("pause", "mail", "--reason", "the relay is down").stderr.decode()
    again = tapescope.here("pause", "mail", "--reason", "other").stderr.decode()
    shape = tapescope.json("pause", "mail")
    (kept,) = (await store.ops.list_paused()).pauses
    ended = tapescope.here("resume", "mail").stderr.decode()
    nothing = tapescope.here("resume", "mail").stderr.decode()

    assert "mail is paused: 'tapescope resume mail' ends that" in first
    assert "1 of its tasks ran just now: they go on" in first
    assert "has registered" not in first
    assert "mail is paused already, since" in again
    assert f"by {name_caller()}: the relay is down" in again
    assert (shape["op"], shape["already"], shape["reason"]) == ("mail", True, "the relay is down")
    assert (kept.by, kept.reason) == (name_caller(), "the relay is down")
    assert f"mail is resumed; it was paused since {kept.at:%Y}" in ended
    assert "the relay is down" in ended
    assert nothing.endswith("mail was not paused\n")
    assert (await store.ops.list_paused()).pauses == ()


async def test_an_op_that_nobody_knows_is_paused_with_a_word_on_it(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """It may be registered later; its name may be wrong."""
    said = tapescope.here("pause", "mial").stderr.decode()
    submitted = tapescope.here("submit", "mial").stderr.decode()
    resumed = tapescope.json("resume", "mial")

    assert "no worker of this store has registered 'mial'" in said
    assert "mial is paused: 'tapescope resume mial' ends that" in submitted
    assert resumed["was"]["op"] == "mial"
    assert tapescope.json("resume", "mial")["was"] is None


async def test_what_waits_for_a_resume_says_so(store: TaskStore, tapescope: Tapescope) -> None:
    """In the numbers, in the list and in the task; a task of one process is not waiting for it."""
    waiting = await create(store, LONG)
    bound = await create(store, LONG, only_by="me")
    await create(store, "other")
    await store.ops.pause(LONG, reason="why " * 20, by="ann")
    stats, listed = tapescope.screen("stats"), tapescope.screen("list")
    shown = tapescope.screen("show", waiting).text
    shapes = [tapescope.json("show", one)["paused"] for one in (waiting, bound)]
    by_op = {one["op"]: one["paused"] for one in tapescope.json("stats")["ops"]}
    piped = tapescope.here("stats").stdout.decode().splitlines()

    assert max(map(len, stats.lines)) <= 80, stats.text
    assert "why why" in stats.text
    assert "No worker claims their tasks. 'tapescope resume OP' ends that." in stats.text
    assert f"paused: {LONG}. Its tasks wait for" in listed.text
    assert "paused: other" not in listed.text
    assert f", by ann: {'why ' * 20}" in " ".join(shown.split("\n"))
    assert shapes[0]["by"] == by_op[LONG]["by"] == "ann"
    assert (shapes[1], by_op["other"]) == (None, None)
    assert "ann" in next(line for line in piped if line.startswith(LONG))


async def test_who_works_is_listed(store: TaskStore, tapescope: Tapescope) -> None:
    """On 80 columns by host and process; whole elsewhere; with who is silent and who drains."""
    for owner in OWNERS:
        await store.ops.tell(owner, ["mail", LONG], 60)
    await store.ops.tell("silent", ["mail"], 0.000001)
    await create(store, "mail")
    await store.claim_due("web-2:7:1:run", ["mail"], 1, 30)
    await store.ops.drain(OWNERS[1], reason="it leaks", by="ann")
    screen = tapescope.screen("workers")
    first = tapescope.json("workers", "--limit", "2")
    rest = tapescope.json("workers", "--after", first["next"])
    piped = tapescope.here("workers").stdout.decode().splitlines()
    states = {line.split()[0]: line for line in screen.lines}

    assert max(map(len, screen.lines)) <= 80, screen.text
    assert screen.lines[0].split() == ["worker", "state", "running", "since", "heard", "ops"]
    assert states["silent"].split()[1] == "silent"
    assert states["web-1:12"].split()[1:3] == ["works", "0"]
    assert states["web-2:7"].split()[1:4] == ["no", "worker", "1"]
    assert "web-1:123 drains since" in screen.text
    assert ", by ann: it leaks" in screen.text
    assert "silent: not heard for 90 s" in screen.text
    assert [one["owner"] for one in first["workers"] + rest["workers"]] == [
        *("silent", *OWNERS, "web-2:7:1:run")
    ]
    assert (rest["workers"][0]["host"], rest["workers"][0]["pid"]) == ("web-1", 123)
    assert rest["workers"][0]["drain"]["by"] == "ann"
    assert any(line.startswith(OWNERS[0]) for line in piped)


def test_nobody_works(tapescope: Tapescope) -> None:
    """Then it says how to have somebody work."""
    tapescope.here("migrate")

    assert "Nobody works on it." in tapescope.screen("workers").text


async def test_a_worker_is_drained_by_its_host_and_process(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """A whole process is meant before a beginning of several; a beginning of one is enough."""
    for owner in OWNERS:
        await store.ops.tell(owner, ["mail"], 60)
    said = [
        tapescope.here("workers", "drain", name, "--reason", "it leaks").stderr.decode()
        for name in ("web-1:12", "web-1:1234", "web-1:12")
    ]
    drained = [(await store.ops.find_drain(owner)) is not None for owner in OWNERS]
    back = [tapescope.here("workers", "undrain", OWNERS[2]).stderr.decode() for _ in range(2)]
    several = tapescope.here("workers", "drain", "web-")
    nobody = tapescope.here("workers", "drain", "web-3")

    assert "web-1:12 claims no more: 'tapescope workers undrain' ends that" in said[0]
    assert "web-1:12345 claims no more" in said[1]
    assert "web-1:12 drains already, since" in said[2]
    assert f"by {name_caller()}: it leaks" in said[2]
    assert drained == [True, False, True]
    assert "web-1:12 claims again" in back[0]
    assert "web-1:12 did not drain" in back[1]
    assert (several.returncode, nobody.returncode) == (2, 1)
    assert b"3 workers begin so: web-1:12345:5" in several.stderr
    assert b"The store knows no worker 'web-3'" in nobody.stderr
    assert await store.ops.find_drain(OWNERS[2]) is None


async def test_what_others_wrote_cannot_steer_a_terminal(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """The control characters of a reason, a name and an owner are escaped."""
    evil = "\x1b[31m\x07\u202e"
    await store.ops.pause("mail", reason=evil, by=evil)
    await store.ops.tell(evil, ["mail"], 60)
    await store.ops.drain(evil, reason=evil, by=evil)
    await create(store, "mail")
    shown = [
        tapescope.screen("stats").text,
        tapescope.screen("workers").text,
        tapescope.here("workers").stdout.decode(),
        tapescope.here("workers", "--json").stdout.decode(),
        tapescope.here("show", tapescope.newest()).stdout.decode(),
        tapescope.here("pause", "mail").stderr.decode(),
        tapescope.here("resume", "mail").stderr.decode(),
    ]

    for text in shown:
        assert [char for char in ("\x1b", "\x07", "\u202e") if char in text] == []
    assert json.loads(shown[3])["workers"][0]["owner"] == evil


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("pause", "x y"), "not a valid op name"),
        (("resume", "x y"), "not a valid op name"),
        (("pause", "x", "--reason", "y" * 1_025), "reason is"),
        (("workers", "--limit", "0"), "limit"),
        (("workers", "drain"), "OWNER"),
    ],
)
async def test_a_mistake_is_one_line(
    store: TaskStore, tapescope: Tapescope, arguments: tuple[str, ...], named: str
) -> None:
    """It says what is wrong, the status says that it was, and nothing is kept."""
    done = tapescope.here(*arguments)
    (line,) = done.stderr.decode().splitlines()

    assert done.returncode in (1, 2)
    assert named in line
    assert (await store.ops.list_paused()).pauses == ()


@pytest.mark.slow
async def test_a_worker_process_obeys(tapescope_on: Tapescope, tmp_path: Path) -> None:
    """Paused, resumed, drained and let again, by commands beside it, it ends well at its signal."""
    program = Program(tapescope_on, tmp_path)
    submit = ("submit", "double", "--params", '{"n": 21}')
    async with find_store(tapescope_on.env["TAPESCOPE_STORE"]) as store:
        with program.worker() as worker:
            assert program.tapescope(*submit, "--wait").stdout.split()[1:] == [b"42"]
            program.tapescope("pause", "double")
            ids = [program.tapescope(*submit).stdout.decode().strip()]
            paused = await store.claim_due("late", ["double"], 9, 30)
            program.tapescope("resume", "double")
            await until(lambda: is_over(store, ids[0]))
            (shape,) = program.tapescope.json("workers")["workers"]
            named = f"{shape['host']}:{shape['pid']}"
            program.tapescope("workers", "drain", named)
            ids.append(program.tapescope(*submit).stdout.decode().strip())
            drained = await store.get(ids[1])
            program.tapescope("workers", "undrain", named)
            await until(lambda: is_over(store, ids[1]))
            worker.send_signal(signal.SIGTERM)
            worker.communicate(timeout=30)

    assert paused == []
    assert shape["pid"] == worker.pid
    assert drained.attempt == 0
    assert worker.returncode == 0


async def is_over(store: TaskStore, task_id: str) -> bool:
    """The task has ended."""
    return (await store.get(task_id)).status.terminal
