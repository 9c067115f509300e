# /// script
# requires-python = ">=3.11"
# dependencies = ["pgqueuer[asyncpg]==1.6.0"]
# ///
"""pgqueuer: a queue on PostgreSQL. A done job is deleted, with a row in its log; it has no steps.

Under uvloop, as its own command runs; the biggest batch that its cap on running jobs allows.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import asyncpg
import uvloop
from _race import Race, read, submit_in_turn, tell, time_it, until
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.models import Job
from pgqueuer.queries import Queries


async def main() -> None:
    """Run the race, and tell."""
    race = read()
    if race.work == "events":
        sys.exit("pgqueuer keeps no events of a job")
    async with asyncpg.create_pool(race.database, min_size=4, max_size=10) as pool:
        await Queries(AsyncpgPoolDriver(pool)).install()
        connection = await asyncpg.connect(race.database)
        worker = QueueManager(Queries(AsyncpgPoolDriver(pool)))
        queries = Queries(AsyncpgPoolDriver(pool))
        ran = 0

        @worker.entrypoint("race")
        async def do_nothing(_: Job) -> None:
            nonlocal ran
            ran += 1

        async def run(part: Race) -> None:
            nonlocal ran
            ran = 0
            if part.work == "bulk":
                count = part.tasks
                await queries.enqueue(["race"] * count, [None] * count, [0] * count)
            else:

                async def submit(_: int) -> None:
                    await queries.enqueue("race", None)

                await submit_in_turn(submit, part)

            async def is_recorded() -> bool:
                return ran >= part.tasks and not await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pgqueuer)"
                )

            await until(is_recorded)

        batch = race.cap // 2
        working = asyncio.create_task(worker.run(batch_size=batch, max_concurrent_tasks=race.cap))
        took = await time_it(run, race, working)
        worker.shutdown.set()
        with suppress(asyncio.CancelledError):
            await working
        await connection.close()
    tell(
        took,
        f"batch_size={batch}, max_concurrent_tasks={race.cap}, pool of 10, uvloop",
        "synchronous_commit on; ends are logged in batches, a crash may run those jobs again",
    )


uvloop.run(main())
