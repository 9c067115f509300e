"""Words of closed sets, as a row has them: one that a newer version added is carried."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

__all__ = ["carry"]

_E = TypeVar("_E", bound=StrEnum)


def carry(kind: type[_E], word: str) -> _E:
    """The member of ``kind`` that ``word`` names, or one beside them that says the same.

    For what is read: ``kind(word)`` refuses a word that this version does not know, as a setting
    or an argument should be, but while a fleet is upgraded a newer version has already written it.
    What is carried equals its word, and is none of ``list(kind)``.
    """
    known = kind._value2member_map_.get(word)
    if known is not None:
        return kind(word)
    carried = str.__new__(kind, word)
    carried._name_ = carried._value_ = str(word)
    return carried
