"""A bound on what waits of an op, as the command line meets it."""

from __future__ import annotations

import asyncio

from tapescope import find_store
from tapescope.model.ops import KnownOp
from tests.cli.command import Tapescope


def test_a_submit_beyond_the_bound_says_so(tapescope: Tapescope) -> None:
    """And what to do. A retry of many tasks prints the id of each that was made, and says which
    were refused."""

    async def bound() -> None:
        async with find_store(tapescope.store) as store:
            await store.ops.register([KnownOp("resize", max_waiting=3)])

    asyncio.run(bound())
    first = [tapescope.here("submit", "resize").stdout.decode().strip() for _ in range(3)]
    refused = tapescope.here("submit", "resize")
    tapescope.here("cancel", *first, "--yes")
    tapescope.here("submit", "resize")
    again = tapescope.here("retry", *first)
    alone = tapescope.here("retry", first[0])
    waiting = [task["task_id"] for task in tapescope.json("list", "--status", "pending")["tasks"]]

    assert (refused.returncode, refused.stdout) == (1, b"")
    assert b"The op 'resize' is full: 3 of its tasks wait, and 3 may." in refused.stderr
    assert again.returncode == 1
    assert sorted(again.stdout.decode().split()) == sorted(waiting[:2])
    assert again.stderr.count(b"is full") == 1
    assert (alone.returncode, alone.stdout) == (1, b"")
    assert b"is full" in alone.stderr
