"""A task whose owner was lost: it is shown so, ``--follow`` says so, and ``cancel`` ends it."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tapescope import TaskStatus, TaskStore, find_store
from tapescope.cli._wording import now_us
from tapescope.manager.lost_tasks import find_lost
from tapescope.model.ops import KnownOp
from tapescope.model.wording import shorten_id
from tapescope.testing import until
from tapescope.testing.tasks import SHORT
from tests.cli.command import Tapescope
from tests.cli.tasks import LEASE, claim, dead_owner

_ELSEWHERE = "elsewhere:1:2:aa"
_LOST = {
    "owner is dead": (dead_owner(), LEASE, "the process that ran it has ended"),
    "lease is over": (_ELSEWHERE, SHORT, "its lease ended"),
}


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


@pytest.fixture(params=list(_LOST))
async def lost(
    request: pytest.FixtureRequest, store: TaskStore, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """The id of a lost task, and how its loss is told."""
    owner, lease, told = _LOST[request.param]
    monkeypatch.setattr("tapescope.manager.lost_tasks._CLOCKS_DIFFER", 0)
    attempt = await claim(store, owner=owner, lease=lease)
    task = await store.get(attempt.task_id)
    await until(lambda: bool(find_lost(store, [task], now_us())))
    return attempt.task_id, told


async def test_lost_task_is_shown_as_lost(tapescope: Tapescope, lost: tuple[str, str]) -> None:
    """By ``list``, with what to do, and by ``show``, with the reason, also for programs."""
    task_id, told = lost
    listed = tapescope.screen("list")
    shown = tapescope.screen("show", task_id)

    assert f"{shorten_id(task_id)}  resize  ? lost" in listed.text
    assert "'tapescope cancel TASK' ends it" in listed.text
    assert "? lost" in shown.text
    assert told in shown.text
    assert told in tapescope.json("list")["tasks"][0]["lost"]
    assert told in tapescope.json("show", task_id)["lost"]
    assert tapescope.json("show", task_id)["status"] == "running"


async def test_living_task_is_not_lost(store: TaskStore, tapescope: Tapescope) -> None:
    """An owner elsewhere whose lease holds is at work, as far as anybody here can know."""
    attempt = await claim(store)

    assert tapescope.json("show", attempt.task_id)["lost"] is None
    assert "lost" not in tapescope.screen("list").text


async def test_cancel_ends_a_lost_task_now(
    store: TaskStore, tapescope: Tapescope, lost: tuple[str, str]
) -> None:
    """The request is stored and the rescue done at once: one ``final``, and a line that says so."""
    task_id, told = lost
    done = tapescope.here("cancel", task_id)
    task = await store.get(task_id)
    tape = await store.read_tape(task_id)

    assert done.returncode == 0
    assert told in done.stdout.decode()
    assert "is cancelled." in done.stdout.decode()
    assert task.status is TaskStatus.CANCELLED
    assert [event.type for event in tape.events].count("final") == 1


async def test_cancel_of_one_lost_task_keeps_the_retries_of_the_others(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """Other tasks of the dead owner are rescued as a worker would do it: a retry is left."""
    await store.ops.register([KnownOp("resize")])
    lost = await claim(store, owner=dead_owner())
    other = await claim(store, owner=dead_owner(), retries=1)
    tapescope.here("cancel", lost.task_id)

    assert (await store.get(lost.task_id)).status is TaskStatus.CANCELLED
    assert (await store.get(other.task_id)).status is TaskStatus.PENDING


async def test_follow_says_that_the_task_is_lost(store: TaskStore, tapescope: Tapescope) -> None:
    """One line on stderr, and it goes on: a worker may take the task over, and does so here."""
    lost = await claim(store, owner=dead_owner())
    with tapescope.started("tape", "--follow", lost.task_id) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        said = process.stderr.readline()
        await store.leases.rescue_expired(dead_owners=[lost.owner])
        status = process.wait(30)
        rest = process.stderr.read()
        shown = process.stdout.read()

    assert b"the task is lost: the process that ran it has ended" in said
    assert b"tapescope cancel" in said
    assert (status, rest) == (0, b"")
    assert b"worker_lost" in shown
