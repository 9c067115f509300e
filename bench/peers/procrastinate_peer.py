# /// script
# requires-python = ">=3.11"
# dependencies = ["procrastinate==3.10.0", "psycopg[binary]>=3.2"]
# ///
"""Procrastinate: a queue on PostgreSQL. A done job is a row with its status; it has no steps."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import psycopg
from _race import Race, read, submit_in_turn, tell, time_it, until
from procrastinate import App, PsycopgConnector


async def main() -> None:
    """Run the race, and tell."""
    race = read()
    if race.work == "events":
        sys.exit("Procrastinate keeps no events of a job")
    app = App(connector=PsycopgConnector(conninfo=race.database, min_size=4, max_size=20))
    ran = 0

    @app.task(name="race")
    async def do_nothing() -> None:
        nonlocal ran
        ran += 1

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        connection = await psycopg.AsyncConnection.connect(race.database, autocommit=True)

        async def run(part: Race) -> None:
            nonlocal ran
            ran = 0
            if part.work == "bulk":
                await do_nothing.batch_defer_async(*[{}] * part.tasks)
            else:

                async def submit(_: int) -> None:
                    await do_nothing.defer_async()

                await submit_in_turn(submit, part)

            async def is_recorded() -> bool:
                if ran < part.tasks:
                    return False
                found = await connection.execute(
                    "SELECT EXISTS (SELECT FROM procrastinate_jobs"
                    " WHERE status IN ('todo', 'doing'))"
                )
                row = await found.fetchone()
                return row is not None and not row[0]

            await until(is_recorded)

        working = asyncio.create_task(
            app.run_worker_async(concurrency=race.cap, install_signal_handlers=False)
        )
        took = await time_it(run, race, working)
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
        await connection.close()
    tell(took, f"concurrency={race.cap}, pool of 20", "synchronous_commit on")


asyncio.run(main())
