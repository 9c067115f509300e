"""``tapescope trace``, and the traces of ``tapescope show``."""

from __future__ import annotations

import pytest

from tapescope import find_store
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import ErrorInfo, FinalEvent, NewTask
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def make_traced(url: str) -> list[str]:
    """Two tasks of long names with runs in the trace, the second with a run outside it, too."""
    ids: list[str] = []
    async with find_store(url) as store:
        for nth in range(2):
            task, _ = await store.create(NewTask(new_task_id(), "o" * 60, retries=nth))
            ids.append(task.task_id)
            for trace_id in ["f" * 32, TRACE][1 - nth :]:
                claim = await store.claim_if_pending(await store.get(task.task_id), "me", 60)
                assert claim is not None
                store.attach_span(claim.attempt, trace_id, None, "b2" * 8)
                if trace_id == TRACE:
                    await store.finish_if_running(claim.attempt, FinalEvent.succeeded())
                else:
                    await store.release(claim.attempt)
    return ids


async def test_a_trace_leads_to_its_tasks(store_url: str, tapescope_on: Tapescope) -> None:
    """Each run in it with its attempt; in JSON whole, on a terminal in its width."""
    ids = await make_traced(store_url)
    found = tapescope_on.json("trace", TRACE.upper())
    piped = tapescope_on.here("trace", TRACE).stdout.decode().splitlines()
    shown = tapescope_on.screen("trace", TRACE, columns=80)
    of_a_task = tapescope_on.json("show", ids[1])["traces"]
    told = tapescope_on.here("show", ids[1]).stdout.decode()

    assert list(found) == ["attempts", "store"]
    assert [(one["task_id"], one["attempt"]) for one in found["attempts"]] == [
        (ids[0], 1),
        (ids[1], 2),
    ]
    assert {one["status"] for one in found["attempts"]} == {"succeeded"}
    assert [line.split()[0] for line in piped] == ["task_id", *ids]
    assert max(map(len, shown.lines)) <= 80
    assert "b2" * 8 in shown.text
    assert [(one["attempt"], one["trace_id"]) for one in of_a_task] == [(1, "f" * 32), (2, TRACE)]
    assert f"{TRACE}-{'b2' * 8}" in told
    assert max(len(line) for line in told.splitlines() if "trace of" in line) <= 80


@pytest.mark.parametrize(
    ("trace_id", "status", "says"),
    [("a" * 32, 1, "No run in"), ("short", 2, "32 hexadecimal digits")],
)
async def test_a_trace_without_a_run_says_what_to_look_for(
    sqlite_url: str, tapescope: Tapescope, trace_id: str, status: int, says: str
) -> None:
    """Status 1 where there is none, 2 for what is no trace id; JSON has an empty list."""
    await make_traced(sqlite_url)
    done = tapescope.here("trace", trace_id)

    assert done.returncode == status
    assert says in done.stderr.decode()
    if status == 1:
        assert b'"attempts":[]' in tapescope.here("trace", trace_id, "--json").stdout


async def test_a_command_acts_in_its_callers_trace(sqlite_url: str, tapescope: Tapescope) -> None:
    """``submit`` and ``retry`` are linked to it, and a cancel keeps it, of a task that runs, one
    that waits for its time and one that waits for its retry; ``show`` prints it."""
    caller = f"00-{TRACE}-{'b2' * 8}-01"
    env = {"TRACEPARENT": caller}
    async with find_store(sqlite_url) as store:
        await store.ops.register([KnownOp("o")])
        runs, retried = [
            await store.claim_if_pending(
                (await store.create(NewTask(new_task_id(), "o")))[0], "me", 60
            )
            for _ in range(2)
        ]
        assert runs is not None
        assert retried is not None
        await store.retry_later(retried.attempt, ErrorInfo("x"), store.clock.now() + 10**9)
        submitted = tapescope.screen("submit", "o", "--json", env=env)
        (waits, *_) = (await store.list()).tasks
        ids = [runs.task.task_id, retried.task.task_id, waits.task_id]
        cancelled = tapescope.screen("cancel", *ids, env=env)
        again = tapescope.screen("retry", waits.task_id, env=env)
        (made, *_) = (await store.list()).tasks
    shown = [tapescope.json("show", task_id)["cancel"]["traceparent"] for task_id in ids]
    told = tapescope.here("show", waits.task_id).stdout.decode()

    assert (submitted.status, cancelled.status, again.status) == (0, 0, 0)
    assert (waits.traceparent, made.traceparent) == (caller, caller)
    assert made.task_id != waits.task_id
    assert shown == [caller] * 3
    (line,) = [line for line in told.splitlines() if line.startswith("trace of cancel ")]
    assert line.split()[-1] == f"{TRACE}-{'b2' * 8}"
