"""A guard of the product, as the table has it: what it holds, how it is removed, what notices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

__all__ = [
    "ADAPTERS",
    "MANAGER",
    "POSTGRES",
    "ROOT",
    "RUN",
    "SHELL",
    "SQLITE",
    "STORE",
    "TAPESCOPE",
    "TELEMETRY",
    "Edit",
    "EditError",
    "Guard",
    "Kind",
    "mutate",
    "row",
]

ROOT: Final = Path(__file__).parents[2]
"""The tree that the table speaks of."""

TAPESCOPE: Final = "platform/tapescope"
RUN: Final = f"{TAPESCOPE}/run"
STORE: Final = f"{TAPESCOPE}/store"
MANAGER: Final = f"{TAPESCOPE}/manager"
SHELL: Final = f"{TAPESCOPE}/shell"
ADAPTERS: Final = "adapters/tapescope_adapters"
SQLITE: Final = f"{ADAPTERS}/sqlite"
POSTGRES: Final = f"{ADAPTERS}/postgres"
TELEMETRY: Final = "telemetry/tapescope_telemetry"

Kind = Literal["memory", "sqlite", "postgresql"]


class EditError(Exception):
    """An edit of the table does not fit the tree: the source has changed."""

    def __init__(self, edit: Edit, found: int) -> None:
        times = {0: "is not there"}.get(found, f"stands there {found} times, not once")
        super().__init__(
            f"{edit.file}: what the edit removes {times}: {edit.old!r}. Mend the row of the table."
        )


@dataclass(frozen=True, slots=True)
class Edit:
    """A text that stands in a file exactly once, and what takes its place."""

    file: str
    """From the root of the tree."""
    old: str
    new: str = ""
    pattern: bool = False
    """Whether ``old`` is a regular expression; in it ``.`` is any character, the end of a line,
    too, and ``^`` and ``$`` are those of a line."""

    def find(self, text: str) -> tuple[int, int]:
        """Where ``old`` begins and ends in the file's text. Raises ``EditError``."""
        pattern = self.old if self.pattern else re.escape(self.old)
        found = [match.span() for match in re.finditer(pattern, text, re.DOTALL | re.MULTILINE)]
        if len(found) != 1:
            raise EditError(self, len(found))
        return found[0]

    def apply(self, text: str) -> str:
        """The file's text without the guard. Raises ``EditError``."""
        begin, end = self.find(text)
        return text[:begin] + self.new + text[end:]

    def lines(self, root: Path = ROOT) -> range:
        """The lines of the file that it touches, from 1. Raises ``EditError``."""
        text = read(root / self.file)
        begin, end = self.find(text)
        return range(text.count("\n", 0, begin) + 1, text.count("\n", 0, max(begin, end - 1)) + 2)


@dataclass(frozen=True, slots=True)
class Guard:
    """One row of the table."""

    name: str
    """The room, a dot, and a word for it."""
    holds: str
    """What it holds: an invariant, or a promise in words."""
    edits: tuple[Edit, ...]
    """How it is removed."""
    tests: tuple[str, ...]
    """The nearest tests, as pytest names them: one of them must fail without it."""
    on: Kind = "sqlite"
    """The store on which a task must still run without it, or the edit has broken more than the
    guard; see ``vital``. Of tests that run on each store those on this one are run."""
    vital: bool = False
    """Nothing runs at all without it: that is what notices."""
    held_by: str = ""
    """The name of another guard that holds the same: the two are removed together."""

    @property
    def mark(self) -> str:
        """Changes with the row: a result is of one mark."""
        return sha256(repr(self).encode()).hexdigest()[:16]


def row(
    name: str,
    holds: str,
    edits: Edit | tuple[Edit, ...],
    *tests: str,
    on: Kind = "sqlite",
    vital: bool = False,
    held_by: str = "",
) -> Guard:
    """A row, as the table writes it."""
    edits = edits if isinstance(edits, tuple) else (edits,)
    return Guard(name, holds, edits, tests, on, vital, held_by)


def mutate(guard: Guard, table: Mapping[str, Guard], root: Path = ROOT) -> dict[str, str]:
    """The files without this guard, and without the one that holds the same, by their names.

    Raises ``EditError``.
    """
    edits = guard.edits
    if guard.held_by:
        edits += table[guard.held_by].edits
    texts: dict[str, str] = {}
    for edit in edits:
        text = texts.get(edit.file) or read(root / edit.file)
        texts[edit.file] = edit.apply(text)
    return texts


@cache
def read(file: Path) -> str:
    """The text of a file of the tree, which nothing changes meanwhile."""
    return file.read_text(encoding="utf-8")
