"""A runner: the user's callable, called in the event loop or in a daemon thread of its own."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final

from tapescope.errors import BadParams, BadRunner
from tapescope.model.frozen import quickly_made

if TYPE_CHECKING:
    from tapescope.run.resources import Factory
    from tapescope.run.retry_policy import RetryPolicy
    from tapescope.run.typed_values import TypedValues

__all__ = ["Runner", "find_function", "resolve_runner", "start_thread"]


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a runner takes."""

    signature: inspect.Signature
    reporter: str
    """The last name of the first parameter's annotation; empty without one."""
    wrong: str
    """Why no call can work; empty where one can."""
    required: Set[str]
    """The keyword arguments that it must be given."""
    known: Set[str] | None
    """Those that it takes; ``None`` for any."""

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises ``BadParams`` for params that are not the runner's keyword arguments."""
        given = params.keys()
        if self.required <= given and (self.known is None or given <= self.known):
            return
        try:
            self.signature.bind(None, **params)
        except TypeError as error:
            taken = ", ".join(self.signature.parameters)
            raise BadParams(f"{error}; the runner takes ({taken})") from error


_of_code: Final[dict[int, tuple[weakref.ref[CodeType], Parameters]]] = {}
"""What plain functions take, by the identity of their code, for as long as that lives: to read it
takes longer than the rest of a submit's checks. Codes of two modules may be equal, and the defaults
of their functions not."""


@quickly_made
@dataclass(frozen=True, slots=True)
class Runner:
    """The user's callable and where it runs; the run calls ``call(report, **params)``."""

    call: Callable[..., Any]
    in_thread: bool
    """Whether it is called in a thread: a plain function would block the loop. Where it returns an
    awaitable, that is awaited in the loop."""
    wraps_async: bool = False
    """Whether it is a plain function around an ``async def``, which takes a ``Reporter``."""
    parameters: Parameters | None = field(default=None, compare=False)
    """What it takes; ``None`` where Python cannot tell."""
    retry: RetryPolicy | None = field(default=None, compare=False)
    """When an attempt of it is made again; ``None`` for what is usual in the manager."""
    stall_timeout: float | None = field(default=None, compare=False)
    """Seconds in which it must report something; ``None`` for no limit."""
    types: TypedValues | None = field(default=None, compare=False)
    """What its annotations say of its values; ``None`` where it is not an op's."""
    resource: Factory | None = field(default=None, compare=False)
    """What makes the resource that it is given after the reporter; ``None`` where it has none."""
    context: contextvars.Context | None = field(default=None, compare=False)
    """Each attempt runs in a copy of it; ``None`` for an empty one."""

    @property
    def name(self) -> str:
        """Module and qualified name of the function that a call ends in, as spans have it."""
        function = find_function(self.call)
        named = function if inspect.isroutine(function) else type(function)
        module = getattr(named, "__module__", None)  # a method of a builtin has none
        name = str.__str__(named.__qualname__)
        return f"{module}.{name}" if isinstance(module, str) else name

    def check(self, params: Mapping[str, Any]) -> None:
        """Raises ``BadParams`` for params that are not its keyword arguments."""
        if self.parameters is not None:
            self.parameters.check(params)


def resolve_runner(runner: object, *, given: int = 1) -> Runner:
    """Decide where a callable runs, and read what it takes.

    An ``async def``, a partial or a method of one, and an object whose ``__call__`` is one, run in
    the loop; other functions are called in a thread. A plain wrapper that names an ``async def`` as
    its ``__wrapped__`` may return the coroutine or run it itself: it is called in a thread, and
    judged by what it returns. ``given`` is how many of its parameters are no params of a task's:
    the reporter, and a resource. Raises ``BadRunner`` for a class, a generator function, an object
    that cannot be called, and a signature with which no call can work.
    """
    if (
        given == 1
        and type(runner) is FunctionType
        and runner.__code__.co_flags & inspect.CO_COROUTINE
    ):
        return _checked(runner, in_thread=False)  # the usual case, decided at once
    if not callable(runner):
        raise BadRunner(runner, "it is not callable")
    if inspect.isclass(runner):
        raise BadRunner(runner, "it is a class")
    function = find_function(runner)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise BadRunner(runner, "it is a generator")
    in_thread = not inspect.iscoroutinefunction(function)
    wrapped = find_function(inspect.unwrap(function)) if in_thread else None
    wraps_async = inspect.iscoroutinefunction(wrapped)
    return _checked(runner, in_thread=in_thread, wraps_async=wraps_async, given=given)


