"""Registered ops: what the workers of a store have told it."""

from __future__ import annotations

from tapescope.clock import Clock
from tapescope.model.ops import KnownOp
from tapescope.store.port import TaskStore
from tapescope.testing import MemoryStore
from tapescope_adapters.sqlite import SqliteStore
from tests.contract.conftest import Stores


async def test_what_a_worker_registers_is_known(store: TaskStore) -> None:
    """Nothing is known at first; then each op with its timeout and its retries."""
    nothing = await store.ops.read()
    await store.ops.register([KnownOp("resize", 60.0, 5), KnownOp("count", None, 0)])
    known = await store.ops.read()

    assert nothing == {}
    assert known == {
        "resize": KnownOp("resize", 60.0, 5),
        "count": KnownOp("count", None, 0),
    }


async def test_the_newest_word_on_an_op_stays(store: TaskStore) -> None:
    """An op that is registered again has the new settings, and the others keep theirs."""
    await store.ops.register([KnownOp("resize", 60.0, 5), KnownOp("count")])
    await store.ops.register([KnownOp("resize", None, 1)])
    await store.ops.register([])

    assert await store.ops.read() == {
        "resize": KnownOp("resize", None, 1),
        "count": KnownOp("count"),
    }


async def test_other_processes_know_the_ops(store: TaskStore, second_store: TaskStore) -> None:
    """What is registered through one store is known to another on the same database."""
    await store.ops.register([KnownOp("resize")])

    assert await second_store.ops.read() == {"resize": KnownOp("resize")}


class _Clock(Clock):
    ahead = 0

    def now(self) -> int:
        return super().now() + self.ahead


async def test_an_op_is_forgotten_after_a_week(stores: Stores) -> None:
    """What no worker has told of for seven days is not known any more, by the store's clock."""
    clock = _Clock()
    store = await stores.open(clock=clock)
    if not isinstance(store, MemoryStore | SqliteStore):
        return  # a server's clock is its own
    day = 24 * 3_600 * 1_000_000
    await store.ops.register([KnownOp("resize")])
    clock.ahead = 7 * day - 60_000_000
    still = await store.ops.read()
    clock.ahead = 7 * day + 60_000_000

    assert list(still) == ["resize"]
    assert await store.ops.read() == {}
