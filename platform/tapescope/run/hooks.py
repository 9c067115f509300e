"""Hooks around a run: async functions, nested like calls, each around those after it.

A hook is part of the attempt, as the runner is: what it raises is what the attempt failed with, and
what it returns is the result. It has no word in a cancel: see ``Run``.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from tapescope.errors import BadSetting, HookMisused
from tapescope.run.runner import find_function

if TYPE_CHECKING:
    from tapescope.run.reporter import Reporter

__all__ = ["Nested", "RunCall", "RunHook", "RunHooks", "call_run_hook", "check_hooks"]

A = TypeVar("A")
R = TypeVar("R")

_MOST: Final = 100
"""Hooks that one registry or manager may have: they are nested calls."""


@dataclass(frozen=True, slots=True)
class RunCall:
    """What a hook around a run is told of it."""

    op: str
    task_id: str
    attempt: int
    """Which run of the task this is, from 1."""
    params: Mapping[str, Any]
    """What the runner is given, decoded; to be read, not changed."""
    report: Reporter
    """Reports as the runner does, on the same tape."""
    in_thread: bool
    """Whether the runner is a plain function, in a thread of its own. The hook is in the loop."""


class RunHook(Protocol):
    """A function around each run: ``await proceed()`` calls what it is around, once.

    ``proceed`` gives what the runner returned, and raises what it raised. What the hook returns is
    the result of the run.
    """

    async def __call__(self, run: RunCall, proceed: Callable[[], Awaitable[Any]], /) -> Any:
        """Be called for one run."""
        ...


class RunHooks(Protocol):
    """Who knows which hooks are around the runs of an op."""

    @property
    def around_runs(self) -> bool:
        """Whether any op may have one."""
        ...

    def find_run_hooks(self, op: str) -> Sequence[RunHook]:
        """Those of an op, the outermost first."""
        ...


class Nested(Generic[A, R]):
    """What a hook is around: the hooks after it, and ``innermost`` at last.

    To call it twice, also at the same time, raises ``HookMisused``.
    """

    __slots__ = ("_at", "_begun", "_call", "_hooks", "_innermost")

    def __init__(
        self,
        hooks: Sequence[Any],
        innermost: Callable[[A], Awaitable[R]],
        call: Callable[[Any, A, Nested[A, R]], Awaitable[R]],
        at: int = 0,
    ) -> None:
        """``call`` calls a hook, with its argument and what it is around."""
        self._hooks, self._innermost, self._call, self._at = hooks, innermost, call, at
        self._begun = False

    async def begin(self, argument: A) -> R:
        """Call it. Raises ``HookMisused``, and what the hooks and the innermost raise."""
        if self._begun:
            raise HookMisused(self._hooks[self._at - 1], "it has called 'proceed' twice")
        self._begun = True
        if self._at == len(self._hooks):
            return await self._innermost(argument)
        inner = Nested(self._hooks, self._innermost, self._call, self._at + 1)
        return await self._call(self._hooks[self._at], argument, inner)


async def call_run_hook(hook: RunHook, run: RunCall, inner: Nested[RunCall, Any]) -> Any:
    """Call a hook around a run, with the rest as its ``proceed``."""
    return await hook(run, partial(inner.begin, run))


def check_hooks(name: str, hooks: Any) -> tuple[Any, ...]:
    """The hooks of a setting of this name. Raises ``BadSetting``."""
    expected = f"a list of async functions, at most {_MOST}"
    listed: object = hooks
    if not isinstance(listed, Sequence):
        raise BadSetting(name, hooks, expected)
    checked: tuple[Any, ...] = tuple(hooks)
    for hook in checked:
        plain = callable(hook) and not inspect.isclass(hook)
        if not plain or not inspect.iscoroutinefunction(find_function(hook)):
            raise BadSetting(name, hook, expected)
    if len(checked) > _MOST:
        raise BadSetting(name, len(checked), expected)
    return checked
