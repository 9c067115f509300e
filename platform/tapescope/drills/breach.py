"""A tape that breaks an invariant, on a scratch store."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing

from tapescope.drills.addresses import read_sqlite_path
from tapescope.drills.scene import Scene
from tapescope.maintenance.audit import audit_store
from tapescope.model.tape import LOG, NewEvent
from tapescope.model.tasks import FinalEvent

__all__ = ["break_tape"]


@asynccontextmanager
async def break_tape(scene: Scene) -> AsyncGenerator[str]:
    """A hole in a tape (I3), made with the guards off, and found by an audit.

    Only for a scratch store: its guards are gone for good.
    """
    attempt = await scene.claim()
    await scene.store.append(attempt, [NewEvent(LOG, n) for n in range(3)])
    await scene.store.finish_if_running(attempt, FinalEvent.succeeded())
    with closing(sqlite3.connect(read_sqlite_path(scene.url), isolation_level=None)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            raw.execute(f'DROP TRIGGER "{name}"')
        raw.execute("DELETE FROM events WHERE seq = 3")
    report = await audit_store(scene.store)
    rules = ", ".join(sorted({violation.rule.value for violation in report.violations}))
    yield f"an event was taken off a tape past the guards; the audit found: {rules}"
