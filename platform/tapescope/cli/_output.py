"""Writing for people and for programs: messages go to stderr, the answer goes to stdout."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import orjson

from tapescope.cli._secrets import hide_secrets

__all__ = ["make_printable", "on_terminal", "print_json", "print_line", "say", "write_json"]


def say(message: str) -> None:
    """One line of tapescope's own on stderr, whatever the message holds."""
    line = make_printable(hide_secrets(" ".join(message.split())))
    with suppress(OSError):  # stderr is gone: there is nowhere left to say it
        print(f"tapescope: {line}", file=sys.stderr, flush=True)


def print_line(line: str) -> None:
    """A line of the answer, at once: it may be read by a program as it comes."""
    print(line, flush=True)


def print_json(value: Any) -> None:
    """A JSON value and a newline, at once."""
    write_json(orjson.dumps(value) + b"\n")
    sys.stdout.buffer.flush()


def write_json(text: bytes) -> None:
    """JSON text, which is UTF-8 whatever the terminal's encoding."""
    sys.stdout.buffer.write(text)


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def make_printable(text: str) -> str:
    """Text that cannot move a terminal's cursor, change its colours or end the line."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )
