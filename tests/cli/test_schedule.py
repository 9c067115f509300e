"""``tapescope schedule``: added, listed, paused, triggered and removed on a terminal."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from tapescope import Schedule, TaskStore, find_store, read_firing
from tapescope.model.schedules import ScheduleOrigin
from tests.cli.command import Tapescope

NIGHTLY = ("nightly", "reports.build", "--cron", "0 3 * * *", "--time-zone", "Europe/Berlin")


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` changes, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


async def test_a_schedule_is_added_as_it_is_said(store: TaskStore, tapescope: Tapescope) -> None:
    """Every option is in its row; without one it is as a program would have it."""
    options = (
        "--params",
        '{"a": 1}',
        "--retries",
        "2",
        "--timeout",
        "1.5",
        "--priority",
        "-3",
        "--queue",
        "bulk",
        "--expires-in",
        "2.5",
    )
    policies = ("--catch-up", "ALL", "--overlap", "skip")
    shape = tapescope.json("schedule", "add", *NIGHTLY, *options, *policies)
    said = tapescope.here("schedule", "add", "often", "tick", "--every", "15m").stderr.decode()
    nightly, often = (await store.schedules.list()).schedules

    assert (nightly.cron, nightly.time_zone) == ("0 3 * * *", "Europe/Berlin")
    assert (nightly.params, nightly.retries, nightly.timeout) == ({"a": 1}, 2, 1.5)
    assert (nightly.priority, often.priority) == (-3, None)
    assert (nightly.queue, often.queue) == ("bulk", None)
    assert (nightly.expires_in, often.expires_in) == (2.5, None)
    assert (nightly.catch_up, nightly.overlap) == ("all", "skip")
    assert (often.every, often.catch_up, often.overlap) == (900, "one", "allow")
    assert (shape["name"], shape["paused"]) == ("nightly", False)
    assert shape["next_at"][11:] in ("01:00:00.000000Z", "02:00:00.000000Z")  # 3 in Berlin
    assert "no worker of this store has registered 'tick' yet" in said
    assert "the schedule often is added; its next time is" in said


async def test_schedules_are_listed_in_pages(store: TaskStore, tapescope: Tapescope) -> None:
    """On 80 columns with when they fire next; whole elsewhere; no more than was asked for."""
    first = Schedule("a" * 60, "reports.build", cron="0 3 * * *", next_us=4_000_000_000_000_000)
    for row in (first, Schedule("b", "x", every=90, paused=True), Schedule("c", "x", every=1.5)):
        await store.schedules.add_if_absent(row)
    screen = tapescope.screen("schedule", "list", "--limit", "2")
    rest = tapescope.json("schedule", "list", "--after", "b")
    piped = tapescope.here("schedule", "list").stdout.decode().splitlines()

    assert max(map(len, screen.lines)) <= 80
    assert screen.lines[0].split() == ["schedule", "op", "times", "next", "last"]
    assert " in " in screen.lines[1]
    assert screen.lines[2].split() == ["b", "x", "every", "90", "s", "paused"]
    assert screen.lines[3] == "More: --after b"
    assert [one["name"] for one in rest["schedules"]] == ["c"]
    assert rest["next"] is None
    assert piped[1].startswith("a" * 60)
    assert "2096-10-02T07:06:40.000000Z" in piped[1]
    assert "never" in piped[3]


async def test_a_schedule_is_paused_resumed_and_removed(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """The row says so each time; what is declared in code comes back, and that is said."""
    await store.schedules.add_if_absent(Schedule("often", "x", every=60, next_us=1))
    paused = tapescope.json("schedule", "pause", "often")
    resumed = tapescope.json("schedule", "resume", "often")
    row = await store.schedules.get("often")
    await store.schedules.change_if_same(replace(row, origin=ScheduleOrigin.CODE))
    removed = tapescope.here("schedule", "remove", "often")

    assert (paused["paused"], resumed["paused"]) == (True, False)
    assert row.next_us is not None
    assert row.next_us > row.created_us
    assert b"is removed" in removed.stderr
    assert b"comes back with the next worker" in removed.stderr
    assert await store.schedules.find("often") is None


async def test_a_task_is_triggered(store: TaskStore, tapescope: Tapescope) -> None:
    """Its id is printed, and its key says which schedule it is of."""
    row = Schedule("often", "x", {"n": 1}, every=60, paused=True)
    await store.schedules.add_if_absent(row)
    task_id = tapescope.here("schedule", "trigger", "often").stdout.decode().strip()
    task = await store.get(task_id)
    firing = read_firing(task.idempotency_key)

    assert (task.op, task.params) == ("x", {"n": 1})
    assert firing is not None
    assert (firing.schedule, firing.by_hand) == ("often", True)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("add", "x", "x"), "--cron or --every"),
        (("add", "x", "x", "--cron", "0 3 * * *", "--every", "1h"), "--cron or --every"),
        (("add", "x", "x", "--cron", "0 3 * *"), "cron is '0 3 * *'"),
        (("add", "x", "x", "--every", "soon"), "not an age"),
        (("add", "x", "x", "--every", "0s"), "every is"),
        (("add", "x y", "x", "--every", "1h"), "name is 'x y'"),
        (("add", "x", "x y", "--every", "1h"), "not a valid op name"),
        (("add", "x", "x", "--every", "1h", "--params", "[1]"), "--params must be an object"),
        (("add", "x", "x", "--cron", "0 3 * * *", "--time-zone", "Mars"), "time_zone is 'Mars'"),
        (("add", "x", "x", "--every", "1h", "--catch-up", "some"), "--catch-up"),
        (("pause", "absent"), "no schedule 'absent'"),
        (("trigger", "absent"), "no schedule 'absent'"),
        (("remove", "absent"), "no schedule 'absent'"),
        (("list", "--limit", "0"), "limit"),
    ],
)
async def test_a_mistake_is_one_line(
    store: TaskStore, tapescope: Tapescope, arguments: tuple[str, ...], named: str
) -> None:
    """It says what is wrong, the status says that it was, and nothing is kept."""
    done = tapescope.here("schedule", *arguments)
    (line,) = done.stderr.decode().splitlines()

    assert done.returncode in (1, 2)
    assert named in line
    assert (await store.schedules.list()).schedules == ()


async def test_a_name_is_not_added_twice(store: TaskStore, tapescope: Tapescope) -> None:
    """The schedule that is there stays as it is."""
    tapescope.here("schedule", "add", *NIGHTLY)
    again = tapescope.here("schedule", "add", "nightly", "other", "--every", "1h")

    assert again.returncode != 0
    assert b"There is a schedule 'nightly' already" in again.stderr
    assert (await store.schedules.get("nightly")).op == "reports.build"


async def test_a_row_that_was_written_past_tapescope_cannot_steer_a_terminal(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """Its control characters are escaped, for people and in JSON."""
    evil = "\x1b[31m\x07\u202e"
    await store.schedules.add_if_absent(
        Schedule("evil", "x", {"p": evil}, cron=f"0 3 * * *{evil}", time_zone=evil)
    )
    shown = [
        tapescope.screen("schedule", "list").text,
        tapescope.here("schedule", "list").stdout.decode(),
        tapescope.here("schedule", "list", "--json").stdout.decode(),
    ]

    for text in shown:
        assert [char for char in ("\x1b", "\x07", "\u202e") if char in text] == []
    assert json.loads(shown[2])["schedules"][0]["time_zone"] == evil
