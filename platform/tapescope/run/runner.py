"""A runner: the user's callable, called in the event loop or in a daemon thread of its own."""

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
    """The user's callable and where it runs; the run calls ``call(report, **params)``."""

    call: Callable[..., Any]
    in_thread: bool
    """Whether it gets a thread: a plain function would block the loop."""


def resolve_runner(runner: object) -> Runner:
    """Decide where a callable runs.

    An ``async def``, a partial or a method of one, an object whose ``__call__`` is one, and a
    wrapper that names one as its ``__wrapped__``, run in the loop; other functions in a thread.
    Raises ``BadRunner`` for a class, a generator function, and an object that cannot be called.
    """
    if type(runner) is FunctionType and runner.__code__.co_flags & inspect.CO_COROUTINE:
        return Runner(runner, in_thread=False)  # the usual case, decided at once
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
    on_end: Callable[[Any, BaseException | None], None],
) -> None:
    """Call the runner in a daemon thread, in a copy of the caller's context.

    ``on_end`` is called in the loop with what the runner returned or raised, ``SystemExit``
    included; not when the loop is closed by then. The interpreter's exit does not wait for the
    thread.
    """
    loop = asyncio.get_running_loop()

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = runner.call(reporter, **params)
        except BaseException as raised:  # noqa: BLE001  # any exception is the run's outcome
            error = raised
        with suppress(RuntimeError):  # the loop is closed, and the run with it
            loop.call_soon_threadsafe(on_end, result, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
