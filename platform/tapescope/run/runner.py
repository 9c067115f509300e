"""What a runner is, and calling one: in the event loop, or in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from tapescope.errors import BadRunner

__all__ = ["Runner", "resolve_runner", "start_thread"]


@dataclass(frozen=True, slots=True)
class Runner:
    """The user's callable and where it runs; it is called as ``call(report, **params)``."""

    call: Callable[..., Any]
    in_thread: bool
    """A plain function would block the loop, so it gets a thread."""


def resolve_runner(runner: object) -> Runner:
    """Decide where a callable runs.

    An ``async def``, a partial or a method of one, an object whose ``__call__`` is one, and a
    wrapper that names one as its ``__wrapped__``, run in the loop; other functions in a thread.
    Raises ``BadRunner`` for what is no function: a class, a generator, what cannot be called.
    """
    if type(runner) is FunctionType and runner.__code__.co_flags & inspect.CO_COROUTINE:
        return Runner(runner, in_thread=False)  # the usual case, told without a dozen questions
    if not callable(runner):
        raise BadRunner(runner, "it is not callable")
    if inspect.isclass(runner):
        raise BadRunner(runner, "it is a class")
    function = _find_function(runner)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadRunner(runner, "it is a generator")
    in_loop = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        _find_function(inspect.unwrap(function))
    )
    return Runner(runner, in_thread=not in_loop)


def _find_function(runner: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a call of ``runner`` ends in, through partials and callable objects."""
    while isinstance(runner, functools.partial):
        runner = runner.func
    if inspect.isroutine(runner):
        return runner
    call = type(runner).__call__
    return call if inspect.isfunction(call) else runner


def start_thread(
    runner: Runner,
    reporter: object,
    params: Mapping[str, Any],
    name: str,
    tell: Callable[[Any, BaseException | None], None],
) -> None:
    """Run it in a daemon thread, in a copy of the caller's context.

    ``tell`` is called in the loop with what it returned or raised, ``SystemExit`` included. The
    interpreter's exit does not wait for the thread, and a loop that is closed by the time it ends
    hears nothing of it.
    """
    loop = asyncio.get_running_loop()

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = runner.call(reporter, **params)
        except BaseException as raised:  # noqa: BLE001  # it is the run's outcome, whatever it is
            error = raised
        with suppress(RuntimeError):  # the loop is closed: there is nobody to tell
            loop.call_soon_threadsafe(tell, result, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
