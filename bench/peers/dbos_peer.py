# /// script
# requires-python = ">=3.11"
# dependencies = ["dbos==3.4.0"]
# ///
"""DBOS, on PostgreSQL and on SQLite: workflows of async functions, each step of them durable.

Workflows are started directly, without a queue: that is its fastest way, and it has no bulk submit.
"""

from __future__ import annotations

import asyncio
import sys

from _race import Race, read, submit_in_turn, tell, time_it, until
from dbos import DBOS

EVENTS = 10


@DBOS.step()
async def step() -> int:
    """What is recorded of a workflow."""
    return 1


@DBOS.workflow()
async def do_nothing() -> int:
    """A workflow without steps."""
    return 1


@DBOS.workflow()
async def take_steps() -> int:
    """A workflow of ten steps."""
    for _ in range(EVENTS):
        await step()
    return 1


async def main() -> None:
    """Run the race, and tell."""
    race = read()
    if race.work == "bulk":
        sys.exit("DBOS has no bulk submit")
    workflow = take_steps if race.work == "events" else do_nothing
    is_file = "://" not in race.database
    url = f"sqlite:///{race.database}" if is_file else race.database
    DBOS(config={"name": "race", "system_database_url": url, "log_level": "ERROR"})
    DBOS.launch()

    async def run(part: Race) -> None:
        async def submit(_: int) -> None:
            await (await DBOS.start_workflow_async(workflow)).get_result()

        async def is_recorded() -> bool:
            return not await DBOS.list_workflows_async(status="PENDING", limit=1)

        await submit_in_turn(submit, part)
        await until(is_recorded)

    took = await time_it(run, race)
    DBOS.destroy()
    tell(
        took,
        "start_workflow_async, no queue, its default pool",
        "rollback journal, synchronous FULL" if is_file else "synchronous_commit on",
    )


asyncio.run(main())
