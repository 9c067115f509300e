"""tapescope, as an application has it: one manager, telemetry off."""

from __future__ import annotations

import asyncio

from _race import Race, read, submit_in_turn, tell, time_it

from tapescope import Reporter, Submission, TaskHandle, TaskManager

EVENTS = 10


async def do_nothing(_: Reporter) -> None:
    """A task without events of its own."""


async def report_events(report: Reporter) -> None:
    """A task whose every event is durable before the next."""
    for _ in range(EVENTS):
        await report.emit("step", {"at": 1})


async def main() -> None:
    """Run the race, and tell."""
    race = read()
    url = race.database if "://" in race.database else f"sqlite:///{race.database}"
    runner = report_events if race.work == "events" else do_nothing
    async with TaskManager(url, max_running=race.cap) as manager:

        async def run(part: Race) -> None:
            handles: list[TaskHandle] = []
            if part.work == "bulk":
                handles = await manager.submit_many([Submission("race", runner)] * part.tasks)
            else:

                async def submit(_: int) -> None:
                    handles.append(await manager.submit("race", runner))

                await submit_in_turn(submit, part)
            for handle in handles:
                await handle.result()

        took = await time_it(run, race)
    tell(took, f"max_running={race.cap}, asyncio", "every write synced; guards and counters on")


asyncio.run(main())
