"""``wait_shielded``: what a caller does that was cancelled and must end what it has begun."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

__all__ = ["EXITS", "raise_defect", "wait_shielded"]

EXITS: Final = (KeyboardInterrupt, SystemExit)
"""What tells the process to end, wherever it stands. asyncio raises it out of the loop, at once."""


def raise_defect(ended: asyncio.Task[None]) -> None:
    """Raise what ended a task that never raises: in its callback, the loop's handler hears of it.

    Not what tells the process to end, which the loop has raised: once more, and what still cleans
    up in the loop would be left as it stands.
    """
    if not ended.cancelled() and not isinstance(ended.exception(), EXITS):
        ended.result()


async def wait_shielded(work: asyncio.Future[Any]) -> None:
    """Wait for the end of ``work``, whatever cancels come; raise nothing.

    For a caller that has been cancelled, and raises its ``CancelledError`` after that. anyio
    cancels a task of a cancelled scope again with each turn of the loop, and keeps the loop from
    sleeping, until the task has left the scope or stands in one that is shielded.
    """
    while not work.done():
        with suppress(asyncio.CancelledError), _shield_from_anyio():  # the caller raises its first
            await asyncio.wait([work])


def _shield_from_anyio() -> AbstractContextManager[Any]:
    """A shielded scope, where the program uses anyio: tapescope itself does not."""
    scope: Any = getattr(sys.modules.get("anyio"), "CancelScope", None)
    shield: AbstractContextManager[Any] = nullcontext() if scope is None else scope(shield=True)
    return shield
