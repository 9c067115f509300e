"""Tables: fitted to a terminal's width in colours, plain lines of their full width elsewhere.

No id is ever cut: of the columns that may shrink, the widest gives first.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from tapescope.cli._output import can_show, make_printable, print_line

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Cell", "Column", "make_console", "measure_terminal", "print_table"]

_GAP: Final = 2
_NARROWEST_TEXT: Final = 24
"""Cells that a column of running text has, however narrow the terminal is."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading, and what may be done to make it fit."""

    name: str
    shrinks_to: int | None = None
    """The cells that it may be cut down to; ``None``: it is never cut."""
    wraps: bool = False
    """Whether its text goes on in the next line."""


class Cell(NamedTuple):
    """A text and its style on a terminal."""

    text: str
    style: str = ""


def make_console() -> Console:
    """The terminal, for what rich draws there."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def measure_terminal() -> int:
    """The columns of the terminal: ``COLUMNS``, or as the terminal says, whatever its kind."""
    return shutil.get_terminal_size().columns


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str | Cell]],
    *,
    terminal: bool,
    wide: bool = False,
) -> None:
    """A table; on a terminal it is fitted to its width, unless it is to be ``wide``."""
    cells = [
        [Cell(make_printable(cell)) if isinstance(cell, str) else cell for cell in row]
        for row in rows
    ]
    if terminal:
        _print_on_terminal(columns, cells, None if wide else measure_terminal())
        return
    names = [Cell(column.name) for column in columns]
    widths = [max(len(cell.text) for cell in column) for column in zip(names, *cells, strict=True)]
    for row in (names, *cells):
        print_line(
            "  ".join(
                cell.text.ljust(width) for cell, width in zip(row, widths, strict=True)
            ).rstrip()
        )


def _print_on_terminal(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], room: int | None
) -> None:
    from rich.cells import cell_len
    from rich.text import Text

    names = [Cell(column.name, "bold") for column in columns]
    widths = [
        max(cell_len(cell.text) for cell in column) for column in zip(names, *rows, strict=True)
    ]
    if room is not None:
        texts = ([cell.text for cell in column] for column in zip(names, *rows, strict=True))
        least = [
            _least(column, width, cells)
            for column, width, cells in zip(columns, widths, texts, strict=True)
        ]
        _fit(widths, least, room)
    console = make_console()
    for row in (names, *rows):
        parts = [
            _break(cell.text, width, wraps=column.wraps)
            for cell, column, width in zip(row, columns, widths, strict=True)
        ]
        for place in range(max(map(len, parts))):
            line = Text()
            for cell, part, width in zip(row, parts, widths, strict=True):
                text = part[place] if place < len(part) else ""
                line.append(text, cell.style)
                line.append(" " * (width - cell_len(text) + _GAP))
            line.rstrip()
            console.print(line, soft_wrap=True)


def _least(column: Column, width: int, texts: Sequence[str]) -> int:
    """The cells that a column of this width must have: no word of running text is broken."""
    if column.wraps:
        longest = max((len(word) for text in texts for word in text.split()), default=0)
        return min(width, max(longest, _NARROWEST_TEXT))
    return width if column.shrinks_to is None else min(width, column.shrinks_to)


def _fit(widths: list[int], least: Sequence[int], room: int) -> None:
    """Make the columns narrower that may be, until the table fits or none can give any more."""
    over = sum(widths) + _GAP * (len(widths) - 1) - room
    while over > 0:
        spare = [width - floor for width, floor in zip(widths, least, strict=True)]
        if max(spare) <= 0:
            return
        widths[spare.index(max(spare))] -= 1
        over -= 1


def _break(text: str, width: int, *, wraps: bool) -> list[str]:
    """The lines of a cell: more than one where its column wraps, else the text, cut if need be."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return [text]
    if wraps:
        import textwrap

        return textwrap.wrap(text, width) or [""]
    sign = "…" if can_show("…") else "~"
    return [set_cell_size(text, width - 1).rstrip() + sign]
