"""Bad input: an error at the caller, and nothing written; it never counts as dropped."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from tapescope.errors import (
    BadEventType,
    BadOp,
    BadParams,
    BadSetting,
    EventTooLarge,
    NotJson,
    StoreClosed,
    TapeFull,
    TapescopeError,
)
from tapescope.model.tape import NewEvent
from tapescope.model.tasks import FinalEvent, NewTask
from tapescope.store.port import TaskStore
from tapescope.store.validation import StoreLimits, new_task_id
from tapescope.testing.conformance.suite import Stores, StoreSuite
from tapescope.testing.tasks import LEASE, OWNER, log, start

NO_JSON: list[Any] = [
    math.nan,
    {"deep": [math.inf]},
    b"bytes",
    {"a": "nul \0 in it"},
    {"nul \0 key": 1},
    {1: "a key that is not a string"},
    2**70,
    "lone surrogate \ud800",
    {"a set"},
]


def shorten(value: object) -> str:
    """A value as the name of a test may show it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


class InputConformance(StoreSuite):
    """Bad input: an error at the caller, and nothing written; it never counts as dropped."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def untouched(self, store: TaskStore) -> AsyncGenerator[TaskStore]:
        """A store that must hold nothing at the end but what ``start`` puts there."""
        yield store
        tasks = (await store.list()).tasks
        lengths = [(await store.read_tape(task.task_id)).last_seq for task in tasks]
        drops = await store.read_quarantine()

        assert set(lengths) <= {0, 1}
        assert drops.drops == ()
        assert store.meter.ledger.dropped == 0

    @pytest.mark.parametrize("body", NO_JSON, ids=shorten)
    async def test_event_that_is_not_json(self, untouched: TaskStore, body: object) -> None:
        """What JSON cannot carry, or a store cannot keep, is refused before anything is written."""
        attempt = await start(untouched)
        with pytest.raises(NotJson, match="is not JSON"):
            await untouched.append(attempt, [log("fine"), NewEvent("log", body)])
        with pytest.raises(NotJson, match="is not JSON"):
            _ = untouched.append_nowait(attempt, [NewEvent("log", body)])

    @pytest.mark.parametrize(
        "type_",
        ["task_started", "attempt_failed", "attempt_released", "final", "heartbeat", "error"],
    )
    async def test_reserved_event_type(self, untouched: TaskStore, type_: str) -> None:
        """Types of the platform are not a user's to write."""
        attempt = await start(untouched)
        with pytest.raises(BadEventType, match="reserved"):
            await untouched.append(attempt, [NewEvent(type_)])

    @pytest.mark.parametrize("type_", ["", "Log", "1log", "with space", "x" * 65, "nul\0", "é"])
    async def test_malformed_event_type(self, untouched: TaskStore, type_: str) -> None:
        """A type must be fit for a metric label."""
        attempt = await start(untouched)
        with pytest.raises(BadEventType, match="is not a valid event type"):
            await untouched.append(attempt, [NewEvent(type_)])

    async def test_event_too_large(self, stores: Stores) -> None:
        """The limit is on the bytes of the JSON text; an event of exactly that size is stored."""
        store = await stores.open(limits=StoreLimits(event_bytes=100))
        attempt = await start(store)
        answer = await store.append(attempt, [NewEvent("log", "x" * 98)])
        with pytest.raises(EventTooLarge, match="over the limit of 100"):
            await store.append(attempt, [NewEvent("log", "x" * 99)])
        with pytest.raises(EventTooLarge):
            await store.append(attempt, [NewEvent("log", "é" * 50)])
        with pytest.raises(EventTooLarge):
            await store.finish_if_running(attempt, FinalEvent.succeeded("x" * 99))

        assert answer.stored == range(2, 3)
        assert (await store.read_tape(attempt.task_id)).last_seq == 2

    async def test_result_that_is_not_json(self, untouched: TaskStore) -> None:
        """A result that a tape cannot hold leaves the task running, so it can end as failed."""
        attempt = await start(untouched)
        with pytest.raises(NotJson):
            await untouched.finish_if_running(attempt, FinalEvent.succeeded(math.nan))

        assert not (await untouched.get(attempt.task_id)).status.terminal

    async def test_full_tape_still_takes_its_final(self, stores: Stores) -> None:
        """The limit counts what is on the tape or on its way, and never stops the ``final``."""
        store = await stores.open(limits=StoreLimits(tape_events=5))
        attempt = await start(store)
        waiting = [store.append_nowait(attempt, [log(n)]) for n in range(4)]
        with pytest.raises(TapeFull, match="its limit of 5"):
            await store.append(attempt, [log("one too many")])
        for future in waiting:
            await future
        with pytest.raises(TapeFull):
            await store.append(attempt, [log("one too many")])
        answer = await store.finish_if_running(attempt, FinalEvent.succeeded())

        assert answer.won
        assert answer.last_seq == 6

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"op": "1resize"}, BadOp),
            ({"op": ""}, BadOp),
            ({"op": "x" * 129}, BadOp),
            ({"op": "nul\0"}, BadOp),
            ({"task_id": "nonsense"}, BadSetting),
            ({"task_id": "0" * 32}, BadSetting),
            ({"timeout": 0.0}, BadSetting),
            ({"timeout": math.nan}, BadSetting),
            ({"retries": -1}, BadSetting),
            ({"params": ["no", "object"]}, BadParams),
            ({"params": {"a": math.nan}}, BadParams),
            ({"params": {"a": "\0"}}, BadParams),
            ({"params": {"a": "x" * 300_000}}, BadParams),
            ({"idempotency_key": "nul \0 in it"}, BadSetting),
            ({"idempotency_key": "lone surrogate \ud800"}, BadSetting),
        ],
        ids=shorten,
    )
    async def test_task_that_cannot_be(
        self, untouched: TaskStore, change: dict[str, Any], error: type[TapescopeError]
    ) -> None:
        """Each field of a new task is checked before anything is written."""
        with pytest.raises(error):
            await untouched.create(replace(NewTask(new_task_id(), "work"), **change))

        assert (await untouched.list()).tasks == ()

    async def test_lease_and_message_are_checked(self, untouched: TaskStore) -> None:
        """A claim needs a lease over 0; a cancel's words must be ones that a store can keep."""
        task, _ = await untouched.create(NewTask(new_task_id(), "work"))
        with pytest.raises(BadSetting, match="lease"):
            await untouched.claim_if_pending(task, OWNER, 0)
        with pytest.raises(BadSetting, match="owner"):
            await untouched.claim_if_pending(task, "nul \0", LEASE)
        for message in ("nul \0", "lone surrogate \ud800", "too long " * 10_000):
            with pytest.raises(BadSetting, match="message"):
                await untouched.request_cancel(task.task_id, message=message)

        assert await untouched.get(task.task_id) == task

    async def test_hostile_text_is_only_text(self, store: TaskStore) -> None:
        """Quotes, percent signs and SQL come back as they were."""
        text = """'; DROP TABLE tasks; -- %s $1 ? {} \\ \u2028 \U0001f600"""
        attempt = await start(store)
        await store.append(attempt, [NewEvent("log", {text: text})])
        await store.request_cancel(attempt.task_id, message=text, by=text)
        page = await store.read_tape(attempt.task_id)
        task = await store.get(attempt.task_id)

        assert page.events[1].body == {text: text}
        assert task.cancel is not None
        assert (task.cancel.message, task.cancel.by) == (text, text)

    async def test_closed_store_says_so(self, store: TaskStore) -> None:
        """Every verb of a closed store raises ``StoreClosed``; closing twice is no error."""
        attempt = await start(store)
        await store.aclose()
        await store.aclose()
        for call in (
            store.create(NewTask(new_task_id(), "work")),
            store.append(attempt, [log()]),
            store.finish_if_running(attempt, FinalEvent.succeeded()),
            store.request_cancel(attempt.task_id),
            store.get(attempt.task_id),
            store.list(),
            store.count(),
            store.read_tape(attempt.task_id),
            store.read_quarantine(),
        ):
            with pytest.raises(StoreClosed):
                await call
        with pytest.raises(StoreClosed):
            store.changes()
        await store.open()

        assert (await store.get(attempt.task_id)).attempt == 1
