"""Params and results of the types that an op's runner is annotated with."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pydantic
import pytest

from tapescope import (
    NewTask,
    Op,
    Ops,
    Reporter,
    Submission,
    TaskFailed,
    TaskManager,
    TaskStatus,
    Telling,
)
from tapescope.errors import BadParams, CodecFailed, NotOfType
from tapescope.store.validation import new_task_id
from tapescope.testing import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence as OnlyForCheckers


class Colour(Enum):
    """An enumeration."""

    RED = "red"


class Point(NamedTuple):
    """A tuple with names."""

    x: int
    y: int


class Stamped(TypedDict):
    """A dict with a member that JSON does not carry."""

    at: dt.datetime


@dataclass
class Order:
    """A dataclass, which holds others of its kind."""

    number: UUID
    placed: dt.datetime
    total: Decimal
    colours: set[Colour] = field(default_factory=set[Colour])
    parts: list[Order] = field(default_factory=list["Order"])


class Parcel(msgspec.Struct):
    """A struct of msgspec's."""

    weight: Decimal


class Address(pydantic.BaseModel):
    """A model of pydantic's."""

    street: str
    since: dt.date
    no: int = pydantic.Field(default=1, alias="houseNumber")


@dataclass
class Folder:
    """A dataclass with a part that nobody here can convert."""

    path: Path


NUMBER = UUID("569cd461-996c-4a36-924e-4d39d3228733")
PLACED = dt.datetime(2026, 11, 29, 13, 40, 5, 123456, dt.UTC)
ORDER = Order(NUMBER, PLACED, Decimal("9.50"), {Colour.RED}, [Order(NUMBER, PLACED, Decimal(1))])

CASES: list[tuple[Any, Any]] = [
    (dt.datetime, PLACED),
    (dt.datetime, dt.datetime(2026, 11, 29, 13, 40)),  # noqa: DTZ001  # without a zone it stays so
    (dt.date, dt.date(2026, 11, 29)),
    (dt.timedelta, dt.timedelta(days=1, microseconds=7)),
    (Decimal, Decimal("0.10")),
    (UUID, NUMBER),
    (Colour, Colour.RED),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"a")),
    (dt.time, dt.time(13, 40, 5)),
    (frozenset[Colour], frozenset({Colour.RED})),
    (Stamped, {"at": PLACED}),
    (set[str], {"b", "a"}),
    (tuple[int, str], (1, "a")),
    (Point, Point(1, 2)),
    (dict[UUID, list[Decimal]], {NUMBER: [Decimal(1)]}),
    (dict[int, str], {1: "one"}),
    (Order, ORDER),
    (list[Order], [ORDER]),
    (Order | None, ORDER),
    (Parcel, Parcel(Decimal("1.5"))),
    (Address, Address(street="a", since=dt.date(2026, 1, 1), houseNumber=7)),
    (list[Address], [Address(street="a", since=dt.date(2026, 1, 1))]),
]


def make_op(ops: Ops, kind: Any, seen: list[Any], *, result: Any = None) -> Op:
    """An op whose runner takes and returns this type; ``result`` is returned in its place."""

    async def work(report: Reporter, value: Any) -> Any:
        seen.append(value)
        return value if result is None else result

    work.__annotations__ = {"report": Reporter, "value": kind, "return": kind}
    op: Op = ops.op("work", retries=0)(work)
    return op


@pytest.mark.parametrize(("kind", "value"), CASES, ids=[str(kind) for kind, _ in CASES])
async def test_a_value_comes_back_as_what_it_was(kind: Any, value: Any) -> None:
    """To the runner and from ``result()``, whichever handle is asked; the store has JSON."""
    ops, seen = Ops(), list[Any]()
    op = make_op(ops, kind, seen)
    async with MemoryStore() as store, TaskManager(store, ops=ops) as manager:
        task = await op.submit(value)
        results = [await task.result(), await manager.handle(task.task_id).result()]
        stored = (await task.status()).params

        assert [*seen, *results] == [value] * 3
        assert {type(one) for one in [*seen, *results]} == {type(value)}
        assert json.loads(json.dumps(stored)) == stored


