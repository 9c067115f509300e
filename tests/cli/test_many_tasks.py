"""Filters, and commands that change many tasks at once: a count, a question, ``--yes``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator

import pytest

from tapescope import NewTask, TaskStatus, TaskStore, find_store
from tapescope.cli._filters import Wanted
from tapescope.model.ops import KnownOp
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope_adapters.sqlite import SqliteStore
from tests.cli.command import Tapescope, read_terminal
from tests.cli.tasks import claim, make_ended, make_every_kind, make_failed, make_task

_COMMANDS = {
    "cancel": ("cancel", "--op", "resize"),
    "retry": ("retry", "--failed"),
    "prune": ("prune", "--older-than", "0s"),
    "prune quarantine": ("prune", "--older-than", "0s", "--quarantine"),
}


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` changes, open here, too."""
    async with find_store(sqlite_url) as store:
        await store.ops.register([KnownOp("resize"), KnownOp("scan")])
        yield store


async def find_changed(store: TaskStore) -> tuple[int, int, int]:
    """How many tasks there are, how many have not ended, and the late events."""
    counts = await store.count()
    open_ones = counts[TaskStatus.PENDING] + counts[TaskStatus.RUNNING]
    return sum(counts.values()), open_ones, len((await store.read_quarantine()).drops)


async def test_list_filters_combine(store: TaskStore, tapescope: Tapescope) -> None:
    """Each option leaves only what it names, alone and with the others."""
    ids = await make_every_kind(store)
    other, _ = await store.create(NewTask(new_task_id(), "scan", queue="bulk"))

    def listed(*options: str) -> set[str]:
        return {task["task_id"] for task in tapescope.json("list", *options)["tasks"]}

    every = {*ids.values(), other.task_id}
    assert listed("--failed") == listed("--status", "failed") == {ids["failed"]}
    assert listed("--op", "scan") == {other.task_id}
    assert listed("--owner", "here:1:2:aa") == {
        ids[kind] for kind in ("running", "succeeded", "failed")
    }
    assert listed("--since", "1h") == every
    assert listed("--until", "1h") == set()
    assert listed("--since", "2026-01-31", "--until", "2026-01-31T12:00:00Z") == set()
    assert listed("--since", "1h", "--failed", "--op", "scan") == set()
    assert listed("--key", "none") == set()
    assert listed("--queue", "bulk") == {other.task_id}
    assert listed("--queue", "default") == {*ids.values()}
    assert listed("--queue", "bulk", "--failed") == set()


async def test_filtered_list_reads_on_past_empty_pages(sqlite_url: str, store: TaskStore) -> None:
    """The few that are wanted are found behind many that are not, up to the limit."""
    rare = [(await make_task(store, "scan")).task_id for _ in range(3)]
    for _ in range(9):
        await make_task(store)
    wanted = Wanted(op="scan")
    async with SqliteStore(sqlite_url, limits=StoreLimits(looked_at=2)) as other:
        two = await wanted.read_page(other, 2, None)
        rest = await wanted.read_page(other, 2, two.next)

    assert [task.task_id for task in two.tasks] == rare[:0:-1]
    assert [task.task_id for task in rest.tasks] == rare[:1]
    assert rest.next is None


@pytest.mark.parametrize("command", _COMMANDS)
async def test_many_are_changed_only_after_a_yes(
    store: TaskStore, tapescope: Tapescope, command: str
) -> None:
    """The question has the count; "n" and Return change nothing, "y" does it, as ``--yes`` does."""
    await make_every_kind(store)
    before = await find_changed(store)
    for typed in ("n\n", "\n"):
        refused = tapescope.screen(*_COMMANDS[command], typed=typed)
        assert refused.status == 1
        assert "? [y/N]" in refused.said
        assert "Nothing was changed." in refused.said
    unasked = tapescope.here(*_COMMANDS[command])
    unchanged = await find_changed(store)
    done = tapescope.screen(*_COMMANDS[command], typed="y\n")
    changed = await find_changed(store)

    assert (unasked.returncode, unasked.stdout) == (1, b"")
    assert b"add --yes" in unasked.stderr
    assert unasked.stderr.count(b"\n") == 1
    assert unchanged == before
    assert done.status == 0, done.said
    assert changed != before
    assert done.said.count("tapescope: store ") == 1, "it is opened once"


@pytest.mark.parametrize("command", _COMMANDS)
async def test_yes_asks_nobody(store: TaskStore, tapescope: Tapescope, command: str) -> None:
    """``--yes`` does it where there is no terminal; where nothing is meant there is no question."""
    await make_every_kind(store)
    before = await find_changed(store)
    first = tapescope.here(*_COMMANDS[command], "--yes")
    after = await find_changed(store)

    assert first.returncode == 0, first.stderr
    assert after != before


