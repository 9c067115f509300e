"""The checks of what callers hand in: whatever it is, it is a plain value after them, or refused.

One table goes over every parameter that takes a number, one over every one that takes a text.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import pytest

from tapescope import BadOp, BadSetting, NewEvent, NewTask, TaskManager
from tapescope.errors import TapescopeError
from tapescope.model.tasks import Attempt, ErrorInfo
from tapescope.store.validation import (
    check_count,
    check_key,
    check_retries,
    check_seconds,
    check_text,
    check_time,
    new_task_id,
)
from tapescope.testing import MemoryStore


class Index:
    """A whole number of another library's."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        """The number."""
        return self.value


class Float:
    """A number of another library's."""

    def __float__(self) -> float:
        """The number."""
        return 2.5


class Broken:
    """A number that cannot be had, nor printed."""

    def __float__(self) -> float:
        """No number."""
        raise RuntimeError("no number")

    def __index__(self) -> int:
        """No number."""
        raise RuntimeError("no number")

    def __repr__(self) -> str:
        """No text."""
        raise RuntimeError("no text")


class Fake(str):
    """A text that says it is another one."""

    __slots__ = ()

    def __str__(self) -> str:
        """Another text."""
        return "another"

    def __eq__(self, other: object) -> bool:
        """Equal to nothing."""
        return False

    def __hash__(self) -> int:
        """The same as all."""
        return 1


class Word(StrEnum):
    """A text of an Enum."""

    KEY = "key"


class NoZone(tzinfo):
    """A zone that does not say its offset."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """Nothing."""
        return None

    def dst(self, dt: datetime | None) -> timedelta | None:
        """Nothing."""
        return None

    def tzname(self, dt: datetime | None) -> str:
        """A name."""
        return "none"


class BrokenZone(NoZone):
    """A zone that cannot be asked."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        """No offset."""
        raise RuntimeError("no offset")


NO_SECONDS: list[Any] = [
    -1, -0.5, float("nan"), float("inf"), 1e13, 2**70, 10**5_000, Decimal("NaN"), Decimal("1e400"),
    Fraction(-1, 2), True, "5", b"5", timedelta(seconds=5), datetime.now(UTC), None, [], 1j,
    Broken(), Index(2**70),
]  # fmt: skip
NO_WHOLE: list[Any] = [
    -1, 1.5, 1.0, True, "1", Decimal(1), Fraction(1), 2**31, 10**5_000, float("nan"), None,
    timedelta(1), [], Broken(), Index(-1), Index(2**70),
]  # fmt: skip
NO_TEXT: list[Any] = ["a\0b", "\ud800", "x" * 20_000, 5, b"key", ["key"], {}, Broken(), 1.5]
NO_TIMES: list[Any] = [
    1.0, 5, "2026-01-01", datetime(2026, 1, 1),  # noqa: DTZ001  # what is refused
    datetime(2026, 1, 1, tzinfo=NoZone()),
    datetime(2026, 1, 1, tzinfo=BrokenZone()), timedelta(1), Broken(),
    datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
]  # fmt: skip


def name(value: object) -> str:
    """A value as the name of a test may show it."""
    return f"{type(value).__name__}"


@pytest.mark.parametrize("value", [0, 2, 2.5, Decimal("2.5"), Fraction(5, 2), Float(), Index(2)])
def test_numbers_of_every_type_are_seconds(value: object) -> None:
    """Whatever is a number comes out as a plain float."""
    seconds = check_seconds("delay", value)

    assert type(seconds) is float
    assert seconds in (0, 2, 2.5)


@pytest.mark.parametrize("value", NO_SECONDS, ids=name)
def test_other_values_are_no_seconds(value: object) -> None:
    """What no store and no timer could take is refused by name; also what cannot be printed."""
    with pytest.raises(BadSetting, match="delay"):
        check_seconds("delay", value)


def check_named_count(value: object) -> int:
    """A count, under the name of retries."""
    return check_count("retries", value)


@pytest.mark.parametrize("check", [check_retries, check_named_count])
def test_whole_numbers(check: Callable[[object], int]) -> None:
    """A whole number of any type comes out as a plain int; all else is refused."""
    assert (check(3), check(Index(3))) == (3, 3)
    assert type(check(Index(3))) is int
    for value in NO_WHOLE:
        with pytest.raises(BadSetting, match="retries"):
            check(value)


def test_texts() -> None:
    """A text comes out plain, whatever class it is of; all else is refused."""
    assert check_key("é" * 512) == "é" * 512
    assert [type(check_key(text)) for text in ("key", Word.KEY, Fake("key"))] == [str] * 3
    assert str.__eq__(check_text("by", Fake("key")), "key")
    for value in [*NO_TEXT, "é" * 513]:
        with pytest.raises(BadSetting, match="idempotency_key"):
            check_key(value)


def test_times() -> None:
    """An aware time of any zone comes out as microseconds; all else is refused."""
    east = timezone(timedelta(hours=2))

    assert check_time("run_at", datetime(1970, 1, 1, 2, 0, 1, 5, east)) == 1_000_005
    for value in NO_TIMES:
        with pytest.raises(BadSetting, match="run_at"):
            check_time("run_at", value)


async def succeed(*_: object) -> None:
    """A runner."""


WHERE: dict[str, list[Any]] = {
    "delay": NO_SECONDS,
    "timeout": [0, *NO_SECONDS],
    "retries": NO_WHOLE,
    "idempotency_key": NO_TEXT,
    "run_at": NO_TIMES,
    "params": [5, "x", [1], {1: 2}, {"x": b""}, {"x": float("nan")}, Broken()],
}
"""By parameter of ``submit`` what it must refuse."""


@pytest.mark.parametrize("parameter", WHERE)
async def test_submit_refuses_before_the_store(parameter: str) -> None:
    """Each wrong value of each parameter is a typed error of its caller; nothing is written."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        for value in WHERE[parameter]:
            if value is None:
                continue  # it is the default
            with pytest.raises(TapescopeError) as raised:
                await manager.submit("work", succeed, **{parameter: value})

            assert type(raised.value).__name__ in ("BadSetting", "BadParams"), value
        assert not (await store.list()).tasks


