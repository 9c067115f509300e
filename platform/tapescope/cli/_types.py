"""What the values of options are, and what is said of a value that is none of them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, TypeVar

import click

__all__ = ["NUMBER", "WHOLE_NUMBER", "Words"]

Word = TypeVar("Word", bound=StrEnum)


class _Number(click.ParamType[float]):
    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The text as a number; what range it has is checked where it is used."""
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)


class _WholeNumber(click.ParamType[int]):
    name = "whole number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The text as a whole number."""
        try:
            return int(value)
        except ValueError:
            self.fail(f"{value!r} is not a whole number", param, ctx)


class Words(click.Choice[Word]):
    """One of the values of an enum, in upper or lower case."""

    def __init__(self, words: type[Word]) -> None:
        super().__init__(words, case_sensitive=False)

    def normalize_choice(self, choice: object, ctx: click.Context | None) -> str:
        """By its value; click itself takes the name."""
        return str(choice).casefold()


NUMBER: Final = _Number()
WHOLE_NUMBER: Final = _WholeNumber()
