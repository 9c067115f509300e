"""What others than the run write on a tape, by the number that it bears."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tapescope.model.tasks import NewTask
from tapescope.store.lookup import find_store
from tapescope.store.orders import FIRST_FOREIGN_OFFER
from tapescope.store.validation import new_task_id
from tests.support.postgres_sessions import session


async def test_a_foreign_offer_is_the_same_number_in_every_language(store_url: str) -> None:
    """The first one is ``FIRST_FOREIGN_OFFER``, which each dialect of SQL writes for itself."""
    async with find_store(store_url) as store:
        task, _ = await store.create(NewTask(new_task_id(), "x"))
        await store.request_cancel(task.task_id)
    query = "SELECT offer FROM events"
    if store_url.startswith("sqlite"):
        with closing(sqlite3.connect(store_url.removeprefix("sqlite:///"))) as conn:
            offers = [offer for (offer,) in conn.execute(query)]
    else:
        async with session(store_url) as raw:
            offers = [offer for (offer,) in await raw.fetch(query)]

    assert offers == [FIRST_FOREIGN_OFFER]
