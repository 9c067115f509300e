"""Exceptions that cannot be printed, compared, formatted or walked end a run as any other does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import pytest

from tapescope import Reporter, TaskCancelled, TaskFailed
from tests.support.workbench import working


class NoText(Exception):
    """Its text raises, as that of some libraries' HTTP errors does."""

    def __str__(self) -> str:
        raise AttributeError("detail")


class TextIsNone(Exception):
    """Its text is no text."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # the fault


class TextRecurses(Exception):
    """Its text never ends."""

    def __str__(self) -> str:
        return str(self)


class TextInterrupts(Exception):
    """Its text is taken for a Ctrl-C."""

    def __str__(self) -> str:
        raise KeyboardInterrupt


class TextExits(Exception):
    """Its text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(3)


class NoRepr(Exception):
    """Its arguments cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("repr")


class NoBool(Exception):
    """It has no truth."""

    def __bool__(self) -> bool:
        raise RuntimeError("bool")


class NoComparing(Exception):
    """It is equal to nothing, not even unequal, and has no hash."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        raise RuntimeError("hash")


class NoAttributes(Exception):
    """No attribute of it can be read, its class not either."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class AttributesExit(Exception):
    """To look at it ends the process."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(name)


class _Nameless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__module__", "__qualname__", "__name__"):
            raise RuntimeError(f"no {name}")
        return super().__getattribute__(name)


class NoName(Exception, metaclass=_Nameless):
    """Its class does not say what it is called."""


class OddModule(Exception):
    """Its class comes from no module."""

    __module__ = 5  # type: ignore[assignment]  # the fault


class GroupWithoutParts(ExceptionGroup[Exception]):
    """A group that does not tell what is in it."""

    @property
    def exceptions(self) -> Any:
        """Nothing."""
        raise RuntimeError("no parts")


def nest(depth: int) -> Exception:
    """A group in a group, so deep."""
    error: Exception = ValueError("x")
    for _ in range(depth):
        parts: list[Exception] = [error]
        error = ExceptionGroup("g", parts)
    return error


def circle() -> Exception:
    """Two exceptions, each the cause of the other."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    return one


BAD: Final[dict[str, Callable[[], Exception]]] = {
    "str raises": NoText,
    "str is None": TextIsNone,
    "str recurses": TextRecurses,
    "str raises KeyboardInterrupt": TextInterrupts,
    "str raises SystemExit": TextExits,
    "repr raises": lambda: NoRepr("x", NoRepr()),
    "bool raises": NoBool,
    "comparison raises": NoComparing,
    "getattribute raises": NoAttributes,
    "getattribute raises SystemExit": AttributesExit,
    "metaclass raises": NoName,
    "module is a number": OddModule,
    "group hides its parts": lambda: GroupWithoutParts("g", [ValueError("x")]),
    "group 400 deep": lambda: nest(400),
    "group of two, 400 deep": lambda: ExceptionGroup("g", [nest(400), NoText()]),
    "causes in a circle": circle,
    "text that UTF-8 cannot carry": lambda: ValueError("a\ud800b"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("where", ["loop", "thread"])
async def test_each_ends_its_run_as_failed(kind: str, where: str) -> None:
    """The retry is made, the row, the tape, the span and the handle agree; no run is lost."""
    calls = 0

    async def fail(report: Reporter) -> None:
        nonlocal calls
        calls += 1
        raise BAD[kind]()

    def fail_in_thread(report: Any) -> None:
        nonlocal calls
        calls += 1
        raise BAD[kind]()

    runner: Any = fail if where == "loop" else fail_in_thread
    async with working("memory:", retry_delay=0.001) as bench:
        task = await bench.manager.submit("bad", runner, retries=1)
        with pytest.raises(TaskFailed) as raised:
            await task.result(timeout=10)
        types = [event.type for event in (await task.tape()).events]
        row = await task.status()
        spans = bench.run_spans(task.task_id)
        after = await bench.manager.submit("good", work_well)
        result = await after.result(timeout=10)

    assert calls == 2
    assert types == ["task_started", "attempt_failed", "task_started", "final"]
    assert (row.status.value, row.attempt) == ("failed", 2)
    assert [(span.attributes or {})["tapescope.task.outcome"] for span in spans] == [
        "retried",
        "failed",
    ]
    assert all((span.attributes or {})["error.type"] == raised.value.error.code for span in spans)
    assert [len(span.events) for span in spans] == [1, 1]  # what can be said of the exception
    assert result == "good"


async def work_well(report: Reporter) -> str:
    """Work that comes after."""
    return "good"


@pytest.mark.parametrize("kind", BAD)
async def test_a_cleanup_that_raises_one_stays_a_cancel(kind: str) -> None:
    """A cancel is no failure, whatever its cleanup raises."""
    begun = asyncio.Event()

    async def clean_up_badly(report: Reporter) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            raise BAD[kind]()

    async with working("memory:") as bench:
        task = await bench.manager.submit("bad", clean_up_badly)
        await begun.wait()
        await task.cancel("enough")
        with pytest.raises(TaskCancelled):
            await task.result(timeout=10)
        row = await task.status()
        (span,) = bench.run_spans(task.task_id)

    assert row.status.value == "cancelled"
    assert (span.attributes or {})["tapescope.task.outcome"] == "cancelled"
