"""The event loop and the process that a store or a manager belongs to while it is open."""

from __future__ import annotations

import asyncio

import pytest

from tapescope.errors import UsedInAnotherLoop
from tapescope.store.home import Home


async def test_only_a_caller_in_the_same_loop_is_at_home() -> None:
    """A caller in another loop, or in none, is told so."""
    home = Home("store")
    home.check()

    async def check() -> None:
        home.check()

    for elsewhere in (lambda: asyncio.run(check()), home.check):
        with pytest.raises(UsedInAnotherLoop):
            await asyncio.to_thread(elsewhere)
