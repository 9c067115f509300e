"""The codec: what it writes comes back equal, and all else is refused."""

from __future__ import annotations

import collections
import datetime
import decimal
import uuid
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple

import orjson
import pytest

from tapescope.codec import decode, encode
from tapescope.errors import NotJson


class Colour(Enum):
    """Members that are not what they hold."""

    RED = "red"
    NAN = float("nan")


class Word(StrEnum):
    """Members that are texts."""

    ONE = "one"


class Size(IntEnum):
    """Members that are numbers."""

    BIG = 3


class Share(float, Enum):
    """Numbers, one of which is none."""

    HALF = 0.5
    NAN = float("nan")


class Trap(StrEnum):
    """Texts whose value cannot be had: asked for it, orjson ends the process."""

    ONE = "one"

    @property
    def value(self) -> str:
        """No value."""
        raise RuntimeError("no value")


class Named(NamedTuple):
    """A tuple with names, which a list does not have."""

    x: int


def nest(depth: int) -> list[Any]:
    """Lists in lists."""
    outer: list[Any] = []
    inner = outer
    for _ in range(depth):
        inner.append([])
        inner = inner[0]
    return outer


RING: dict[str, Any] = {}
RING["ring"] = RING


EQUAL: list[Any] = [
    Word.ONE,
    Size.BIG,
    Share.HALF,
    Trap.ONE,
    [Word.ONE, {"a": [Size.BIG]}],
    {Word.ONE: 1},
    collections.OrderedDict(a=1, b=[None]),
    collections.defaultdict(int, a=1),
    {"deep": nest(200)},
    {"null": None, "text": "null"},
]


@pytest.mark.parametrize("value", EQUAL, ids=lambda value: type(value).__name__)
def test_what_is_written_comes_back_equal(value: Any) -> None:
    """A class derived from text, a number, a list or an object is what it equals."""
    assert decode(encode(value, "event")) == value


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Colour.NAN,
        Share.NAN,
        {"deep": [Share.NAN]},
        [Colour.RED],
        uuid.UUID(int=1),
        orjson.Fragment(b"}{"),
        Named(1),
        datetime.date(2026, 1, 31),
        decimal.Decimal(1),
        {Word.ONE: 1, 2: 3},
        {1, 2},
        b"bytes",
        bytearray(b"bytes"),
        memoryview(b"bytes"),
        1j,
        ...,
        object(),
        nest(300),
        nest(5_000),
        RING,
        [Word.ONE, RING],
        2**64,
        float("inf"),
        "\ud800",
        "nul \0",
        Word,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_come_back_as_another_is_refused(value: Any) -> None:
    """It is the caller's error, and never a crash, a ``null`` or a text that is not JSON."""
    with pytest.raises(NotJson):
        encode(value, "event")