def _checked(
    runner: Callable[..., Any], *, in_thread: bool, wraps_async: bool = False, given: int = 1
) -> Runner:
    """The runner with what it takes. Raises ``BadRunner``."""
    plain = given == 1 and type(runner) is FunctionType and not runner.__dict__
    code = runner.__code__ if plain else None
    _, parameters = _of_code.get(id(code), (None, None))
    if parameters is None:
        parameters = _read_parameters(runner, given)
        if parameters is None:
            return Runner(runner, in_thread, wraps_async)
        if code is not None:
            key = id(code)
            _of_code[key] = weakref.ref(code, lambda _: _of_code.pop(key, None)), parameters
    if parameters.wrong:
        raise BadRunner(runner, parameters.wrong)
    if in_thread and not wraps_async and parameters.reporter == "Reporter":
        raise BadRunner(runner, "a plain function is given a ThreadReporter, not a Reporter")
    if not in_thread and parameters.reporter == "ThreadReporter":
        raise BadRunner(runner, "an async def is given a Reporter, not a ThreadReporter")
    return Runner(runner, in_thread, wraps_async, parameters)


def _read_parameters(runner: Callable[..., Any], given: int) -> Parameters | None:
    try:
        # A wrapper is asked for its own: it may add arguments to those that it passes on.
        signature = inspect.signature(runner, follow_wrapped=False)
    except Exception:  # noqa: BLE001  # a builtin has none, and an object may raise anything
        return None
    first, *others = signature.parameters.values() or (None,)
    wrong = ""
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        wrong = "it has no first parameter for the reporter"
    elif given > 1:
        if first.kind is not first.VAR_POSITIONAL:
            resource, *others = others or (None,)
            by_place = (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD, first.VAR_POSITIONAL)
            if resource is None or resource.kind not in by_place:
                wrong = "it has no second parameter for its resource"
            elif resource.kind is first.VAR_POSITIONAL:
                others = [resource, *others]
        signature = signature.replace(parameters=[first, *others])
    named = [one for one in others if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    for one in others:
        if one.kind is one.POSITIONAL_ONLY and one.default is one.empty:
            wrong = f"its parameter {one.name!r} cannot be given by name"
    return Parameters(
        signature,
        "" if first is None else _name_of(first.annotation),
        wrong,
        {one.name for one in named if one.default is one.empty},
        None if any(one.kind is one.VAR_KEYWORD for one in others) else {one.name for one in named},
    )


def _name_of(annotation: object) -> str:
    """The last name of an annotation: a class, or its text."""
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return str(name).rpartition(".")[2].strip("'\"")


def find_function(runner: Callable[..., Any]) -> Callable[..., Any]:
    """The function that a call of ``runner`` ends in, through partials and callable objects."""
    while isinstance(runner, functools.partial):
        runner = runner.func
    if inspect.isroutine(runner):
        return runner
    call = type(runner).__call__
    return call if inspect.isfunction(call) else runner


def start_thread(
    runner: Runner,
    given: tuple[Any, ...],
    params: Mapping[str, Any],
    name: str,
    on_end: Callable[[Any, BaseException | None], None],
) -> None:
    """Call the runner in a daemon thread, in a copy of the caller's context.

    ``given`` is the reporter, and the resource where the runner has one.
    ``on_end`` is called in the loop with what the runner returned or raised, ``SystemExit``
    included; not when the loop is closed by then. The interpreter's exit does not wait for the
    thread.
    """
    loop = asyncio.get_running_loop()

    def run() -> None:
        result: Any = None
        error: BaseException | None = None
        try:
            result = runner.call(*given, **params)
        except BaseException as raised:  # noqa: BLE001  # any exception is the run's outcome
            error = raised
        with suppress(RuntimeError):  # the loop is closed, and the run with it
            loop.call_soon_threadsafe(on_end, result, error)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()
