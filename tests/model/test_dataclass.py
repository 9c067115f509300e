"""``tapescope.model.dataclass`` makes what ``dataclasses.dataclass`` makes, for less at import."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
from collections.abc import Callable
from dataclasses import field
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from tapescope.model.dataclass import dataclass

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Ours:
    """Has every kind of field that a class of ours may have."""

    name: str
    size: int = 1
    parts: list[Any] = field(default_factory=list[Any])
    hidden: int = field(default=2, repr=False, compare=False)
    fixed: int = field(default=3, init=False)
    made: dict[str, int] = field(default_factory=dict[str, int], init=False, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Theirs:
    """The same of the standard library."""

    name: str
    size: int = 1
    parts: list[Any] = field(default_factory=list[Any])
    hidden: int = field(default=2, repr=False, compare=False)
    fixed: int = field(default=3, init=False)
    made: dict[str, int] = field(default_factory=dict[str, int], init=False, compare=False)


@dataclass(slots=True)
class OurOpen:
    """Can be changed; checks itself; its last field is nobody's until it is set."""

    size: int
    left: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(self.size)


@dataclasses.dataclass(slots=True)
class TheirOpen:
    """The same of the standard library."""

    size: int
    left: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ValueError(self.size)


def make_pair(kind: type[Any], *arguments: Any) -> tuple[Any, Any]:
    """Two equal instances, and no more than equal."""
    return kind(*arguments), kind(*arguments)


def make_circle(kind: type[Any]) -> Any:
    """An instance that has itself in it."""
    made = kind("a")
    made.parts.append(made)
    return made


def change(one: Any) -> Any:
    """What a field of an instance is once it is set."""
    one.size = 2
    return one.size


def subclass(kind: type[Any]) -> Any:
    """An instance of a class beneath, with slots and without a field more."""
    beneath = type("Beneath", (kind,), {"__slots__": ()})
    return beneath("a", 5)


def match(value: Any) -> Any:
    """What a pattern by place finds."""
    match value:
        case Ours(name, size) | Theirs(name, size):
            return name, size
        case _:
            return None


ASKED: dict[str, Callable[[type[Any], type[Any]], Any]] = {
    "repr": lambda frozen, _: repr(frozen("a", 5)),
    "repr of a circle": lambda frozen, _: repr(make_circle(frozen)),
    "repr of a subclass": lambda frozen, _: repr(subclass(frozen)),
    "signature": lambda frozen, plain: (str(signature(frozen)), str(signature(plain))),
    "signature of init": lambda frozen, _: (frozen("a"), str(signature(frozen.__init__)))[1],
    "annotations": lambda frozen, _: (frozen("a"), frozen.__init__.__annotations__)[1],
    "equal": lambda frozen, plain: [
        one == other for one, other in (make_pair(frozen, "a"), make_pair(plain, 1))
    ],
    "not equal": lambda frozen, _: [frozen("a") == frozen("a", 2), frozen("a") == "a"],
    "not compared": lambda frozen, _: frozen("a", 1, [], 7) == frozen("a", 1, [], 8),
    "of another class": lambda frozen, _: subclass(frozen) == frozen("a", 5),
    "hash": lambda frozen, _: len({*make_pair(frozen, "a", 1, ())}),
    "hash of a list": lambda frozen, _: hash(frozen("a")),
    "hash of an open one": lambda _, plain: hash(plain(1)),
    "set": lambda frozen, _: setattr(frozen("a"), "size", 2),
    "delete": lambda frozen, _: delattr(frozen("a"), "size"),
    "set on a subclass": lambda frozen, _: setattr(subclass(frozen), "size", 2),
    "set on an open one": lambda _, plain: change(plain(1)),
    "misspelt on an open one": lambda _, plain: setattr(plain(1), "sise", 2),
    "missing": lambda frozen, _: frozen(),
    "missing the second time": lambda frozen, _: (frozen("a"), frozen()),
    "too many": lambda frozen, _: frozen("a", 1, [], 2, 3),
    "unknown": lambda frozen, _: frozen("a", sise=1),
    "not set yet": lambda _, plain: plain(1).left,
    "checked": lambda _, plain: plain(-1),
    "own list": lambda frozen, _: (a := frozen("a"), a.parts.append(1), frozen("a").parts)[2],
    "fields": lambda frozen, _: [(f.name, f.type, f.init) for f in dataclasses.fields(frozen)],
    "replaced": lambda frozen, _: repr(dataclasses.replace(frozen("a"), size=9)),
    "as a dict": lambda frozen, _: dataclasses.asdict(frozen("a")),
    "pickled": lambda frozen, _: repr(pickle.loads(pickle.dumps(frozen("a", 1, [2])))),
    "copied": lambda frozen, _: repr(copy.deepcopy(frozen("a", 1, [2]))),
    "matched": lambda frozen, _: match(frozen("a", 7)),
    "beneath a plain one": lambda frozen, _: dataclasses.dataclass(type("Open", (frozen,), {})),
    "slots": lambda frozen, plain: (frozen.__slots__, plain.__slots__),
}
"""What a caller may do with such a class, on a frozen one and on one that is not."""


