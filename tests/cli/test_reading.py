"""``tapescope list``, ``show``, ``tape``, ``drops`` and ``cancel``."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from tapescope import NewEvent, NewTask, Task, TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Attempt, FinalEvent
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_LEASE = 60.0


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


@pytest.fixture
async def store_on(store_url: str) -> AsyncGenerator[TaskStore]:
    """The store of each kind that ``tapescope_on`` reads, open here, too."""
    async with find_store(store_url) as store:
        yield store


async def make_task(store: TaskStore, op: str = "resize") -> Task:
    """A pending task."""
    task, _ = await store.create(NewTask(new_task_id(), op, {"folder": "photos"}))
    return task


async def make_ended(store: TaskStore, *, late: int = 0) -> Attempt:
    """A task that succeeded, and then reported ``late`` times more."""
    claim = await store.claim_if_pending(await make_task(store), "here:1:2:aa", _LEASE)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("log", {"level": "info", "message": "on it"})])
    await store.finish_if_running(claim.attempt, FinalEvent.succeeded({"resized": 3}))
    await store.append(claim.attempt, [NewEvent("progress", {"n": n}) for n in range(late)])
    return claim.attempt


async def test_list_json_has_its_shape(store_on: TaskStore, tapescope_on: Tapescope) -> None:
    """``{"tasks": […], "next": …}``, newest first; ``next`` leads on to the end."""
    ids = [(await make_task(store_on)).task_id for _ in range(3)]
    first = tapescope_on.json("list", "--limit", "2")
    second = tapescope_on.json("list", "--limit", "2", "--before", first["next"])

    assert list(first) == ["tasks", "next", "store"]
    assert first["store"] == store_on.name
    assert [task["task_id"] for task in first["tasks"] + second["tasks"]] == ids[::-1]
    assert second["next"] is None
    assert _TIME.fullmatch(first["tasks"][0]["created_at"])
    assert first["tasks"][0]["status"] == "pending"
    assert first["tasks"][0]["params"] == {"folder": "photos"}


async def test_list_filters(store: TaskStore, tapescope: Tapescope) -> None:
    """``--status`` and ``--op`` leave only what they name."""
    await make_ended(store)
    other = await make_task(store, op="scan")

    assert [t["task_id"] for t in tapescope.json("list", "--op", "scan")["tasks"]] == [
        other.task_id
    ]
    assert [t["op"] for t in tapescope.json("list", "--status", "succeeded")["tasks"]] == ["resize"]
    assert tapescope.json("list", "--status", "failed") == {
        "tasks": [],
        "next": None,
        "store": store.name,
    }


async def test_plain_list_is_for_programs_too(store: TaskStore, tapescope: Tapescope) -> None:
    """Piped, a task is a line with its whole id and no colour codes."""
    task = await make_task(store, op="o" * 64)
    header, line = tapescope("list").stdout.decode().splitlines()

    assert header.split()[:3] == ["task_id", "op", "status"]
    assert line.split()[:4] == [task.task_id, "o" * 64, "pending", "0"]
    assert "\x1b" not in line


async def test_tape_json_has_its_shape(store_on: TaskStore, tapescope_on: Tapescope) -> None:
    """``{"task_id", "events", "last_seq", "final_seq", "dropped"}`` and the events of the tape."""
    attempt = await make_ended(store_on, late=2)
    tape = tapescope_on.json("tape", attempt.task_id)

    assert list(tape) == ["task_id", "events", "last_seq", "final_seq", "dropped", "store"]
    assert (tape["task_id"], tape["last_seq"], tape["final_seq"]) == (attempt.task_id, 3, 3)
    assert tape["dropped"] == 2
    assert list(tape["events"][1]) == ["seq", "type", "ts", "attempt", "body"]
    assert [event["type"] for event in tape["events"]] == ["task_started", "log", "final"]
    assert all(_TIME.fullmatch(event["ts"]) for event in tape["events"])


async def test_tape_json_of_a_task_without_events(store: TaskStore, tapescope: Tapescope) -> None:
    """A pending task has an empty tape, which is open."""
    task = await make_task(store)

    assert tapescope.json("tape", task.task_id) == {
        "task_id": task.task_id,
        "events": [],
        "last_seq": 0,
        "final_seq": None,
        "dropped": 0,
        "store": store.name,
    }


async def test_tape_json_of_many_pages_is_whole(store: TaskStore, tapescope: Tapescope) -> None:
    """A tape longer than a page of the store is printed to its end, as one JSON object."""
    claim = await store.claim_if_pending(await make_task(store), "here:1:2:aa", _LEASE)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("step", n) for n in range(2_500)])
    tape = tapescope.json("tape", claim.task.task_id)

    assert [event["seq"] for event in tape["events"]] == list(range(1, 2_502))
    assert (tape["last_seq"], tape["final_seq"]) == (2_501, None)


async def test_plain_tape_is_a_line_an_event(store: TaskStore, tapescope: Tapescope) -> None:
    """Each event is one line: seq, time, what it is and says."""
    attempt = await make_ended(store)
    lines = tapescope("tape", attempt.task_id).stdout.decode().splitlines()

    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert lines[1].endswith("info: on it")
    assert lines[2].endswith('succeeded {"resized":3}')


async def test_plain_tape_shows_why_an_attempt_was_released(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """The line of an ``attempt_released`` ends with the message alone."""
    claim = await store.claim_if_pending(await make_task(store), "here:1:2:aa", _LEASE)
    assert claim is not None
    await store.release(claim.attempt, "the manager was closed")
    lines = tapescope("tape", claim.task.task_id).stdout.decode().splitlines()

    assert re.search(r" attempt_released {2}the manager was closed$", lines[1])


async def test_follow_prints_events_as_they_come(
    store_on: TaskStore, tapescope_on: Tapescope
) -> None:
    """``--follow --json`` is one event a line, live, and ends with the ``final``."""
    task = await make_task(store_on)
    claim = await store_on.claim_if_pending(task, "here:1:2:aa", _LEASE)
    assert claim is not None
    with tapescope_on.started("tape", "--follow", "--json", task.task_id) as process:
        assert process.stdout is not None
        seen = [json.loads(process.stdout.readline())]
        await store_on.append(claim.attempt, [NewEvent("step", {"n": 1})])
        seen.append(json.loads(process.stdout.readline()))
        await store_on.finish_if_running(claim.attempt, FinalEvent.succeeded())
        seen.append(json.loads(process.stdout.readline()))
        status = process.wait(30)
        rest = process.stdout.read()

    assert [event["seq"] for event in seen] == [1, 2, 3]
    assert [event["type"] for event in seen] == ["task_started", "step", "final"]
    assert list(seen[0]) == ["seq", "type", "ts", "attempt", "body"]
    assert (status, rest) == (0, b"")


async def test_drops_json_has_its_shape(store_on: TaskStore, tapescope_on: Tapescope) -> None:
    """``{"drops": […], "overflow": n}``, each drop with all its fields; one task's or all."""
    attempt = await make_ended(store_on, late=2)
    await make_ended(store_on, late=1)
    one = tapescope_on.json("drops", attempt.task_id)
    every = tapescope_on.json("drops")
    drop = one["drops"][0]

    assert list(one) == ["drops", "overflow", "next", "store"]
    assert list(drop) == [
        "task_id",
        "attempt",
        "type",
        "reason",
        "ts",
        "late_s",
        "trace_id",
        "body",
    ]
    assert drop["task_id"] == attempt.task_id
    assert (drop["attempt"], drop["type"], drop["reason"]) == (1, "progress", "after_terminal")
    assert _TIME.fullmatch(drop["ts"])
    assert drop["late_s"] >= 0
    assert [drop["body"] for drop in one["drops"]] == [{"n": 0}, {"n": 1}]
    assert len(every["drops"]) == 3


