"""Hooks around a submit: async functions, nested like calls, each around those after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from tapescope.errors import HookMisused
from tapescope.manager.handle import TaskHandle
from tapescope.manager.submission import Submission
from tapescope.run import Nested

__all__ = ["SubmitHook", "call_submit_hook"]


class SubmitHook(Protocol):
    """A function around each submit: ``await proceed(submission)`` submits it, once.

    What it raises is raised to who submits; before it has called ``proceed`` nothing is stored. It
    may hand on another submission of the same op, made with ``dataclasses.replace``, and return the
    handle on another task.
    """

    async def __call__(
        self,
        submission: Submission[Any],
        proceed: Callable[[Submission[Any]], Awaitable[TaskHandle[Any]]],
        /,
    ) -> TaskHandle[Any]:
        """Be called for one submit."""
        ...


async def call_submit_hook(
    hook: SubmitHook, submission: Submission[Any], inner: Nested[Submission[Any], TaskHandle[Any]]
) -> TaskHandle[Any]:
    """Call a hook, with the rest as its ``proceed``. Raises ``HookMisused``."""
    handle = await hook(submission, inner.begin)
    if not isinstance(cast("object", handle), TaskHandle):
        raise HookMisused(hook, f"it has returned {type(handle).__name__} and not a TaskHandle")
    return handle
