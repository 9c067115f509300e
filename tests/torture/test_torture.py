"""A short form of each attack, and the test of the judge of the kills."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tapescope import find_store
from tests.stress.harness import Result
from tests.support.services import running_postgres
from tests.torture.disturbances import LOCKED, REPLIES, RESTARTS, SESSIONS, play_disturbed
from tests.torture.kills import Told, judge_told, play_failing_syncs, play_kills
from tests.torture.victim import Workshop


@pytest.mark.stress
@pytest.mark.slow
def test_no_kill_loses_what_was_answered(store_url: str) -> None:
    """Every answer of a process that was killed holds, and all tasks end."""
    result = play_kills("store", store_url, 10, seed=7)

    assert result.bad == {}
    assert result.runs == 10
    assert result.outcomes.keys() <= {"succeeded", "cancelled"}


@pytest.mark.stress
@pytest.mark.slow
def test_no_failing_sync_loses_what_was_answered(sqlite_url: str) -> None:
    """What could not be synced was never answered, and the file is sound."""
    result = play_failing_syncs("store", sqlite_url, 5, seed=7)
    failed = int(result.figures[-1].split()[0])

    assert result.bad == {}
    assert failed > 0, result.figures


@pytest.mark.stress
@pytest.mark.slow
@pytest.mark.parametrize("attack", [RESTARTS, SESSIONS, REPLIES])
async def test_no_trouble_of_the_server_spoils_a_tape(attack: str) -> None:
    """On a server of its own, for it is stopped, or loses its sessions."""
    with running_postgres() as server:
        result = await play_disturbed(attack, "postgresql", server.url(), server, 32, seed=7)

    assert result.bad == {}
    assert result.runs >= 32


@pytest.mark.stress
@pytest.mark.slow
async def test_no_lock_of_another_process_spoils_a_tape(sqlite_url: str) -> None:
    """The file is locked again and again."""
    result = await play_disturbed(LOCKED, "sqlite", sqlite_url, None, 32, seed=7)

    assert result.bad == {}
    assert result.runs >= 32


def _forget_nothing(told: Told, task_id: str) -> None:
    told.events[task_id].add((1, 2))


def _tell_a_task(told: Told, task_id: str) -> None:
    told.made["0" * len(task_id)] = "async"


def _tell_a_report(told: Told, task_id: str) -> None:
    told.events[task_id].add((1, 3))


def _tell_another_end(told: Told, task_id: str) -> None:
    told.ends[task_id] = "cancelled"


def _tell_a_cancel(told: Told, task_id: str) -> None:
    told.cancels[task_id] = "recorded"


def _tell_two_runs(told: Told, task_id: str) -> None:
    told.runs[task_id, 1] = 2


@pytest.mark.parametrize(
    ("tell", "found"),
    [
        (_forget_nothing, ""),
        (_tell_a_task, "a submit was answered"),
        (_tell_a_report, "reports that were answered are not on the tape: [(1, 3)]"),
        (_tell_another_end, "its caller was told cancelled, and it is succeeded"),
        (_tell_a_cancel, "its cancel was answered with recorded, and it is succeeded"),
        (_tell_two_runs, "attempt 1 was begun 2 times"),
    ],
)
async def test_judge_finds_an_answer_that_does_not_hold(
    sqlite_url: str, tell: Callable[[Told, str], None], found: str
) -> None:
    """One answer more than was given is one violation; those that were given are none."""
    result, told = Result("judge", "sqlite", 0), Told()
    async with find_store(sqlite_url) as store:
        async with Workshop(None).make_manager(sqlite_url) as manager:
            task = await manager.submit("async", params={"reports": 3})
            await task.result()
        told.made[task.task_id] = "async"
        tell(told, task.task_id)
        await judge_told(store, told, result)

    said = [violation for violations in result.bad.values() for violation in violations]
    assert len(said) == (1 if found else 0)
    assert "".join(said).startswith(found)