def tell(asked: Callable[[type[Any], type[Any]], Any], *kinds: type[Any]) -> str:
    """The answer, or the error with its text, with the names of the classes made alike."""
    try:
        answer = repr(asked(*kinds))
    except Exception as error:  # noqa: BLE001  # any: it is what is compared
        answer = repr(error)
    for kind in kinds:
        answer = answer.replace(kind.__name__, "It")
    return answer


@pytest.mark.parametrize("asked", ASKED)
def test_it_is_what_the_standard_library_makes(asked: str) -> None:
    """A class answers, and refuses, in the words of the standard library's."""
    assert tell(ASKED[asked], Ours, OurOpen) == tell(ASKED[asked], Theirs, TheirOpen)


def test_a_misspelt_name_is_refused_as_a_fields_is() -> None:
    """The standard library's error for it, of ``super``, says nothing of it before Python 3.14."""
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'sise'"):
        Ours("a").sise = 2  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # the point of the test


def find_naming(module: str) -> set[str]:
    """Our modules that take ``dataclass`` from this one."""
    line = re.compile(rf"^ *from {re.escape(module)} import .*\bdataclass\b", re.MULTILINE)
    return {
        ".".join(path.relative_to(ROOT / root).with_suffix("").parts)
        for root in ("platform", "adapters", "telemetry")
        for path in (ROOT / root).rglob("*.py")
        if line.search(path.read_text(encoding="utf-8"))
    }


def find_ours() -> set[type[Any]]:
    """Every dataclass of our packages."""
    naming = find_naming("tapescope.model.dataclass")
    values = [value for name in naming for value in vars(import_module(name)).values()]
    return {v for v in values if isinstance(v, type) and dataclasses.is_dataclass(v)}


def copy_fields(kind: type[Any]) -> type[Any]:
    """A class of the standard library with the same fields."""
    names = ("default", "default_factory", "init", "repr", "hash", "compare")
    return dataclasses.make_dataclass(
        kind.__name__,
        [
            (one.name, one.type, field(**{name: getattr(one, name) for name in names}))
            for one in dataclasses.fields(kind)
        ],
    )


def test_every_class_of_ours_takes_what_its_fields_say() -> None:
    """``help`` and ``inspect.signature`` say of each what they would say of the standard's."""
    ours = find_ours()

    assert len(ours) > 60
    for kind in ours:
        assert str(signature(kind)) == str(signature(copy_fields(kind))), kind


def test_no_module_of_ours_takes_the_standard_librarys() -> None:
    """There is one way to make a dataclass in our packages; its module alone names the other."""
    assert find_naming("dataclasses") == {"tapescope.model.dataclass"}