@pytest.mark.parametrize("kind", [int, list[str], dict[str, Any], Path, Folder, "Missing", None])
async def test_what_json_carries_goes_as_it_is(kind: Any) -> None:
    """So does what cannot be converted, or resolved: an op without such types is as it was."""
    ops, seen = Ops(), list[Any]()
    op = make_op(ops, kind, seen)
    async with MemoryStore() as store, TaskManager(store, ops=ops):
        result = await (await op.submit("5")).result()

        assert (seen, result) == (["5"], "5")


def ways(op: Op, manager: TaskManager, value: Any) -> list[Callable[[], Any]]:
    """The ways to submit an op."""
    return [
        lambda: op.submit(value),
        lambda: op.submit_many([op.bind(value)]),
        lambda: manager.submit("work", params={"value": value}),
        lambda: manager.submit_many([Submission("work", params={"value": value})]),
    ]


@pytest.mark.parametrize("value", [{"number": 1}, 7, object(), ORDER.parts])
async def test_a_value_of_another_type_is_refused_at_the_submit(value: Any) -> None:
    """By every way to submit; nothing is made."""
    ops = Ops()
    op = make_op(ops, Order, [])
    async with MemoryStore() as store, TaskManager(store, ops=ops) as manager:
        for submit in ways(op, manager, value):
            with pytest.raises(BadParams, match="param 'value' is not of its type"):
                await submit()

        assert await store.count() == dict.fromkeys(TaskStatus, 0)


async def test_every_way_to_submit_encodes() -> None:
    """Also to a manager that does not know the op, and JSON that is of the type already."""
    ops, seen = Ops(), list[Any]()
    op = make_op(ops, Order, seen)
    plain = msgspec.to_builtins(ORDER)
    async with (
        MemoryStore() as store,
        TaskManager(store, work=False) as web,
        TaskManager(store, ops=ops) as manager,
    ):
        await (await op.options(manager=web).submit(ORDER)).result()
        bare = await web.submit("work", params={"value": plain})
        known = await manager.submit("work", params={"value": plain})
        many = await web.submit_many([op.bind(ORDER)])
        results = [await task.result() for task in (bare, known, *many)]

        assert seen == [ORDER] * 4
        assert results == [plain, ORDER, ORDER]


@pytest.mark.parametrize("value", [{"number": 1}, None, "9.50"])
async def test_a_value_that_cannot_be_decoded_at_a_claim_is_bad_params(value: Any) -> None:
    """As params of other names: the runner is not begun, and the task is not tried again."""
    ops, seen = Ops(), list[Any]()
    make_op(ops, Order, seen)
    async with (
        MemoryStore() as store,
        TaskManager(store, work=False) as web,
        TaskManager(store, ops=ops),
    ):
        task = await web.submit("work", params={"value": value}, retries=3)
        with pytest.raises(TaskFailed, match="param 'value' is not of its type") as failed:
            await task.result()

        assert seen == []
        assert failed.value.error.code == "bad_params"
        assert (await task.status()).attempt == 1


@pytest.mark.parametrize("result", [7, ORDER.parts, object()])
async def test_a_result_of_another_type_is_a_bad_result(result: Any) -> None:
    """The task fails by it: nobody could read it as what the annotation says."""
    ops = Ops()
    op = make_op(ops, Order, [], result=result)
    async with MemoryStore() as store, TaskManager(store, ops=ops):
        task = await op.submit(ORDER)
        with pytest.raises(TaskFailed, match="result is not a") as failed:
            await task.result()

        assert failed.value.error.code == "bad_result"


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
async def test_a_type_that_raises_refuses_its_value(error: BaseException) -> None:
    """Whatever it raises: no task is lost for that, and no process ends."""

    @dataclass
    class Touchy:
        n: int

        def __post_init__(self) -> None:
            if self.n:
                raise error

    ops = Ops()
    zero = Touchy(0)
    op = make_op(ops, Touchy, [], result=zero)
    async with MemoryStore() as store, TaskManager(store, ops=ops):
        with pytest.raises(BadParams, match="is not of its type"):
            await op.submit({"n": 1})
        zero.n = 1
        task = await op.submit({"n": 0})
        with pytest.raises(TaskFailed, match="result is not a"):
            await task.result()


