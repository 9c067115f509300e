"""Who may do what over HTTP: a caller has grants, each of a scope, for every op or for one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from tapescope.errors import BadSetting
from tapescope.model.tasks import is_op

__all__ = ["Caller", "Grant", "Scope"]


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
    """One scope, for the tasks of one op or (``None``) of every op."""

    scope: Scope
    op: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``read`` or ``submit:resize``. Raises ``BadSetting``."""
        word, colon, op = text.partition(":")
        try:
            scope = Scope(word)
        except ValueError:
            scope = None
        if scope is None or (colon and (scope is Scope.ADMIN or not is_op(op))):
            raise BadSetting(
                "scope",
                text,
                "read, submit, cancel or admin; the first three may name an op: submit:resize",
            )
        return cls(scope, op if colon else None)

    def __str__(self) -> str:
        return self.scope.value if self.op is None else f"{self.scope.value}:{self.op}"


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
        """The ops for which the caller has the scope, perhaps none; ``None``: every op."""
        ops = {
            None if one.scope is Scope.ADMIN else one.op
            for one in self.grants
            if one.scope in (scope, Scope.ADMIN)
        }
        return None if None in ops else frozenset(op for op in ops if op is not None)

    def may(self, scope: Scope, op: str | None = None) -> bool:
        """Whether the caller has the scope for this op; without one, for every op."""
        ops = self.find_ops(scope)
        return ops is None or (op is not None and op in ops)
