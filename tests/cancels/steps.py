"""An event loop that knows at which await each of its tasks stands, and can strike at any of them.

The product has no hook for it: a task factory puts every coroutine into a driver that is stepped
as the coroutine would be, and looks at its frames whenever it is suspended.
"""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType
from typing import Any, Final, NamedTuple

__all__ = ["Conductor", "Site", "Step"]

_ROOT: Final = Path(__file__).parents[2]
_ROOMS: Final = tuple(f"{_ROOT / source}/" for source in ("platform", "adapters", "telemetry"))


class Site(NamedTuple):
    """A line of the product at which a task was suspended."""

    file: str
    """Below the tree's root."""
    line: int


class Step(NamedTuple):
    """A suspension: the so-manieth of all tasks whose coroutine has this name."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}#{self.number}"


class Conductor:
    """Counts the suspensions of a loop's tasks, by kind, and acts at one of them, once."""

    def __init__(
        self,
        step: Step | None = None,
        act: Callable[[asyncio.Task[Any]], None] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.sites: set[Site] = set()
        """Where tasks were suspended."""
        self.struck_at: Site | None = None
        """The innermost line of the product that the act met; ``None``: none, or not yet."""
        self.struck = False
        self._step = step
        self._act = act

    def make_task(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **settings: Any
    ) -> asyncio.Task[Any]:
        """The loop's task factory."""
        driver = _Driver(coroutine, self)
        driver.task = asyncio.Task(driver, loop=loop, **settings)
        return driver.task

    def suspended(self, driver: _Driver) -> None:
        """A task has come to an await that waits."""
        kind = driver.kind
        number = self.counts[kind] = self.counts[kind] + 1
        innermost = self._look(driver.coroutine)
        if self._step == (kind, number) and self._act is not None and driver.task is not None:
            self.struck, self.struck_at = True, innermost
            self._act(driver.task)

    def _look(self, awaited: Any) -> Site | None:
        """Note the lines at which a coroutine and all it awaits stand; gives the innermost."""
        site = None
        while awaited is not None:
            frame, inner = _open(awaited)
            if frame is not None and frame.f_code.co_filename.startswith(_ROOMS):
                site = _site_of(frame.f_code, frame.f_lineno)
                self.sites.add(site)
            awaited = inner
        return site


class _Driver(Coroutine[Any, Any, Any]):
    """A coroutine that steps another one, and tells of its suspensions."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], conductor: Conductor) -> None:
        self.coroutine = coroutine
        self.kind = getattr(coroutine, "__qualname__", type(coroutine).__qualname__)
        self.task: asyncio.Task[Any] | None = None
        self._conductor = conductor

    def send(self, value: Any) -> Any:
        """Step the coroutine."""
        yielded = self.coroutine.send(value)
        self._conductor.suspended(self)
        return yielded

    def throw(self, *error: Any) -> Any:
        """Step it with an exception."""
        yielded = self.coroutine.throw(*error)
        self._conductor.suspended(self)
        return yielded

    def close(self) -> None:
        """Close it."""
        self.coroutine.close()

    def __await__(self) -> Any:
        raise NotImplementedError("a driver is stepped by its task alone")


_sites: dict[tuple[CodeType, int], Site] = {}


def _site_of(code: CodeType, line: int) -> Site:
    site = _sites.get((code, line))
    if site is None:
        file = Path(code.co_filename).relative_to(_ROOT).as_posix()
        site = _sites[code, line] = Site(file, line)
    return site


def _open(awaited: Any) -> tuple[FrameType | None, Any]:
    """The frame of what is awaited, and what that awaits in turn."""
    if isinstance(awaited, CoroutineType):
        return awaited.cr_frame, awaited.cr_await
    if isinstance(awaited, AsyncGeneratorType):
        return awaited.ag_frame, awaited.ag_await
    if isinstance(awaited, asyncio.Future):
        return None, None
    if type(awaited).__name__ in _WRAPPERS:  # of the interpreter's, and has no attribute for it
        held: list[Any] = gc.get_referents(awaited)
        return None, next((one for one in held if isinstance(one, _FRAMED)), None)
    return None, getattr(awaited, "gi_yieldfrom", None)


_FRAMED: Final[tuple[type[Any], ...]] = (CoroutineType, AsyncGeneratorType)
_WRAPPERS: Final = ("coroutine_wrapper", "async_generator_asend", "async_generator_athrow")
