"""A codec of the user's: what comes back by it, what the store has, and what its faults cost."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
from collections.abc import Awaitable, Callable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from tapescope import (
    BadParams,
    BadSetting,
    Codec,
    CodecFailed,
    CodecMissing,
    IdempotencyConflict,
    NewTask,
    NotJson,
    Reporter,
    ShellCommand,
    TaskFailed,
    TaskManager,
    Telling,
    ThreadReporter,
)
from tapescope.model import NOT_REDACTED
from tapescope.store.validation import new_task_id
from tests.support.workbench import working

NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)


class Times:
    """Times and ``Decimal``s; what JSON carries is left as it is."""

    name = "times"

    def encode(self, value: Any) -> Any:
        """As text."""
        if isinstance(value, datetime.datetime):
            return value.isoformat()
        return {"decimal": str(value)} if isinstance(value, decimal.Decimal) else value

    def decode(self, stored: Any) -> Any:
        """From text; takes what it is given apart."""
        if isinstance(stored, str):
            return datetime.datetime.fromisoformat(stored)
        return decimal.Decimal(stored.pop("decimal"))


class Reversed:
    """Every value is sealed, by a transformation that hides nothing from anybody."""

    name = "reversed"

    def encode(self, value: Any) -> Any:
        """Backwards."""
        return json.dumps(value)[::-1]

    def decode(self, stored: Any) -> Any:
        """Forwards."""
        return json.loads(stored[::-1])


class Faulty:
    """Does something else in the place of one of its methods."""

    name = "times"

    def __init__(self, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
        self.encode, self.decode = encode, decode


def fail(error: BaseException) -> Callable[..., Any]:
    """A method that raises."""

    def raise_it(*_: object) -> Any:
        raise error

    return raise_it


def same(value: Any) -> Any:
    """A method that changes nothing."""
    return value


def wrapped(value: Any, by: str = "times") -> dict[str, Any]:
    """An encoded value as it is stored."""
    return {"$codec": by, "value": value}


@pytest.mark.parametrize("kind", ["loop", "thread"])
async def test_params_results_and_events_come_back_by_the_codec(any_url: str, kind: str) -> None:
    """The runner and who waits have the values; row and tape have JSON that says the codec."""
    seen: list[Any] = []

    async def in_loop(report: Reporter, at: Any, n: Any) -> Any:
        await report.emit("own", at)
        await report.partial("part", at)
        await report.progress("step", 1, detail=at)
        await report.emit_nowait("later", {"plain": n})
        seen.append((at, n))
        return decimal.Decimal("9.50")

    def in_thread(report: ThreadReporter, at: Any, n: Any) -> Any:
        report.emit("own", at)
        report.partial("part", at)
        report.progress("step", 1, detail=at)
        report.emit_nowait("later", {"plain": n})
        seen.append((at, n))
        return decimal.Decimal("9.50")

    async with working(any_url, codec=Times()) as bench:
        runner = in_loop if kind == "loop" else in_thread
        task = await bench.manager.submit("price", runner, params={"at": NOW, "n": [1]})
        later = bench.manager.handle(task.task_id)
        results = [await task.result(), await task.result(), await later.result()]
        row, events = await task.status(), (await task.tape()).events
        bodies = {event.type: event.body for event in events}

        assert seen == [(NOW, [1])]
        assert results == [decimal.Decimal("9.50")] * 3
        assert row.params == {"at": wrapped(NOW.isoformat()), "n": [1]}
        assert bodies["own"] == wrapped(NOW.isoformat())
        assert bodies["partial"]["payload"] == bodies["progress"]["detail"] == bodies["own"]
        assert bodies["later"] == {"plain": [1]}
        assert bodies["final"]["result"] == wrapped({"decimal": "9.50"})
        assert bench.manager.decode(bodies["own"]) == NOW
        assert bench.manager.decode(bodies["later"]) == {"plain": [1]}


async def test_a_sealing_codec_leaves_no_plain_text_in_the_store(any_url: str) -> None:
    """Each value is encoded, JSON too: the store has it in no row and on no tape."""

    async def greet(report: Reporter, name: str) -> str:
        await report.emit("greeted", name)
        return f"Hello {name}"

    async with working(any_url, codec=Reversed()) as bench:
        task = await bench.manager.submit("greet", greet, params={"name": "Ada"})
        result = await task.result()
        again = await task.result()
        stored = repr((await task.status(), await task.tape()))

        assert result == again == "Hello Ada"
        assert "Ada" not in stored
        assert "adA" in stored


async def test_a_worker_decodes_what_another_process_encoded(store_url: str) -> None:
    """An op has its params by the codec; plain JSON of a submitter without one is left alone."""
    seen: list[Any] = []
    async with working(store_url, codec=Times(), retry_delay=0.0) as bench:

        @bench.manager.op("price")
        async def price(report: Reporter, at: Any) -> Any:
            seen.append(at)
            return at

        async with TaskManager(store_url, work=False) as other:
            plain = await other.submit("price", params={"at": "soon"})

            assert await plain.result(30) == "soon"

            encoded = await bench.manager.submit("price", params={"at": NOW})
            asked = other.handle(encoded.task_id)
            with pytest.raises(CodecMissing, match="no codec"):
                await asked.result(30)
            again = await other.submit("price", params={"at": "soon"}, idempotency_key="k")
            await again.result(30)

        retried = await bench.manager.resubmit(encoded.task_id)

        assert await retried.result(30) == NOW
        assert seen == ["soon", NOW, "soon", NOW]


WITHOUT: list[tuple[str, Codec | None, str, str]] = [
    ("none", None, "CodecMissing", "this manager has no codec"),
    ("another", Reversed(), "CodecMissing", "this manager has the codec 'reversed'"),
    ("raises", Faulty(same, fail(ValueError("no key"))), "CodecFailed", "ValueError: no key"),
    ("exits", Faulty(same, fail(SystemExit(3))), "CodecFailed", "SystemExit: 3"),
    ("cancels", Faulty(same, fail(KeyboardInterrupt())), "CodecFailed", "KeyboardInterrupt"),
]


@pytest.mark.parametrize(
    ("codec", "error", "says"), [w[1:] for w in WITHOUT], ids=[w[0] for w in WITHOUT]
)
@pytest.mark.parametrize("thread", [False, True], ids=["loop", "thread"])
async def test_params_that_cannot_be_decoded_fail_the_attempt(
    codec: Codec | None, error: str, says: str, thread: bool
) -> None:
    """Each attempt fails, under the retries; the runner is not begun, and a neighbour is."""
    begun: list[str] = []

    async def run(report: Reporter, at: Any) -> None:
        begun.append(at)

    def run_in_thread(report: ThreadReporter, at: Any) -> None:
        begun.append(at)

    async with working("memory:", codec=codec, retry_delay=0.0, poll=0.05) as bench:
        bench.manager.op("price", retries=1)(run_in_thread if thread else run)
        row = NewTask(new_task_id(), "price", {"at": wrapped("x")}, retries=1)
        await bench.store.create(row)
        beside = await bench.manager.submit("beside", run, params={"at": "beside"})
        await beside.result(30)
        task = bench.manager.handle(row.task_id)
        with pytest.raises(TaskFailed) as failed:
            await task.result(30)
        types = [event.type for event in (await task.tape()).events]

        assert begun == ["beside"]
        assert failed.value.error.code == f"tapescope.errors.{error}"
        assert says in failed.value.error.message
        assert "'at'" in failed.value.error.message
        assert types == ["task_started", "attempt_failed", "task_started", "final"]


ENCODINGS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("raises", fail(ValueError("no such type")), "ValueError: no such type"),
    ("exits", fail(SystemExit(3)), "SystemExit: 3"),
    ("not JSON", lambda _: {1, 2}, "it made a value that is not JSON"),
    ("not finite", lambda _: float("nan"), "it made a value that is not JSON"),
]


@pytest.mark.parametrize(
    ("encode", "says"), [e[1:] for e in ENCODINGS], ids=[e[0] for e in ENCODINGS]
)
async def test_what_cannot_be_encoded_is_refused_where_it_was_given(
    encode: Callable[[Any], Any], says: str
) -> None:
    """A submit and a report raise ``CodecFailed``; a result is a ``bad_result``, never retried."""
    refused: list[str] = []
    codec = Faulty(lambda value: encode(value) if value == "bad" else value, repr)

    async def run(report: Reporter, give: str) -> Any:
        for call in (report.emit("own", "bad"), report.partial("part", "bad")):
            with pytest.raises(CodecFailed) as no:
                await call
            refused.append(str(no.value))
        with pytest.raises(CodecFailed):
            await report.emit_nowait("own", "bad")
        await report.emit("own", "good")
        return "bad" if give == "it" else "good"

    async with working("memory:", codec=codec) as bench:
        with pytest.raises(CodecFailed, match="could not encode the param 'give'"):
            await bench.manager.submit("give", run, params={"give": "bad"})
        bad = await bench.manager.submit("give", run, params={"give": "it"}, retries=3)
        with pytest.raises(TaskFailed) as failed:
            await bad.result()
        good = await bench.manager.submit("give", run, params={"give": "other"})

        assert await good.result() == "good"
        assert failed.value.error.code == "bad_result"
        assert says in failed.value.error.message
        assert len(refused) == 4
        assert all(says in text for text in refused)
        assert (await bad.status()).attempt == 1
        assert [event.type for event in (await good.tape()).events].count("own") == 1


async def test_a_result_that_cannot_be_decoded_is_the_error_of_who_asks() -> None:
    """The task has succeeded, and its tape is as it was."""
    codec = Faulty(lambda value: [value] if value == "x" else value, fail(ValueError("no")))

    async def run(report: Reporter) -> str:
        return "x"

    async with working("memory:", codec=codec) as bench:
        task = await bench.manager.submit("give", run)
        with pytest.raises(CodecFailed, match="could not decode the result: ValueError: no"):
            await task.result()

        assert (await task.status()).status == "succeeded"
        assert await bench.body(task) == {"outcome": "succeeded", "result": wrapped(["x"])}


async def test_what_looks_encoded_comes_back_or_is_refused() -> None:
    """With a codec the value is encoded; without one nobody could tell it from an encoded one."""
    look = wrapped("2026-11-29")

    async def give_back(report: Reporter, x: Any) -> Any:
        return x

    async def give(report: Reporter) -> Any:
        with pytest.raises(NotJson, match="as those of an encoded value"):
            await report.emit("own", look)
        return look

    identity = Faulty(same, same)
    async with working("memory:", codec=identity) as bench:
        task = await bench.manager.submit("same", give_back, params={"x": look})

        assert await task.result() == look

    async with working("memory:") as bench:
        with pytest.raises(BadParams, match="as those of an encoded value"):
            await bench.manager.submit("same", give_back, params={"x": look})
        task = await bench.manager.submit("give", give)
        with pytest.raises(TaskFailed, match="bad_result"):
            await task.result()


async def test_an_idempotency_key_compares_what_is_stored(any_url: str) -> None:
    """The same value in the same form is the same submit; a codec that varies makes it another."""
    counted = iter(range(9))
    varying = Faulty(lambda value: [next(counted), value], lambda stored: stored[1])

    async def give_back(report: Reporter, at: Any) -> Any:
        return at

    async with working(any_url, codec=Times()) as bench:
        submits = [
            await bench.manager.submit("k", give_back, params={"at": NOW}, idempotency_key="a")
            for _ in range(2)
        ]

        assert [one.created for one in submits] == [True, False]
        with pytest.raises(IdempotencyConflict):
            await bench.manager.submit(
                "k", give_back, params={"at": NOW.replace(year=2025)}, idempotency_key="a"
            )

    async with working("memory:", codec=varying) as bench:
        await bench.manager.submit("k", give_back, params={"at": 1}, idempotency_key="b")
        with pytest.raises(IdempotencyConflict):
            await bench.manager.submit("k", give_back, params={"at": 1}, idempotency_key="b")


@pytest.mark.parametrize("codec", [None, Times()], ids=["no codec", "codec"])
@pytest.mark.parametrize("by_name", [False, True], ids=["callable", "op"])
async def test_the_next_attempt_has_the_params_as_they_were(
    codec: Codec | None, by_name: bool
) -> None:
    """What a runner makes of a list or an object that it was given, no later attempt sees."""
    seen: list[list[int]] = []

    async def consume(report: Reporter, items: list[int]) -> int:
        seen.append(list(items))
        items.clear()
        if len(seen) < 3:
            raise ValueError
        return len(seen)

    async with working("memory:", codec=codec, retry_delay=0.0, poll=0.05) as bench:
        if by_name:
            bench.manager.op("eat")(consume)
        task = await bench.manager.submit("eat", consume, params={"items": [1, 2]}, retries=2)

        assert await task.result(30) == 3
        assert seen == [[1, 2]] * 3


async def test_the_output_of_a_command_is_stored_as_it_is() -> None:
    """The lines are the platform's own events, and what is sent again is compared with them."""
    async with working("memory:", codec=Reversed()) as bench:
        task = await bench.manager.submit("sh", ShellCommand("echo Ada"))
        result = await task.result()
        events = (await task.tape()).events

        assert result["exit_status"] == 0
        assert [e.body["line"] for e in events if e.type == "log"] == ["Ada"]


