"""Whatever a caller passes to any verb, it hears of a typed error at most, and nobody else notices.

A hundred innocent tasks report together with the calls of each example, so that they are in the
same flushes; others are submitted beside them. ``INPUT_EXAMPLES`` says how many examples the long
run has: ``INPUT_EXAMPLES=5000 make test-slow PYTEST_ARGS='-k any_input -s'``.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tapescope import Reporter, TaskManager, TaskStatus, find_store
from tapescope.errors import TapescopeError

INNOCENT: Final = 100
BESIDE: Final = 5
"""Innocent tasks that are submitted beside each example."""


class Broken:
    """A value of which nothing can be had."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    def __float__(self) -> float:
        raise RuntimeError("no number")

    def __index__(self) -> int:
        raise RuntimeError("no number")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("not comparable")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


class Lie(str):
    """A text that is equal to nothing, and says it is another."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 1

    def __str__(self) -> str:
        return "final"

    def encode(self, *_: Any, **__: Any) -> bytes:
        """Another text."""
        return b"\0"


class BrokenMapping(Mapping[str, Any]):
    """A mapping that cannot be read."""

    def __getitem__(self, key: str) -> Any:
        raise RuntimeError(key)

    def __iter__(self) -> Any:
        raise RuntimeError("no members")

    def __len__(self) -> int:
        return 1


class Word(StrEnum):
    """Texts."""

    USER = "user"
    FINAL = "final"


class Odd(Enum):
    """Members of no JSON type."""

    NAN = float("nan")
    BYTES = b"bytes"


class Trap(StrEnum):
    """A text whose value cannot be had."""

    ONE = "one"

    @property
    def value(self) -> str:
        raise RuntimeError("no value")


NUMBERS: Final = st.one_of(
    st.integers(),
    st.sampled_from([2**31, 2**31 - 1, 2**53, 2**63, 2**63 - 1, -(2**63), 2**64, -1]),
    st.floats(),
    st.sampled_from([1e13, 1e300, -0.0, 5e-324, 3.2e9, 2.5e11]),
    st.decimals(),
    st.fractions(),
    st.booleans(),
    st.sampled_from([Decimal("1e400"), Fraction(10**400, 3), 1j]),
)
TEXTS: Final = st.one_of(
    st.text(st.characters(), max_size=20),  # surrogates and NUL among them
    st.sampled_from(
        [
            "", "\0", "\ud800", "work", "log", "final", "heartbeat", "NULL", "{a,b}", "\x1e",
            "'; --", "x" * 2_000, "x" * 70_000, "é" * 1_025, Lie("log"), Lie("work"), Word.USER,
            Word.FINAL, Trap.ONE,
        ]
    ),
)  # fmt: skip
TIMES: Final = st.one_of(
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.timedeltas(),
    st.sampled_from([datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]),
)
MAKE_ODD: Final[Sequence[Callable[[], Any]]] = [
    lambda: None, lambda: ..., lambda: object, Broken, BrokenMapping, lambda: Odd.NAN,
    lambda: Odd.BYTES, lambda: uuid.UUID(int=1), lambda: b"bytes", lambda: bytearray(b"x"),
    lambda: {1, 2}, lambda: timedelta(1), lambda: orjson.Fragment(b"}{"), lambda: print,
    lambda: len, lambda: echo, lambda: {1: 2}, lambda: MappingProxyType({"a": 1}), lambda: range(3),
    lambda: 10**5_000,
]  # fmt: skip
ODD: Final = st.sampled_from(MAKE_ODD).map(lambda make: make())
"""Made anew: the framework asks a constant for its hash."""
JSON: Final = st.recursive(
    st.one_of(NUMBERS, TEXTS, ODD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=8,
)
ANYTHING: Final = st.one_of(NUMBERS, TEXTS, TIMES, ODD, JSON)


def mostly(usual: Any) -> st.SearchStrategy[Any]:
    """Anything, or what is usual: else hardly any call would come further than its first check."""
    return st.one_of(st.just(usual), ANYTHING)


REPORT: Final = st.one_of(
    st.tuples(st.sampled_from(["emit", "emit_nowait"]), st.tuples(mostly("mine"), ANYTHING)),
    st.tuples(st.just("log"), st.tuples(mostly("info"), ANYTHING)),
    st.tuples(st.just("partial"), st.tuples(mostly("part"), ANYTHING)),
    st.tuples(st.just("progress"), st.tuples(mostly("phase"), mostly(1), mostly(None), ANYTHING)),
)
SETTINGS: Final[dict[str, st.SearchStrategy[Any]]] = {
    "runner": ANYTHING,
    "params": st.one_of(st.dictionaries(st.text(max_size=5), JSON, max_size=3), ANYTHING),
    "timeout": mostly(60.0),
    "idempotency_key": mostly("key"),
    "retries": mostly(0),
    "delay": ANYTHING,
    "run_at": ANYTHING,
    "connection": ANYTHING,
}
OWN: Final = st.booleans()
"""Whether the task has a runner of the caller's own, or is for whoever knows the op."""
SUBMIT: Final = st.one_of(
    st.fixed_dictionaries({"op": ANYTHING, "own": OWN}),
    *(
        st.fixed_dictionaries({"op": st.just("work"), "own": OWN, name: value})
        for name, value in SETTINGS.items()
    ),
    st.fixed_dictionaries({"op": mostly("work"), "own": OWN}, optional=SETTINGS),
)
CALL: Final = st.one_of(
    st.tuples(st.just("submit"), SUBMIT),
    st.tuples(st.just("report"), st.lists(REPORT, min_size=1, max_size=4)),
    st.tuples(st.just("return"), ANYTHING),
    st.tuples(
        st.just("cancel"),
        st.fixed_dictionaries(
            {"task": mostly(None)},
            optional={"message": ANYTHING, "reason": mostly("user"), "by": ANYTHING},
        ),
    ),
    st.tuples(st.just("result"), ANYTHING),
    st.tuples(
        st.just("read"),
        st.tuples(
            st.sampled_from(["tape", "drops", "follow", "list", "count", "op"]), ANYTHING, ANYTHING
        ),
    ),
)


