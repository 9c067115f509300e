"""The errors: their tree, and how they leave a process."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import re
from collections.abc import Mapping
from typing import Any

import pytest

from tapescope import CancelReason, DropReason, ErrorInfo, errors
from tapescope.errors import TapescopeError

EXAMPLES: Mapping[str, Any] = {
    "CancelReason": CancelReason.USER,
    "DropReason": DropReason.STALE_ATTEMPT,
    "ErrorInfo": ErrorInfo("timeout", "too long"),
    "Sequence[str]": ("a", "b"),
    "bool": True,
    "float": 1.5,
    "float | None": 1.5,
    "int": 3,
    "object": "an object",
    "str": "a text",
    "str | None": "another text",
}
"""An argument of each type that an error is built from."""

ROW = re.compile(r"^( *)[*x+] ([\w.]+)$", re.MULTILINE)


def make_example(name: str) -> BaseException:
    """An error of this name, built from an example of each of its arguments."""
    kind: type[BaseException] = getattr(errors, name)
    ours = [base for base in kind.__mro__ if base.__module__ == errors.__name__]
    if not any("__init__" in vars(base) for base in ours):
        return kind("a message")  # a class that only groups others
    parameters = inspect.signature(kind).parameters.values()
    return kind(**{one.name: EXAMPLES[one.annotation] for one in parameters})


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


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_goes_from_process_to_process(name: str) -> None:
    """A copied or unpickled error has its message and its arguments as they were."""
    error = make_example(name)
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert (str(other), other.args) == (str(error), error.args)
        assert vars(other) == vars(error)