async def test_drops_of_many_pages_and_past_the_cap(store: TaskStore, tapescope: Tapescope) -> None:
    """Every kept drop is printed, and how many more were counted but not kept."""
    attempt = await make_ended(store, late=1_500)
    drops = tapescope.json("drops", attempt.task_id)

    assert len(drops["drops"]) == 1_000
    assert drops["overflow"] == 500


async def test_no_drops_is_an_empty_list(store: TaskStore, tapescope: Tapescope) -> None:
    """A task without drops, and a store without any, are not errors."""
    task = await make_task(store)

    nothing: dict[str, Any] = {"drops": [], "overflow": 0, "next": None, "store": store.name}
    assert tapescope.json("drops", task.task_id) == nothing
    assert tapescope.json("drops") == nothing


async def test_show_tells_the_row_and_the_end(store: TaskStore, tapescope: Tapescope) -> None:
    """``show`` has the fields of ``list``, where the tape stands, and its ``final``."""
    attempt = await make_ended(store, late=1)
    shown = tapescope.json("show", attempt.task_id)
    plain = tapescope("show", attempt.task_id).stdout.decode()

    assert shown.items() >= tapescope.json("list")["tasks"][0].items()
    assert (shown["last_seq"], shown["final_seq"], shown["dropped"]) == (3, 3, 1)
    assert shown["final"] == {"outcome": "succeeded", "result": {"resized": 3}}
    assert re.search(r"^status +succeeded$", plain, re.MULTILINE)


