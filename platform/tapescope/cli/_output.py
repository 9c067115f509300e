"""Writing for people and for programs: messages go to stderr, the answer goes to stdout."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from typing import Any, Final

import orjson

from tapescope.cli._secrets import hide_secrets
from tapescope.model.showing import make_printable

__all__ = [
    "can_show",
    "escape_json",
    "make_printable",
    "on_terminal",
    "print_json",
    "print_line",
    "say",
    "write_json",
]

_STEERING: Final = re.compile(
    "[\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What JSON allows in a text and a terminal may obey: DEL, C1 (ECMA-48), the marks of Unicode's
bidirectional algorithm (UAX 9), line separators, and characters that show nothing."""


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
    """JSON text, which is UTF-8 whatever the terminal's encoding.

    What could steer a terminal is escaped: the value that a program reads of it is the same.
    """
    if not text.isascii() or b"\x7f" in text:
        text = escape_json(text.decode()).encode()
    sys.stdout.buffer.write(text)


def escape_json(text: str) -> str:
    """JSON text that says the same, without characters that could steer a terminal."""
    return _STEERING.sub(_escape_in_json, text)


def on_terminal() -> bool:
    """Whether a person reads stdout."""
    return sys.stdout.isatty()


def can_show(text: str) -> bool:
    """Whether stdout's encoding has these characters."""
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return False
    return True


def _escape_in_json(found: re.Match[str]) -> str:
    """``\\uXXXX``; twice, as surrogates, for what is past the first 65,536 characters."""
    code = found[0].encode("utf-16-be").hex()
    return "".join(f"\\u{code[place : place + 4]}" for place in range(0, len(code), 4))
