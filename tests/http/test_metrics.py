"""The listener of a command: what it says before there is a manager, and that a scrape is seen."""

from __future__ import annotations

import asyncio

from tapescope import TaskManager
from tapescope.http.metrics import MetricsListener
from tests.support.scrapes import fetch


async def test_a_scrape_is_waited_for() -> None:
    """A scrape ends the wait; one that came before the wait, or a HEAD, does not count."""
    with MetricsListener("127.0.0.1", 0) as listener:
        url = f"{listener.url}/metrics"
        await asyncio.to_thread(fetch, url)
        before = await listener.wait_for_scrape(0.01)
        wait = asyncio.create_task(listener.wait_for_scrape(60))
        await asyncio.sleep(0)  # the wait has begun
        looked = await asyncio.to_thread(fetch, url, "", "HEAD")
        for _ in range(5):  # as many turns as a scrape would take to end the wait
            await asyncio.sleep(0)
        ended_by_a_look = wait.done()
        await asyncio.to_thread(fetch, url)

        assert (before, looked.status, looked.text, ended_by_a_look) == (False, 200, "", False)
        assert await wait


async def test_the_wait_for_a_scrape_has_an_end() -> None:
    """Without a scrape the wait ends in time; without a port there is no wait at all."""
    with (
        MetricsListener("127.0.0.1", 0) as listens,
        MetricsListener("127.0.0.1", None) as does_not,
    ):
        assert not await listens.wait_for_scrape(0.01)
        assert not await does_not.wait_for_scrape(60)
        assert (does_not.url, does_not.readers) == (None, ())


async def test_readiness_is_the_managers(sqlite_url: str) -> None:
    """Not ready as long as there is no manager; then the manager says it."""
    with MetricsListener("127.0.0.1", 0) as listener:
        without = await asyncio.to_thread(fetch, f"{listener.url}/readyz?verbose")
        async with TaskManager(sqlite_url) as manager:
            listener.watch(manager)
            watched = await asyncio.to_thread(fetch, f"{listener.url}/readyz?verbose")

    assert without.status == 503
    assert "[-] manager: the store is not open yet\n" in without.text
    assert "[+] manager: it takes tasks\n" in watched.text
