"""Who may do what over HTTP: a caller has grants, each of a scope, for all tasks or for some."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self

from tapescope.errors import BadSetting
from tapescope.model.tasks import is_op, is_tag

__all__ = ["Caller", "Grant", "Scope"]

_TAG: Final = "tag="
"""What a tag is said with; no op has such a sign in it."""


class Scope(StrEnum):
    """What a grant lets its caller do: a closed set."""

    READ = "read"
    """See tasks, their tapes and their late events."""
    SUBMIT = "submit"
    """Submit tasks, and ended ones again."""
    CANCEL = "cancel"
    """Cancel tasks."""
    ADMIN = "admin"
    """All of that for every op, audit the store, and change what outlives the caller's token and
    is of everybody: schedules, pauses of ops, drains of workers."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One scope, for the tasks of one op, for those with one tag, or (neither) for all.

    Raises ``BadSetting`` for a grant of both.
    """

    scope: Scope
    op: str | None = None
    tag: str | None = None

    def __post_init__(self) -> None:
        """An op *and* a tag would be read as what it is not: either of them."""
        if self.op is not None and self.tag is not None:
            raise BadSetting("scope", str(self), "of an op or of a tag, not of both")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``read``, ``submit:resize`` or ``cancel:tag=team-a``. Raises ``BadSetting``."""
        word, colon, of = text.partition(":")
        tag = of.removeprefix(_TAG) if of.startswith(_TAG) else None
        try:
            scope = Scope(word)
        except ValueError:
            scope = None
        sound = is_op(of) if tag is None else is_tag(tag)
        if scope is None or (colon and (scope is Scope.ADMIN or not sound)):
            raise BadSetting(
                "scope",
                text,
                "read, submit, cancel or admin; the first three may name an op, submit:resize, or "
                "a tag, submit:tag=team-a",
            )
        return cls(scope, of if colon and tag is None else None, tag)

    def __str__(self) -> str:
        of = self.op if self.tag is None else f"{_TAG}{self.tag}"
        return self.scope.value if of is None else f"{self.scope.value}:{of}"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and what that caller may do."""

    name: str | None
    """Who acts, for the log and for the tape of what is cancelled; ``None`` where nobody asked."""
    grants: frozenset[Grant]

    @classmethod
    def of(cls, name: str | None, grants: Iterable[Grant | Scope | str]) -> Self:
        """With grants in any of their forms. Raises ``BadSetting``."""
        return cls(
            name, frozenset(g if isinstance(g, Grant) else Grant.parse(str(g)) for g in grants)
        )

    def find_ops(self, scope: Scope) -> frozenset[str] | None:
        """The ops for all of whose tasks the caller has the scope, perhaps none; ``None``: every
        op."""
        ops = {
            None if one.scope is Scope.ADMIN else one.op
            for one in self.grants
            if one.scope is Scope.ADMIN or (one.scope is scope and one.tag is None)
        }
        return None if None in ops else frozenset(op for op in ops if op is not None)

    def find_tags(self, scope: Scope) -> frozenset[str]:
        """The tags for whose tasks, of whatever op, the caller has the scope."""
        return frozenset(
            one.tag for one in self.grants if one.scope is scope and one.tag is not None
        )

    def has(self, scope: Scope) -> bool:
        """Whether the caller has the scope for anything at all."""
        return self.find_ops(scope) != frozenset() or bool(self.find_tags(scope))

    def may(self, scope: Scope, op: str | None = None, tags: Iterable[str] = ()) -> bool:
        """Whether the caller has the scope for a task of this op with these tags.

        Without tags for all tasks of the op, and without an op for all of the store.
        """
        ops = self.find_ops(scope)
        if ops is None or (op is not None and op in ops):
            return True
        return not self.find_tags(scope).isdisjoint(tags)