class Sealed:
    """A codec that notes what it is given."""

    name = "sealed"

    def __init__(self) -> None:
        self.given: list[Any] = []

    def encode(self, value: Any) -> Any:
        """Any JSON value as text."""
        self.given.append(value)
        return json.dumps(value)[::-1]

    def decode(self, stored: Any) -> Any:
        """The value again."""
        return json.loads(stored[::-1])


async def test_types_stand_between_the_runner_and_hook_and_codec() -> None:
    """On the way in the codec is given JSON; on the way out first the hook, then the codec."""
    ops, seen, told, codec = Ops(), list[Any](), list[Any](), Sealed()
    op = make_op(ops, Order, seen)

    def redact(about: Telling, value: Any) -> Any:
        told.append(value)
        return value | {"total": "0"}

    async with (
        MemoryStore() as store,
        TaskManager(store, ops=ops, codec=codec, redact=redact) as manager,
    ):
        task = await op.submit(ORDER)
        result = await task.result()
        again = await manager.resubmit(task.task_id)

        plain = msgspec.to_builtins(ORDER)
        assert seen[:1] == [ORDER]
        assert told[:1] == [plain]
        assert codec.given[:2] == [plain, plain | {"total": "0"}]
        assert result.total == 0
        assert set((await task.status()).params["value"]) == {"$codec", "value"}
        assert (await again.result()).total == 0


async def test_a_codec_that_knows_the_type_goes_on() -> None:
    """What it encoded before its op's types were looked at comes back as it was."""

    class Orders:
        name = "orders"

        def encode(self, value: Any) -> Any:
            return value

        def decode(self, stored: Any) -> Any:
            return ORDER

    ops, seen = Ops(), list[Any]()
    make_op(ops, Order, seen)
    stored = {"value": {"$codec": "orders", "value": 1}}
    async with MemoryStore() as store:
        task, _ = await store.create(NewTask(new_task_id(), "work", stored))
        async with TaskManager(store, ops=ops, codec=Orders()) as manager:
            result = await manager.handle(task.task_id).result()

        assert [*seen, result] == [ORDER, ORDER]


async def test_a_result_that_a_hook_took_away_is_not_of_its_type() -> None:
    """Who asks is told so; the task has succeeded."""
    ops = Ops()
    op = make_op(ops, Decimal, [])
    async with MemoryStore() as store, TaskManager(store, ops=ops, redact=lambda _, v: "x"):
        task = await op.submit(Decimal(1))
        with pytest.raises(NotOfType, match=r"The result is not a decimal\.Decimal"):
            await task.result()

        assert (await task.status()).status is TaskStatus.SUCCEEDED


async def test_a_set_is_stored_in_one_order() -> None:
    """So the same submit again finds its task, in any process."""
    ops = Ops()
    op = make_op(ops, set[str], [])
    words = [str(n) for n in range(50)]
    async with MemoryStore() as store, TaskManager(store, ops=ops):
        task = await op.options(idempotency_key="k").submit(set(words))
        await op.options(idempotency_key="k").submit({*words[25:], *words[:25]})

        assert (await task.status()).params["value"] == sorted(words)


async def test_annotations_are_read_where_they_stand() -> None:
    """A class below its function, or in the function around it; one for checkers alone is none."""
    ops = Ops()

    @ops.op("late")
    async def late(report: Reporter, one: Later, many: OnlyForCheckers[int]) -> Near:
        assert isinstance(one, Later)
        return Near(one.n + len(many))

    @dataclass
    class Near:
        n: int

    async with MemoryStore() as store, TaskManager(store, ops=ops):
        result = await (await late.submit(Later(1), [1, 2])).result()

        assert result == Near(3)


async def test_a_callable_of_its_own_has_json() -> None:
    """Types are an op's: a runner that is handed to a submit is as before."""

    async def work(report: Reporter, total: Decimal) -> Decimal:
        return total

    async with MemoryStore() as store, TaskManager(store) as manager:
        with pytest.raises((BadParams, CodecFailed)):
            await manager.submit("work", work, params={"total": Decimal(1)})


@dataclass
class Later:
    """Defined below the function that names it."""

    n: int