class Scene:
    """A manager with the innocent tasks, beside which calls are made."""

    def __init__(self, url: str) -> None:
        self.manager = TaskManager(
            find_store(url), max_running=INNOCENT + 100, drain=0, cancel_grace=30, audit_every=None
        )
        self.rounds = 0
        self.heard: Counter[str] = Counter()
        """How the calls ended: "answered", or the name of an error."""
        self._ticks: list[asyncio.Queue[int | None]] = []

    async def open(self) -> None:
        """Open it, and start the innocent tasks."""
        await self.manager.store.open()
        await self.manager.open()
        self._ticks = [asyncio.Queue() for _ in range(INNOCENT)]
        self.tasks = [
            await self.manager.submit("innocent", self.report_ticks, params={"number": n})
            for n in range(INNOCENT)
        ]

    async def report_ticks(self, report: Reporter, number: int) -> int:
        """An innocent task: it reports once in each round."""
        ticks, seen = self._ticks[number], 0
        while (tick := await ticks.get()) is not None:
            await report.emit("tick", tick)
            seen += 1
            ticks.task_done()
        return seen

    async def play(self, calls: Sequence[tuple[str, Any]]) -> None:
        """Make the calls together, while every innocent task reports and others are submitted."""
        self.rounds += 1
        for ticks in self._ticks:
            ticks.put_nowait(self.rounds)
        beside = [
            asyncio.ensure_future(self.manager.submit("beside", echo, params={"n": n}))
            for n in range(BESIDE)
        ]
        made = [asyncio.ensure_future(self.make(*call)) for call in calls]
        async with asyncio.timeout(60):
            await asyncio.gather(*made)
            for n, task in enumerate(await asyncio.gather(*beside)):
                assert await task.result() == n
            await asyncio.gather(*(ticks.join() for ticks in self._ticks))

    async def make(self, verb: str, given: Any) -> None:
        """Make a call; whatever is not a typed error fails the test."""
        try:
            await getattr(self, f"_{verb}")(given)
        except TapescopeError as error:
            self.heard[type(error).__name__] += 1
        else:
            self.heard["answered"] += 1

    async def _submit(self, given: Mapping[str, Any]) -> None:
        settings = dict(given)
        op, runner = settings.pop("op"), settings.pop("runner", None)
        if settings.pop("own"):
            runner = accept
        task = await self.manager.submit(op, runner, **settings)
        await task.cancel()

    async def _report(self, reports: Sequence[tuple[str, tuple[Any, ...]]]) -> None:
        async def report_all(report: Reporter) -> None:
            for method, arguments in reports:
                try:
                    answer = getattr(report, method)(*arguments)
                    if method != "emit_nowait":
                        await answer
                except TapescopeError as error:
                    self.heard[type(error).__name__] += 1
                else:
                    self.heard["answered"] += 1

        task = await self.manager.submit("hostile", report_all)
        await task.result()
        assert (await task.status()).status is TaskStatus.SUCCEEDED

    async def _return(self, value: Any) -> None:
        async def give(_: Reporter) -> Any:
            return value

        task = await self.manager.submit("hostile", give)
        try:
            await task.result()
        finally:
            assert (await task.status()).error_code in (None, "bad_result")

    async def _cancel(self, given: Mapping[str, Any]) -> None:
        settings = dict(given)
        named = settings.pop("task")
        if named is None:
            task = await self.manager.submit("hostile", accept, delay=3_600)
        else:
            task = self.manager.handle(named)
        await task.cancel(**settings)

    async def _result(self, within: Any) -> None:
        task = await self.manager.submit("hostile", echo, params={"n": 1})
        assert await task.result(within) == 1

    async def _read(self, given: tuple[str, Any, Any]) -> None:
        what, one, other = given
        task = self.tasks[0]
        if what == "tape":
            await task.tape(after_seq=one, limit=other)
        elif what == "drops":
            await self.manager.drops(one, after=other)
        elif what == "follow":
            follower = self.manager.handle(one if self.rounds % 2 else task.task_id).follow(other)
            try:
                await asyncio.wait_for(anext(follower), 0.01)
            except (TimeoutError, StopAsyncIteration):
                pass
            finally:
                await follower.aclose()
        elif what == "list":
            await self.manager.store.list(op=one, idempotency_key=other)
            await self.manager.store.list(since=one, before=other)
        elif what == "count":
            await self.manager.store.count(op=one)
        else:
            self.manager.op(one, retries=other)

    async def close(self) -> None:
        """End the innocent tasks, and look at all that they have written."""
        for ticks in self._ticks:
            ticks.put_nowait(None)
        results = [await task.result() for task in self.tasks]
        last = [(await task.tape(limit=1)).last_seq for task in self.tasks]
        unaccounted = self.manager.store.meter.ledger.unaccounted
        await self.manager.aclose()
        report = await self.manager.audit()
        await self.manager.store.aclose()

        assert results == [self.rounds] * INNOCENT
        assert last == [self.rounds + 2] * INNOCENT
        assert unaccounted == 0
        assert report.violations == ()


