"""``tapescope stats``: what waits and runs, on a terminal, piped and as JSON."""

from __future__ import annotations

from rich.cells import cell_len

from tapescope import NewTask, find_store
from tapescope.model.ops import KnownOp
from tapescope.store.validation import new_task_id
from tests.cli.command import Tapescope
from tests.support.breaches import make_ended

LONG = "a" * 64


async def test_stats_are_the_stores(store_url: str, tapescope_on: Tapescope) -> None:
    """Each number, and in words that no worker can run what is due; nothing is too wide."""
    async with find_store(store_url) as store:
        await make_ended(store)  # of the op x
        for op in ("x", "mail", LONG, LONG):
            await store.create(NewTask(new_task_id(), op))
        await store.create(NewTask(new_task_id(), "x", run_at=store.due_clock.now() + 2**40))
        await store.ops.register([KnownOp("x", timeout=5.0), KnownOp("mail")])
        await store.ops.tell("a worker", ["x"], 60)
        screen = tapescope_on.screen("stats")
        piped = tapescope_on.here("stats").stdout.decode().splitlines()
        shape = tapescope_on.json("stats")

    by_op = {one["op"]: one for one in shape["ops"]}
    words = " ".join(screen.text.split())
    assert max(map(cell_len, screen.lines)) <= 80, screen.text
    assert "No worker has registered it in the last week." in words
    assert "The workers that registered it have ended." in words
    assert [row.split()[0] for row in piped] == ["op", LONG, "mail", "x"]
    assert {name: by_op["x"][name] for name in ("due", "scheduled", "succeeded", "submitted")} == {
        "due": 1,
        "scheduled": 1,
        "succeeded": 1,
        "submitted": 3,
    }
    assert (by_op["x"]["workers"], by_op["x"]["timeout"], by_op["x"]["registered"]) == (1, 5, True)
    assert (by_op["mail"]["workers"], by_op[LONG]["due"]) == (0, 2)


def test_stats_of_nothing(sqlite_url: str, tapescope: Tapescope) -> None:
    """A store without tasks says how to make one."""
    tapescope.here("migrate")

    assert "No tasks. Make one" in tapescope.screen("stats").text
