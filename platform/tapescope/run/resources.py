"""Resources of runners: opened once in a manager, handed to the runners, closed behind them.

Each is an async context manager that lives in an asyncio task of its own, from its entry to its
exit: so it may hold a task group or a cancel scope, and one that breaks takes no other with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast

from tapescope.errors import BadSetting, ResourceFailed
from tapescope_telemetry import error_type_of
from tapescope_telemetry.failures import text_of
from tapescope_telemetry.logger import Logger

__all__ = ["Factory", "ResourceMap", "Resources", "check_factory", "check_replacements"]

_log = Logger("tapescope")

Factory = Callable[[], AbstractAsyncContextManager[Any]]
"""Makes the context manager of a resource: a function under ``@asynccontextmanager``, a class."""
ResourceMap = Mapping[Any, Factory]
"""What is opened in the place of resources; each by its own ``Factory``, of which type checkers
ask nothing more: the keys of a mapping are invariant."""

_EXPECTED: Final = (
    "a function without arguments that gives an async context manager, such as one under "
    "'@asynccontextmanager'"
)


class Resources:
    """What is open for the runners of one manager, while it is open. Times are in seconds."""

    def __init__(self, replacements: ResourceMap, close_within: float) -> None:
        """``close_within`` is how long each has to close, and as long again once cancelled."""
        self._replacements = replacements
        self._close_within = close_within
        self._held: dict[Factory, _Held] = {}
        """By what the op was registered with, in the order of their opening."""
        self._closed = False

    async def find(self, factory: Factory) -> Any:
        """The resource: open already, or opened now, for all who ask. Raises ``ResourceFailed``.

        Who is cancelled meanwhile leaves it to be opened for the others.
        """
        held = self._held.get(factory)
        if held is None:
            if self._closed:
                raise ResourceFailed(name_of(factory), "the manager is closed")
            replaced = self._replacements.get(factory, factory)
            held = self._held[factory] = _Held(replaced, lambda: self._forget(factory))
        if not held.ready.done():
            await asyncio.wait([held.ready])
        return held.find_value()

    async def aclose(self) -> None:
        """Close all of them, the last one first. May be called again where it was cancelled."""
        self._closed = True
        while self._held:
            factory, held = next(reversed(self._held.items()))
            await held.close(self._close_within)
            if self._held.get(factory) is held:
                del self._held[factory]

    def _forget(self, factory: Factory) -> None:
        """It could not be opened, or has ended by itself: who asks next has it opened anew."""
        self._held.pop(factory, None)


class _Held:
    """One resource, in its task."""

    def __init__(self, factory: Factory, on_end: Callable[[], object]) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done once it is open, or could not be opened."""
        self._value: Any = None
        self._error: BaseException | None = None
        self._factory, self._on_end = factory, on_end
        self._close = asyncio.Event()
        # Not of who asks first: a task that the resource begins belongs to no run.
        self._task = loop.create_task(
            self._live(),
            name=f"tapescope-resource-{name_of(factory)}",
            context=contextvars.Context(),
        )
        self._task.add_done_callback(self._note_end)

    def find_value(self) -> Any:
        """What its runners are given. Raises ``ResourceFailed``, a new one for each who asks."""
        if self._error is not None:
            why = f"{error_type_of(self._error)}: {text_of(self._error)}".rstrip(": ")
            raise ResourceFailed(name_of(self._factory), why) from self._error
        return self._value

    async def close(self, within: float) -> None:
        """Have it closed, and wait for that; one that takes too long is cancelled, then left."""
        self._close.set()
        if not self.ready.done():
            self._task.cancel()  # nobody is left to use it
        if await self._ended(within):
            return
        self._task.cancel()
        if not await self._ended(within):
            text = "The resource %s does not close, and is left behind."
            _log.warning(text, name_of(self._factory))

    async def _ended(self, within: float) -> bool:
        _, pending = await asyncio.wait([self._task], timeout=within)
        return not pending

    async def _live(self) -> None:
        """Raises nothing but a cancel: what goes wrong is told to who waits for it, or logged."""
        try:
            async with self._factory() as self._value:
                self.ready.set_result(None)
                await self._close.wait()
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001  # ``SystemExit``, too, as of a runner
            if not self.ready.done():
                self._fail(error)
            elif self._close.is_set():
                text = "The resource %s could not be closed without an error."
                _log.error(text, name_of(self._factory), error=error)
            else:
                text = "The resource %s has ended by itself; it is opened anew when it is needed."
                _log.error(text, name_of(self._factory), error=error)
        finally:
            self._value = None

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self.ready.set_result(None)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        if not self.ready.done():  # it was cancelled while it was opened
            self._fail(asyncio.CancelledError("the opening was cancelled"))
        if not self._close.is_set():
            self._on_end()
        if not task.cancelled():
            task.exception()


def check_factory(factory: object, name: str = "resource") -> Factory:
    """What makes a resource. Raises ``BadSetting``."""
    function = inspect.unwrap(cast("Any", factory)) if callable(factory) else None
    if function is None or inspect.iscoroutinefunction(factory):
        raise BadSetting(name, factory, _EXPECTED)
    wrapped = function is not factory
    if not wrapped and (
        inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
    ):
        raise BadSetting(name, factory, _EXPECTED)
    if wrapped and inspect.isgeneratorfunction(function):
        raise BadSetting(name, factory, _EXPECTED)  # ``contextmanager``, which would block the loop
    try:
        hash(factory)
        inspect.signature(cast("Any", factory)).bind()
    except TypeError as error:
        raise BadSetting(name, factory, _EXPECTED) from error
    except ValueError:
        pass  # Python cannot tell what it takes
    return cast("Factory", factory)


def check_replacements(given: object) -> ResourceMap:
    """What is opened in the place of what. Raises ``BadSetting``."""
    if not isinstance(given, Mapping):
        raise BadSetting("resources", given, "a mapping of resources to what takes their place")
    replacements = cast("Mapping[object, object]", given)
    return {
        check_factory(one, "resources"): check_factory(other, "resources")
        for one, other in replacements.items()
    }


def name_of(factory: Factory) -> str:
    """Its qualified name, for people."""
    name = getattr(factory, "__qualname__", None)
    return name if isinstance(name, str) else type(factory).__qualname__