@pytest.mark.parametrize(
    "setting",
    ["lease", "drain", "poll", "settle_within", "audit_every", "audit_rate", "max_running"],
)
def test_settings_of_a_manager_are_checked(setting: str) -> None:
    """Each is refused by its name, of whatever type it is."""
    no_numbers: list[Any] = [-1, float("nan"), True, "5", timedelta(1), Broken(), [], 10**5_000]
    for value in no_numbers:
        with pytest.raises(BadSetting, match=setting):
            TaskManager(MemoryStore(), **{setting: value})


async def test_every_other_verb_refuses() -> None:
    """A typed error answers whatever is no op, no task, no reason, no place and no time."""
    async with MemoryStore() as store, TaskManager(store) as manager:
        handle = await manager.submit("work", succeed)
        attempt = Attempt(handle.task_id, 1, "me")
        for op in (None, 5, "Re size", b"op", ["op"], Broken()):
            with pytest.raises(BadOp):
                await manager.submit(op)  # type: ignore[arg-type]  # what is refused
            with pytest.raises(BadOp):
                manager.op(op)  # type: ignore[arg-type]  # as above
        no_ids: list[Any] = [None, 5, "\ud800", ["id"], {}, Broken()]
        for task_id in no_ids:
            other = manager.handle(task_id)
            for verb in (other.status, other.result, other.cancel, other.tape):
                with pytest.raises(TapescopeError, match="no task"):
                    await verb()
            with pytest.raises(TapescopeError, match="no task"):
                _ = [event async for event in other.follow()]
        no_texts: list[Any] = [*NO_TEXT, None]
        for value in no_texts:
            with pytest.raises(BadSetting):
                await handle.cancel(value)
            with pytest.raises(BadSetting):
                await handle.cancel(reason=value)
            if value is not None:
                with pytest.raises(BadSetting):
                    await handle.cancel(by=value)
                with pytest.raises(BadSetting):
                    await store.list(op=value)
                with pytest.raises(BadSetting):
                    await manager.drops(value)
        for value in NO_SECONDS:
            if value is not None:
                with pytest.raises(BadSetting):
                    await handle.result(value)
        for value in NO_WHOLE:
            with pytest.raises(BadSetting):
                await handle.tape(after_seq=value)
            with pytest.raises(BadSetting):
                await handle.tape(limit=value)
            with pytest.raises(BadSetting):
                _ = [event async for event in handle.follow(value)]
        for value in NO_TIMES:
            with pytest.raises(BadSetting):
                await store.list(since=value)
        for run_at in (2**70, -(2**70), 1.5):
            with pytest.raises(BadSetting):
                await store.retry_later(attempt, ErrorInfo("x"), run_at)  # type: ignore[arg-type]
            with pytest.raises(BadSetting):
                await store.create(NewTask(new_task_id(), "x", run_at=run_at))  # type: ignore[arg-type]


async def test_number_of_an_attempt_that_no_column_holds(store_url: str) -> None:
    """What is bound with others' rows and cannot be is that call's refusal alone."""
    async with TaskManager(store_url, work=False) as manager:
        store = manager.store
        tasks = [(await store.create(NewTask(new_task_id(), "work")))[0] for _ in range(8)]
        claims = [await store.claim_if_pending(task, "me", 60) for task in tasks]
        attempts = [claim.attempt for claim in claims if claim is not None]
        # one whose tape's end is known, so that it is bound, and one whose is not
        known = attempts[0]
        assert known.cursor is not None
        known.cursor.owner = object()  # type: ignore[attr-defined]  # a defect, wherever it is from
        unknown = Attempt(tasks[1].task_id, 2**70, "me")
        answers = await asyncio.gather(
            *(store.append(attempt, [NewEvent("log", 1)]) for attempt in (*attempts, unknown)),
            return_exceptions=True,
        )

    assert [type(answer).__name__ for answer in answers] == [
        "StoreRefused", *["Appended"] * 7, "StoreRefused",
    ]  # fmt: skip
