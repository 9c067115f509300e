"""A process that dies, and is started anew, again and again."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from tapescope.drills.errors import ChildSilent
from tapescope.drills.scene import Scene

__all__ = ["crash_again"]

_STARTS: Final = 4
"""As many as the alert asks for: each replaces the one before, and the first one the drill."""
_SEEN_WITHIN: Final = 60.0
"""Seconds: the longest scrape interval that is usual."""
_SERVED: Final = re.compile(rb"(http://\S+)\s*$")
_PROGRAM: Final = ("-m", "tapescope.cli", "exporter", "--port", "0")


@asynccontextmanager
async def crash_again(scene: Scene) -> AsyncGenerator[str]:
    """Exporters of the store that are killed, each after a scrape; the drill's port is theirs.

    Raises ``ChildSilent``.
    """
    child: Process | None = None
    try:
        for _ in range(_STARTS):
            await _kill(child)
            child = await _start(scene)
            await scene.listener.wait_for_scrape(_SEEN_WITHIN)
        yield f"a process on this port was killed, and began anew, {_STARTS} times"
    finally:
        scene.listener.relay(None)
        await _kill(child)


async def _start(scene: Scene) -> Process:
    """A process that is scraped instead of this one, from the moment that it listens."""
    # Not on its command line: anybody on this host may read that, and the URL may have a password.
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *_PROGRAM,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env={**os.environ, "TAPESCOPE_STORE": scene.url},
    )
    assert child.stderr is not None
    said = await child.stderr.readline()
    served = _SERVED.search(said)
    if served is None:
        await _kill(child)
        raise ChildSilent(said.decode(errors="replace").strip())
    scene.listener.relay(served[1].decode())
    return child


async def _kill(child: Process | None) -> None:
    if child is not None and child.returncode is None:
        child.kill()
        await child.wait()