@pytest.mark.parametrize(
    "bad",
    [
        object(),
        json,
        Faulty(repr, 3),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # is refused
        type("Named", (Times,), {"name": "No Op"})(),
        type("Nameless", (Times,), {"name": None})(),
    ],
    ids=["object", "module", "no method", "bad name", "no name"],
)
def test_what_is_not_a_codec_is_refused_by_the_constructor(bad: Any) -> None:
    """An object without a name or a method is a ``BadSetting``."""
    with pytest.raises(BadSetting, match="codec"):
        TaskManager("sqlite:///tasks.db", codec=bad)


@dataclasses.dataclass
class Order:
    """An object of the user's."""

    name: str
    total: decimal.Decimal


class Orders:
    """Seals all values, orders among them."""

    name = "orders"

    def __init__(self) -> None:
        self.given: list[Any] = []

    def encode(self, value: Any) -> Any:
        """Backwards; refuses other types."""
        self.given.append(value)
        return json.dumps(value, default=self._take_apart)[::-1]

    def decode(self, stored: Any) -> Any:
        """Forwards."""
        value: Any = json.loads(stored[::-1])
        parts: Any = value.get("order") if hasattr(value, "get") else None
        if parts is not None:
            return Order(parts[0], decimal.Decimal(parts[1]))
        return value

    def _take_apart(self, value: Any) -> Any:
        if isinstance(value, Order):
            return {"order": [value.name, str(value.total)]}
        raise TypeError(f"no {type(value).__name__}")


