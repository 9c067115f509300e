"""``show`` and ``tape`` tell a person why a task failed, when, and what comes next."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncGenerator, Generator

import pytest

from tapescope import TaskStore, find_store
from tapescope.model.tasks import ErrorInfo, FinalEvent
from tests.cli.command import Tapescope
from tests.cli.tasks import claim, make_ended, make_failed

_FRAME = 'File "shop/resize.py", line 7, in resize'


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


@pytest.fixture
def in_kolkata(monkeypatch: pytest.MonkeyPatch, tapescope: Tapescope) -> Generator[None]:
    """This process is in a time zone of half hours."""
    tapescope.env["TZ"] = "Asia/Kolkata"
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("command", ["show", "tape"])
async def test_message_and_traceback_have_their_own_lines(
    store: TaskStore, tapescope: Tapescope, command: str
) -> None:
    """On a terminal and piped: the sentence, the rest of the message, the frames, each a line."""
    attempt = await make_failed(store)
    screen = tapescope.screen(command, attempt.task_id)
    piped = tapescope.here(command, attempt.task_id).stdout.decode()

    for shown in (screen.text, piped):
        lines = [line.strip() for line in shown.splitlines()]
        assert any(line.endswith("failed: NoRoute: no route to host") for line in lines)
        end = lines[len(lines) - lines[::-1].index("Traceback (most recent call last):") - 2 :]
        assert end[:3] == ["is 10.0.0.7 up?", "Traceback (most recent call last):", _FRAME]
        assert "\\n" not in shown
        assert "{" not in shown.replace('{"folder":"photos"}', "")


async def test_failed_attempt_is_a_sentence(store: TaskStore, tapescope: Tapescope) -> None:
    """Which attempt, with what, and when the next try is; ``show`` says so while it waits."""
    attempt = await claim(store, retries=3)
    run_at = store.clock.now() + 90_000_000
    await store.retry_later(
        attempt, ErrorInfo("shop.errors.NoRoute", "no route"), run_at, why="retry 1 of 3"
    )
    told = (
        r"attempt 1 failed: NoRoute: no route\. Next try in 1m[23]\ds, at \d\d:\d\d:\d\d\.\d{3}\S* "
    )
    told += r"\(retry 1 of 3\)"

    for command in ("show", "tape"):
        screen = tapescope.screen(command, attempt.task_id, columns=160)
        assert re.search(told, screen.text), command
        assert re.search(told, tapescope.here(command, attempt.task_id).stdout.decode()), command


async def test_lost_attempt_is_a_sentence(store: TaskStore, tapescope: Tapescope) -> None:
    """A run whose owner was lost is due again at once, and the tape says so."""
    attempt = await claim(store, retries=1)
    await store.leases.rescue_expired(ops=["resize"], dead_owners=[attempt.owner])
    shown = tapescope.here("tape", attempt.task_id).stdout.decode()

    assert "attempt 1 failed: worker_lost: the process that ran it has ended" in shown
    assert shown.rstrip().endswith("The task is due again")


@pytest.mark.usefixtures("in_kolkata")
async def test_times_are_local_for_people_and_utc_for_programs(
    store: TaskStore, tapescope: Tapescope
) -> None:
    """With their zone, whichever it is; ``--json`` stays RFC 3339 in UTC."""
    attempt = await make_ended(store)
    shown = tapescope.here("show", attempt.task_id).stdout.decode()
    piped = tapescope.here("tape", attempt.task_id).stdout.decode()
    screen = tapescope.screen("tape", attempt.task_id)

    assert re.search(r"created_at +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:30 \(", shown)
    assert re.search(r"^ +1 +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}\+05:30", piped)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, times at UTC\+05:30", screen.lines[0])
    assert tapescope.json("show", attempt.task_id)["created_at"].endswith("Z")
    assert all(e["ts"].endswith("Z") for e in tapescope.tape(attempt.task_id))


async def test_the_final_says_why_no_retry_follows(store: TaskStore, tapescope: Tapescope) -> None:
    """Where retries are left and the op's policy makes none of them."""
    attempt = await claim(store, retries=3)
    error = ErrorInfo("KeyError", "x", details={"not_retried": "the runner gave up"})
    await store.finish_if_running(attempt, FinalEvent.failed(error))
    shown = tapescope.here("tape", attempt.task_id).stdout.decode()

    assert "failed KeyError: x (not retried: the runner gave up)" in shown.replace(
        "failed:", "failed"
    )
