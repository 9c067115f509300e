"""The errors: their tree, and how they leave a process."""

from __future__ import annotations

import asyncio
import re

from tapescope import errors
from tapescope.errors import TapescopeError

ROW = re.compile(r"^( *)[*x+] ([\w.]+)$", re.MULTILINE)


def draw_tree() -> list[str]:
    """The tree as the classes have it, each level in the order in which they are defined."""
    classes = [getattr(errors, name) for name in errors.__all__]
    classes.sort(key=lambda kind: list(vars(errors)).index(kind.__name__))
    lines: list[str] = []

    def draw(kind: type[BaseException], name: str, depth: int) -> None:
        lines.append(f"{'  ' * depth}{'*x+'[depth]} {name}")
        for child in classes:
            if kind in child.__bases__:
                draw(child, child.__name__, depth + 1)

    draw(TapescopeError, "TapescopeError", 0)
    draw(asyncio.CancelledError, "asyncio.CancelledError", 0)
    return lines


def test_the_drawn_tree_is_that_of_the_classes() -> None:
    """The tree at the top of the module has every error, under the error that it derives from."""
    drawn = [row.group() for row in ROW.finditer(str(errors.__doc__))]

    assert drawn == draw_tree()
    assert {row.group(2) for row in ROW.finditer(str(errors.__doc__))} == {
        *errors.__all__,
        "asyncio.CancelledError",
    }