async def test_cancel_of_a_pending_task_ends_it(
    store_on: TaskStore, tapescope_on: Tapescope
) -> None:
    """A pending task is cancelled at once; the words are in its ``final``, as is who said them."""
    task = await make_task(store_on)
    answer = tapescope_on.json("cancel", "--message", "wrong folder", task.task_id)
    (final,) = tapescope_on.tape(task.task_id)

    assert answer == {
        "task_id": task.task_id,
        "state": "cancelled",
        "status": "cancelled",
        "lost": None,
        "store": store_on.name,
    }
    assert final["body"]["cancel"]["reason"] == "user"
    assert final["body"]["cancel"]["message"] == "wrong folder"
    assert "@" in final["body"]["cancel"]["by"]


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("show", "TASK"),
        ("tape", "TASK"),
        ("drops",),
        ("audit",),
        ("audit", "--dry-run"),
        ("cancel", "TASK"),
        ("retry", "TASK"),
        ("submit", "resize"),
    ],
    ids=" ".join,
)
async def test_json_says_which_store(
    store: TaskStore, tapescope: Tapescope, command: tuple[str, ...]
) -> None:
    """A program that reads of many stores need not remember which it has asked."""
    await store.ops.register([KnownOp("resize")])
    task_id = (await make_ended(store)).task_id
    said = tapescope.json(*(task_id if word == "TASK" else word for word in command))

    assert said["store"] == store.name


async def test_cancel_again_and_too_late_is_no_error(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """The first request stays; a task that has ended stays as it is."""
    running = await make_task(store)
    await store.claim_if_pending(running, "here:1:2:aa", _LEASE)
    ended = await make_ended(store)
    tapescope.here("cancel", "--message", "first", running.task_id)
    again = tapescope.here("cancel", "--message", "second", running.task_id)
    late = tapescope.here("cancel", ended.task_id)

    assert again.returncode == 0
    assert b"'first'" in again.stdout
    assert late.returncode == 0
    assert b"had ended as succeeded" in late.stdout


async def test_beginning_of_an_id_names_the_task(
    store_on: TaskStore, tapescope_on: Tapescope
) -> None:
    """As much of an id as only one task has is enough; what several have is a usage error."""
    first = await make_task(store_on)
    for _ in range(20):
        await make_task(store_on)
    common = first.task_id[:6]
    one = tapescope_on.json("show", first.task_id[:34])
    several = tapescope_on.here("show", common)
    none = tapescope_on.here("show", "ffffffff-ffff")

    assert one["task_id"] == first.task_id
    assert several.returncode == 2
    assert b"stands for" in several.stderr
    assert none.returncode == 1


async def test_reader_that_leaves_is_no_error(store: TaskStore, tapescope: Tapescope) -> None:
    """``tapescope tape … | head -1`` ends without a word on stderr."""
    claim = await store.claim_if_pending(await make_task(store), "here:1:2:aa", _LEASE)
    assert claim is not None
    await store.append(claim.attempt, [NewEvent("step", "x" * 1_000) for _ in range(900)])
    with tapescope.started("tape", claim.task.task_id) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        status = process.wait(30)

    assert said == b""
    assert status == 141