async def echo(_: Reporter, n: int) -> int:
    """An innocent runner."""
    return n


async def accept(_: Reporter, **params: Any) -> None:
    """A runner that takes any params."""


def run_examples(url: str, examples: int) -> Scene:
    """Play this many examples on the store of ``url``."""
    scene = Scene(url)
    with asyncio.Runner() as runner:
        runner.run(scene.open())

        @settings(
            max_examples=examples,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            print_blob=True,
        )
        @given(calls=st.lists(CALL, min_size=1, max_size=6))
        def play(calls: list[tuple[str, Any]]) -> None:
            runner.run(scene.play(calls))

        run: Callable[[], None] = play
        run()
        runner.run(scene.close())
    return scene


def test_any_input_is_its_callers_own(store_url: str) -> None:
    """Each call ends with an answer or a typed error; a hundred tasks beside it do not notice."""
    scene = run_examples(store_url, 10)

    assert scene.heard["BadSetting"] > 0


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_any_input_is_its_callers_own_at_length(store_url: str) -> None:
    """The same with many examples; prints how many there were, and how the calls ended."""
    scene = run_examples(store_url, int(os.environ.get("INPUT_EXAMPLES", "300")))

    kind, calls = store_url.partition(":")[0], sum(scene.heard.values())
    print(
        f"{kind}: {scene.rounds} examples, {calls} calls: {dict(scene.heard.most_common())}"
    )  # asked for
    assert {"answered", "BadSetting", "BadOp", "BadParams", "NotJson"} <= set(scene.heard)
