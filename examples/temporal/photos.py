"""An application whose tasks Temporal brings: one op."""

from __future__ import annotations

import asyncio
import os

from tapescope import Reporter, TaskManager
from tapescope_adapters.temporal import TemporalEngine

manager = TaskManager(
    os.environ.get("PHOTOS_STORE", "postgresql://app@localhost/photos"),
    engine=TemporalEngine(os.environ.get("PHOTOS_ENGINE", "temporal://"), heartbeat=5.0),
    lease=5.0,
    heartbeat=1.0,
    drain=5.0,
)


@manager.op("resize", retries=3, max_running=4)
async def resize(report: Reporter, pictures: int) -> int:
    """Make pictures smaller, and say how far it is."""
    for done in range(pictures):
        await report.progress("pictures", done, pictures)
        await asyncio.sleep(0.2)
    return pictures
