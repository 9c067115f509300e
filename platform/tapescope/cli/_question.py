"""The question before a command changes many tasks at once."""

from __future__ import annotations

import asyncio
import sys

import click

from tapescope.errors import TapescopeError

__all__ = ["NotConfirmed", "confirm", "yes_option"]

yes_option = click.option(
    "--yes", "-y", is_flag=True, help="Do not ask first; needed where nobody can be asked."
)


class NotConfirmed(TapescopeError):
    """Nobody said yes to a change of many tasks."""

    def __init__(self, what: str, *, asked: bool) -> None:
        self.what = what
        super().__init__(
            "Nothing was changed."
            if asked
            else f"{what}? Nobody can be asked here: add --yes to do it. Nothing was changed."
        )


async def confirm(what: str, *, yes: bool) -> None:
    """Ask on the terminal, unless ``yes`` was said beforehand. Raises ``NotConfirmed``."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotConfirmed(what, asked=False)
    print(f"{what}? [y/N] ", end="", file=sys.stderr, flush=True)
    await _wait_for_a_line(sys.stdin.fileno())
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed(what, asked=True)


async def _wait_for_a_line(terminal: int) -> None:
    """A terminal can be read once a line was typed, or its end; meanwhile the loop goes on."""
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(terminal, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(terminal)