Reports = Callable[..., Awaitable[Any]]


async def report_in_loop(report: Reporter, order: Order) -> Order:
    """Each report that a codec encodes, and a result."""
    await report.emit("own", order)
    await report.partial("part", order)
    await report.progress("step", 1, detail=order)
    await report.emit_nowait("nowait", [order])
    await report.emit("kept", report.redact("kept", order))
    return order


def report_in_thread(report: ThreadReporter, order: Order) -> Order:
    """The same from a thread."""
    report.emit("own", order)
    report.partial("part", order)
    report.progress("step", 1, detail=order)
    report.emit_nowait("nowait", [order])
    report.emit("kept", order)
    return order


@pytest.mark.parametrize("runner", [report_in_loop, report_in_thread])
async def test_a_redaction_hook_is_asked_before_the_codec(any_url: str, runner: Reports) -> None:
    """It has the runner's own types, as a copy; the codec never sees what the hook takes away."""
    asked: list[tuple[str, Any]] = []

    def scrub(told: Telling, value: Any) -> Any:
        asked.append((told.path, deepcopy(value)))
        parts: Any = [value] if told.path in ("own", "kept", "result") else value
        for order in parts.values() if told.path in ("partial", "progress") else parts:
            if isinstance(order, Order):
                order.name = "gone"
        return value

    codec, order = Orders(), Order("Ada", decimal.Decimal("9.5"))
    async with working(any_url, codec=codec, redact=scrub) as bench:
        handle = await bench.manager.submit("x", partial(runner, order=order))
        result = await handle.result(30)
        stored = repr((await handle.status(), await handle.tape()))
        events = (await handle.tape()).events[1:]
    bodies = {event.type: event.body for event in events}

    redacted = Order("gone", decimal.Decimal("9.5"))
    sealed = wrapped(Orders().encode(redacted), "orders")
    assert order == Order("Ada", decimal.Decimal("9.5"))
    assert result == redacted
    assert asked == [
        ("own", order),
        ("partial", {"kind": "part", "payload": order}),
        ("progress", {"phase": "step", "current": 1, "total": None, "detail": order}),
        ("nowait", [order]),
        ("kept", order),
        ("result", order),
    ]
    assert codec.given == [redacted, redacted, redacted, [redacted], redacted, redacted]
    assert bodies["own"] == bodies["kept"] == sealed
    assert bodies["partial"] == {"kind": "part", "payload": sealed}
    assert bodies["progress"] == {"phase": "step", "current": 1, "total": None, "detail": sealed}
    assert "Ada" not in stored
    assert "adA" not in stored


