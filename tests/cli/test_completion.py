"""TAB: ids, ops and drill names are completed, and a store that is away is met in silence."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from tapescope import TaskStore, find_store
from tapescope.model.ops import KnownOp
from tapescope.model.wording import shorten_id
from tests.cli.command import Tapescope
from tests.cli.tasks import make_task


@pytest.fixture
async def store(sqlite_url: str) -> AsyncGenerator[TaskStore]:
    """The SQLite store that ``tapescope`` reads, open here, too."""
    async with find_store(sqlite_url) as store:
        yield store


def complete(tapescope: Tapescope, line: str) -> list[str]:
    """What bash is offered for a line that ends where TAB was typed."""
    words = line.split()
    words += [""] if line.endswith(" ") else []
    tapescope.env |= {
        "_TAPESCOPE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = tapescope.here()
    assert done.stderr == b""
    return [line.removeprefix("plain,") for line in done.stdout.decode().split()]


@pytest.mark.parametrize("command", ["show", "tape --follow", "cancel", "retry", "drops"])
async def test_ids_are_completed(store: TaskStore, tapescope: Tapescope, command: str) -> None:
    """In the short form, newest first, and whole where the short one does not begin so."""
    ids = [(await make_task(store)).task_id for _ in range(3)]
    short = [shorten_id(task_id) for task_id in ids[::-1]]

    assert complete(tapescope, f"tapescope {command} ") == short
    assert complete(tapescope, f"tapescope {command} {short[0][:17]}") == short[:1]
    assert complete(tapescope, f"tapescope {command} {ids[0][:30]}") == [
        task_id for task_id in ids[::-1] if task_id.startswith(ids[0][:30])
    ]
    assert complete(tapescope, f"tapescope {command} ffff") == []


async def test_ops_and_drills_are_completed(store: TaskStore, tapescope: Tapescope) -> None:
    """Ops that workers know and that tasks have; the names of the drills."""
    await store.ops.register([KnownOp("resize")])
    await make_task(store, "scan")

    for line in ("list --op ", "cancel --op ", "prune --op ", "submit "):
        assert complete(tapescope, f"tapescope {line}") == ["resize", "scan"], line
    assert complete(tapescope, "tapescope drill s") == ["slow-cancel", "stuck-task", "store-outage"]


def test_no_store_is_no_error(tapescope: Tapescope) -> None:
    """A shell's line is no place for an error."""
    tapescope.env["TAPESCOPE_STORE"] = "nothing://x"

    assert complete(tapescope, "tapescope show ") == []