async def test_ctrl_c_at_the_question_changes_nothing(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """The first one ends the command, with 130 and without a traceback."""
    await make_every_kind(store)
    before = await find_changed(store)
    with tapescope.on_terminal("cancel", "--op", "resize") as (process, end):
        await asyncio.to_thread(read_terminal, end, until=[b"[y/N]"])
        os.write(end, b"\x03")
        shown = await asyncio.to_thread(read_terminal, end)
        status = process.wait(30)

    assert status == 130
    assert b"Traceback" not in shown
    assert await find_changed(store) == before


async def test_question_counts_what_is_meant(store: TaskStore, tapescope: Tapescope) -> None:
    """A cancel names the states of the tasks, and those of other ops are left alone."""
    ids = [(await make_task(store)).task_id for _ in range(3)]
    running = await claim(store)
    other = await make_task(store, "scan")
    await make_ended(store)
    screen = tapescope.screen("cancel", "--op", "resize", typed="y\n")
    tasks = [await store.get(task_id) for task_id in ids]

    assert "Cancel 4 tasks (3 pending, 1 running)? [y/N]" in screen.said
    assert {task.status for task in tasks} == {TaskStatus.CANCELLED}
    assert (await store.get(running.task_id)).cancel is not None
    assert (await store.get(other.task_id)).status is TaskStatus.PENDING


async def test_retry_of_what_failed(store: TaskStore, tapescope: Tapescope) -> None:
    """Each failed task is submitted once more, oldest first; what succeeded is not."""
    await make_ended(store)
    failed = [(await make_failed(store, op)).task_id for op in ("resize", "scan", "scan")]
    done = tapescope.here("retry", "--failed", "--op", "scan", "--yes", "--json")
    made = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 0, done.stderr
    assert [one["op"] for one in made] == ["scan", "scan"]
    assert not {one["task_id"] for one in made} & set(failed)
    assert (await store.count())[TaskStatus.PENDING] == 2


@pytest.mark.parametrize("command", ["cancel", "retry"])
async def test_many_ids_at_once(store: TaskStore, tapescope: Tapescope, command: str) -> None:
    """Named tasks need no question; one that is not known is told, and the others are done."""
    make = make_task if command == "cancel" else make_failed
    ids = [(await make(store)).task_id for _ in range(2)]
    unknown = "01900000-0000-7000-8000-000000000000"
    done = tapescope.here(command, ids[0], unknown, ids[1])

    assert done.returncode == 1
    assert done.stdout.count(b"\n") == 2
    assert done.stderr.decode().count("has no task") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["cancel"], "name a task"),
        (["retry"], "name a task"),
        (["cancel", "0190", "--op", "x"], "not both"),
        (["retry", "0190", "--failed"], "not both"),
        (["retry", "--op", "resize"], "--failed or --status"),
        (["retry", "--status", "running"], "have not ended"),
        (["cancel", "--status", "failed"], "have ended"),
        (["list", "--failed", "--status", "running"], "contradicts --status running"),
        (["list", "--since", "yesterday"], "--since: 'yesterday' is not a time"),
        (["drops", "--until", "5"], "--until: '5' is not a time"),
        (["list", "--op", "Bad Op"], "is not a valid op name"),
    ],
)
def test_what_contradicts_itself_is_told(
    tapescope: Tapescope, arguments: list[str], says: str
) -> None:
    """One line, a status that is not 0, and nothing is changed."""
    done = tapescope.here(*arguments)

    assert done.returncode in (1, 2)
    assert says in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


async def test_drops_of_a_time(store: TaskStore, tapescope: Tapescope) -> None:
    """``--since`` and ``--until`` go by when the event came."""
    await make_ended(store, late=3)

    assert len(tapescope.json("drops", "--since", "1h")["drops"]) == 3
    assert tapescope.json("drops", "--until", "1h")["drops"] == []


async def test_drops_are_listed_up_to_a_limit(store: TaskStore, tapescope: Tapescope) -> None:
    """As many as are wanted, of whatever time, and how to go on; the last page says nothing."""
    _, second, third = [(await make_ended(store, late=1)).task_id for _ in range(3)]
    since = (await store.read_quarantine(second)).drops[0].ts.isoformat()
    page = tapescope.json("drops", "--since", since, "--limit", "1")
    screen = tapescope.screen("drops", "--since", since, "--limit", "1")
    rest = tapescope.json("drops", "--since", since, "--after", str(page["next"]))
    last = tapescope.screen("drops", "--limit", "3")
    none = tapescope.here("drops", "--limit", "0")

    assert [drop["task_id"] for drop in page["drops"]] == [second]
    assert screen.lines[-1] == f"More: --after {page['next']}"
    assert ([drop["task_id"] for drop in rest["drops"]], rest["next"]) == ([third], None)
    assert "More" not in last.text
    assert none.returncode == 1
    assert b"--limit" in none.stderr
