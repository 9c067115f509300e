"""An audit of a whole store: page by page, at a rate."""

from __future__ import annotations

import pytest

from tapescope import BadSetting, FinalEvent, TaskStore
from tapescope.maintenance.audit import audit_pages, audit_store
from tapescope.testing import MemoryStore
from tapescope.testing.tasks import log, start
from tests.support.virtual_time import VirtualClock, in_virtual_time


async def make_ended(store: TaskStore, number: int) -> None:
    """So many tasks of three events that ended."""
    for _ in range(number):
        attempt = await start(store)
        await store.append(attempt, [log("on it")])
        await store.finish_if_running(attempt, FinalEvent.succeeded())


async def test_pages_are_of_the_size_asked_for() -> None:
    """Every task is checked once; the last page has no next."""
    async with MemoryStore() as store:
        await make_ended(store, 5)
        pages = [page async for page in audit_pages(store, limit=2)]

    assert [page.checked for page in pages] == [2, 2, 1]
    assert [page.rows for page in pages] == [8, 8, 4]
    assert pages[-1].next is None


async def test_report_is_of_all_pages() -> None:
    """An empty store has nothing to check; of another every task is counted once."""
    async with MemoryStore() as store:
        empty = await audit_store(store)
        await make_ended(store, 5)
        report = await audit_store(store, limit=2)

    assert (empty.checked, empty.violations) == (0, ())
    assert (report.checked, report.violations) == (5, ())


async def test_rate_of_nothing_is_refused() -> None:
    """An audit that may read no row would never end."""
    async with MemoryStore() as store:
        with pytest.raises(BadSetting, match="rows_per_second"):
            await audit_store(store, rows_per_second=0)


@in_virtual_time
async def test_audit_keeps_to_its_rate() -> None:
    """Sixteen rows at four a second take as long as it says, by the store's clock."""
    async with MemoryStore(clock=VirtualClock()) as store:
        await make_ended(store, 4)
        began = store.clock.monotonic()
        report = await audit_store(store, rows_per_second=4, limit=1)

    assert report.checked == 4
    assert store.clock.monotonic() - began == pytest.approx(3)  # nobody waits after the last page