class Uncopied(Order):
    """There is no copy of it, and of some codec's making there need not be."""

    def __deepcopy__(self, memo: object) -> Uncopied:
        raise SystemExit("no")


def give_name(body: Any) -> Any:
    """The text alone of a partial's payload."""
    return body["payload"].name


def leave(_: Telling, value: Any) -> Any:
    """A hook that has nothing to take away."""
    return value


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ({"kind": "k", "payload": 1}, {"kind": "k", "payload": wrapped("1", "orders")}),
        ({"kind": "k"}, {"kind": "k"}),
        (give_name, wrapped('"adA"', "orders")),
        ({"kind": "k", "moved": 1}, wrapped('}1 :"devom" ,"k" :"dnik"{', "orders")),
        ({"kind": ["k"]}, wrapped('}]"k"[ :"dnik"{', "orders")),
        (object(), NOT_REDACTED),
        ({"kind": "k", "payload": {1, 2}}, NOT_REDACTED),
        (NOT_REDACTED, NOT_REDACTED),
    ],
    ids=["part", "less", "text", "moved", "deep", "object", "refused", "marker"],
)
async def test_the_codec_has_whatever_the_hook_gives(answer: Any, kept: Any) -> None:
    """In the shape of the body its part, else all of it; what it refuses is the hook's failure."""

    async def work(report: Reporter) -> None:
        await report.partial("part", Uncopied("Ada", decimal.Decimal(1)))

    def hook(_: Telling, value: Any) -> Any:
        return give_name(value) if answer is give_name else answer

    async with working("memory:", codec=Orders(), redact=hook) as bench:
        handle = await bench.manager.submit("x", work)
        await handle.result(30)
        tape = await handle.tape()

    assert tape.events[1].body == kept


@pytest.mark.parametrize(
    ("codec", "error"), [(None, NotJson), (Orders(), CodecFailed)], ids=["json", "codec"]
)
async def test_a_value_that_the_hook_leaves_is_refused_as_without_it(
    codec: Codec | None, error: type[Exception]
) -> None:
    """A set is the runner's mistake at each report, and a ``bad_result``; no marker hides it."""
    refused: list[type[Exception]] = []

    async def work(report: Reporter) -> Any:
        for call in (
            report.emit("own", {1}),
            report.partial("p", {1}),
            report.progress("p", 1, 1, {1}),
        ):
            try:
                await call
            except (NotJson, CodecFailed) as raised:
                refused.append(type(raised))
        return {1}

    async with working("memory:", codec=codec, redact=leave) as bench:
        handle = await bench.manager.submit("x", work)
        with pytest.raises(TaskFailed, match="bad_result"):
            await handle.result(30)
        tape = await handle.tape()

    assert refused == [error] * 3
    assert [event.type for event in tape.events] == ["task_started", "final"]
