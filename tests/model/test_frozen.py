"""Frozen values that are quickly made are as the standard library makes them."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, replace
from typing import Any, Generic, TypeVar

import pytest

from tapescope.model.frozen import quickly_made
from tapescope.model.tasks import Attempt, NewTask

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Usual(Generic[T]):
    """What the standard library makes."""

    name: str
    value: T
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    key: int = field(default=0, repr=False, compare=False)


@quickly_made
@dataclass(frozen=True, slots=True)
class Quick(Generic[T]):
    """The same, made quickly."""

    name: str
    value: T
    params: dict[str, Any] = field(default_factory=dict[str, Any])
    key: int = field(default=0, repr=False, compare=False)


def test_a_quickly_made_object_is_as_the_usual_one() -> None:
    """Fields, defaults, equality, copies and the way it is called are the same."""
    quick, usual = Quick("a", 1), Usual("a", 1)

    assert repr(quick) == repr(usual).replace("Usual", "Quick")
    assert type(quick) is Quick
    assert quick == Quick("a", 1, {}, key=7) != Quick("b", 1)
    assert quick.params is not Quick("a", 1).params
    assert replace(quick, key=3).key == 3
    assert copy.deepcopy(quick) == quick
    assert inspect.signature(Quick).parameters.keys() == inspect.signature(Usual).parameters.keys()
    with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required positional argument"):
        Quick("a")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # the very test


def test_a_quickly_made_object_is_frozen() -> None:
    """No field of it can be set or deleted, and no other one added."""
    task = NewTask("id", "op")

    with pytest.raises(FrozenInstanceError):
        task.op = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]  # the very test
    with pytest.raises(FrozenInstanceError):
        del task.op  # pyright: ignore[reportAttributeAccessIssue]  # as above
    with pytest.raises((AttributeError, TypeError)):
        task.other = 1  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # as above
    assert pickle.loads(pickle.dumps(task)) == task
    assert hash(Attempt("id", 1, "owner")) == hash(Attempt("id", 1, "owner"))
