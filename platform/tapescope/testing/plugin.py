"""The plugin of pytest: managers that are open while a test runs, and judged at its end.

A manager belongs to one event loop, and each plugin that runs ``async`` tests has loops of its own.
So the fixtures are plain ones, which make a manager and open nothing; an ``async def`` test is
called inside an ``async with`` of the managers that it has asked for, in its own loop, whichever
plugin has begun that (docs/decisions/0079). A plain test opens what it is given by itself.

pytest loads this in each of its runs where tapescope is installed: all else is imported where a
fixture is asked for.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from tapescope.manager import Ops
    from tapescope.sync.manager import ManagerSettings
    from tapescope.testing import EagerManager, EagerSyncManager, JudgedManager, ManualClock

__all__ = [
    "tapescope_clock",
    "tapescope_eager",
    "tapescope_eager_sync",
    "tapescope_memory",
    "tapescope_ops",
    "tapescope_postgres",
    "tapescope_settings",
    "tapescope_sqlite",
]

M = TypeVar("M", bound="JudgedManager")

_URL: Final = "tapescope_postgres_url"
_URL_VARIABLE: Final = "TAPESCOPE_TEST_POSTGRES_URL"
_SCHEMA: Final = "tapescope_test"

_managers = pytest.StashKey["list[JudgedManager]"]()
"""Those that a test has asked for, in the order in which they were made."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one setting, for a file of pytest's settings."""
    text = (
        "the PostgreSQL server of the fixture tapescope_postgres, as a store's URL; "
        f"${_URL_VARIABLE} goes before it"
    )
    parser.addini(_URL, text, default="")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Have the managers of an ``async def`` test opened and closed in its own loop."""
    __tracebackhide__ = True
    managers = item.stash.get(_managers, list["JudgedManager"]())
    test: Any = getattr(item, "obj", None)
    if not managers or not inspect.iscoroutinefunction(test):
        return (yield)
    item.obj = _with_managers(test, managers)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # a Function has it
    try:
        return (yield)
    finally:
        item.obj = test  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # as above


def _with_managers(
    test: Callable[..., Coroutine[Any, Any, object]], managers: Sequence[JudgedManager]
) -> Callable[..., Coroutine[Any, Any, object]]:
    @functools.wraps(test)
    async def run(*args: Any, **kwargs: Any) -> object:
        __tracebackhide__ = True  # read by pytest, as below
        async with AsyncExitStack() as stack:
            for manager in managers:
                await stack.enter_async_context(manager)
            return await test(*args, **kwargs)

    return run


@pytest.fixture
def tapescope_ops() -> Ops:
    """The ops that the managers run: override it with those of your program."""
    from tapescope import Ops

    return Ops()


@pytest.fixture
def tapescope_settings() -> ManagerSettings:
    """Settings of the managers, such as ``codec`` and ``retry_delay``: override it with yours."""
    return {}


@pytest.fixture
def tapescope_clock() -> ManualClock:
    """The clock of the ``tapescope_memory`` of this test: ``await tapescope_clock.advance(60)``."""
    from tapescope.testing import ManualClock

    return ManualClock()


@pytest.fixture
def tapescope_memory(
    request: pytest.FixtureRequest, tapescope_ops: Ops, tapescope_settings: ManagerSettings
) -> Iterator[JudgedManager]:
    """A manager on a store in memory."""
    from tapescope.testing import JudgedManager

    by_hand = "tapescope_clock" in request.fixturenames
    clock: ManualClock | None = request.getfixturevalue("tapescope_clock") if by_hand else None
    manager = JudgedManager(clock=clock, ops=tapescope_ops, **tapescope_settings)
    yield from _lend(request, manager)


@pytest.fixture
def tapescope_sqlite(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    tapescope_ops: Ops,
    tapescope_settings: ManagerSettings,
) -> Iterator[JudgedManager]:
    """A manager on a SQLite file of this test."""
    from tapescope.testing import JudgedManager

    url = f"sqlite:///{tmp_path / 'tapescope.db'}"
    manager = JudgedManager(url, ops=tapescope_ops, **tapescope_settings)
    yield from _lend(request, manager)


@pytest.fixture
def tapescope_postgres(
    request: pytest.FixtureRequest,
    pytestconfig: pytest.Config,
    tapescope_ops: Ops,
    tapescope_settings: ManagerSettings,
) -> Iterator[JudgedManager]:
    """A manager on your PostgreSQL server, in a schema for tests that is emptied before each.

    It is skipped where no server is given.
    """
    from tapescope.testing import JudgedManager

    url = os.environ.get(_URL_VARIABLE) or pytestconfig.getini(_URL)
    if not url:
        pytest.skip(f"no PostgreSQL: set {_URL} in pytest's settings, or ${_URL_VARIABLE}")
    manager = JudgedManager(
        name_schema(url, os.environ.get("PYTEST_XDIST_WORKER", "")),
        clean=True,
        ops=tapescope_ops,
        **tapescope_settings,
    )
    yield from _lend(request, manager)


@pytest.fixture
def tapescope_eager(
    request: pytest.FixtureRequest, tapescope_ops: Ops, tapescope_settings: ManagerSettings
) -> Iterator[EagerManager]:
    """A manager in memory whose submits return once the task has ended."""
    from tapescope.testing import EagerManager

    yield from _lend(request, EagerManager(ops=tapescope_ops, **tapescope_settings))


@pytest.fixture
def tapescope_eager_sync(
    tapescope_ops: Ops, tapescope_settings: ManagerSettings
) -> Iterator[EagerSyncManager]:
    """The same for programs without an event loop; it is closed, and judged, behind the test."""
    from tapescope.testing import EagerSyncManager

    manager = EagerSyncManager(ops=tapescope_ops, **tapescope_settings)
    yield manager
    manager.close()


def _lend(request: pytest.FixtureRequest, manager: M) -> Iterator[M]:
    """Give the test a manager, and see afterwards that it was closed."""
    stash: pytest.Stash = request.node.stash
    stash.setdefault(_managers, []).append(manager)
    yield manager
    if not manager.was_ended:
        pytest.fail(
            "A manager of this test was opened and not closed, so nothing can be said of its "
            "tasks. Open it with 'async with' in a test that is not an 'async def'.",
            pytrace=False,
        )


def name_schema(url: str, worker: str) -> str:
    """The URL with a schema for tests in it: one of its own for each worker of pytest-xdist."""
    from tapescope.errors import BadSetting

    base, _, query = url.partition("?")
    given = [part for part in query.split("&") if part]
    schemas = [part.partition("=")[2] for part in given if part.startswith("schema=")]
    schema = schemas[-1] if schemas else _SCHEMA
    if "test" not in schema:
        expected = "one with 'test' in its name: its tasks are deleted before each test"
        raise BadSetting("the schema for tests", schema, expected)
    others = [part for part in given if not part.startswith("schema=")]
    named = f"schema={schema}_{worker}" if worker else f"schema={schema}"
    return f"{base}?{'&'.join([*others, named])}"
