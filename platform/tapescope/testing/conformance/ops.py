"""Registered ops: what the workers of a store have told it."""

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from tapescope.clock import Clock
from tapescope.model.ops import KnownOp
from tapescope.model.tasks import NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.polling import until

WEEK: Final = 7 * 24 * 3_600_000_000
"""In microseconds."""


class FastClock(Clock):
    """A clock that a test may put ahead."""

    ahead = 0

    def now(self) -> int:
        """Microseconds since the Unix epoch, and as many more as the test says."""
        return super().now() + self.ahead


class OpsConformance(StoreSuite):
    """Registered ops: what the workers of a store have told it."""

    async def test_what_a_worker_registers_is_known(self, store: TaskStore) -> None:
        """Nothing is known at first; then each op with its timeout and its retries."""
        nothing = await store.ops.read()
        await store.ops.register([KnownOp("resize", 60.0, 5), KnownOp("count", None, 0)])
        known = await store.ops.read()

        assert nothing == {}
        assert known == {
            "resize": KnownOp("resize", 60.0, 5),
            "count": KnownOp("count", None, 0),
        }

    async def test_the_newest_word_on_an_op_stays(self, store: TaskStore) -> None:
        """An op that is registered again has the new settings, and the others keep theirs."""
        await store.ops.register([KnownOp("resize", 60.0, 5), KnownOp("count")])
        await store.ops.register([KnownOp("resize", None, 1)])
        await store.ops.register([])

        assert await store.ops.read() == {
            "resize": KnownOp("resize", None, 1),
            "count": KnownOp("count"),
        }

    async def test_other_processes_know_the_ops(
        self, store: TaskStore, second_store: TaskStore
    ) -> None:
        """What is registered through one store is known to another on the same database."""
        await store.ops.register([KnownOp("resize")])

        assert await second_store.ops.read() == {"resize": KnownOp("resize")}

    async def test_an_op_is_forgotten_after_a_week(self, stores: Stores) -> None:
        """What no worker has told of for seven days is not known any more, by the store's clock."""
        clock = FastClock()
        store = await stores.open(clock=clock)
        clock.ahead = WEEK
        task, _ = await store.create(NewTask(new_task_id(), "work"))
        clock.ahead = 0
        if task.created_us < clock.now() + WEEK // 2:
            pytest.skip("the database goes by a clock of its own")
        await store.ops.register([KnownOp("resize")])
        clock.ahead = WEEK - 60_000_000
        still = await store.ops.read()
        clock.ahead = WEEK + 60_000_000

        assert list(still) == ["resize"]
        assert await store.ops.read() == {}

    async def test_ops_are_read_by_their_age(self, store: TaskStore) -> None:
        """The backend leaves out the ops that no worker has told of for as long as it is asked."""
        await store.ops.register([KnownOp("resize")])
        recent = await store.backend.read_ops(WEEK)

        assert list(recent) == [KnownOp("resize")]
        assert await until(partial(is_forgotten, store))


async def is_forgotten(store: TaskStore) -> bool:
    """Whether no op was registered in the last microsecond."""
    return not await store.backend.read_ops(1)
