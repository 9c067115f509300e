"""What a store takes: its limits, and the checks of everything a caller hands in.

Refused input is not a drop: the caller gets an error, and nothing is written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import uuid_utils

from tapescope.codec import decode, encode
from tapescope.errors import (
    BadOp,
    BadParams,
    BadSetting,
    EventTooLarge,
    NotJson,
)
from tapescope.model.tasks import NewTask, is_op
from tapescope.store.flush import CreateRow

__all__ = [
    "StoreLimits",
    "bind",
    "check_age",
    "check_new_task",
    "check_page_size",
    "encode_event",
    "first_id_of",
    "is_task_id",
    "new_task_id",
]


LOST_AFTER: Final = 86_400_000_000
"""Microseconds, a day, after which a task that fell due is lost, if its owner alone can run it and
is not known to be dead before: it may be on another host."""

_TASK_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def new_task_id() -> str:
    """A fresh task id: a UUIDv7, so ids sort by the time they were made."""
    return str(uuid_utils.uuid7())


def first_id_of(us: int) -> str:
    """The lowest id that a task of this time can have: a UUIDv7 begins with its milliseconds."""
    head = f"{min(max(0, us // 1_000), (1 << 48) - 1):012x}"
    return f"{head[:8]}-{head[8:]}-0000-0000-000000000000"


def is_task_id(text: str) -> bool:
    """Whether ``text`` is a UUID in its usual lower-case form."""
    return _TASK_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much a store takes. Every limit answers with an error or a count, never with silence."""

    event_bytes: int = 65_536
    """The JSON text of one event's body (``EventTooLarge``)."""
    params_bytes: int = 262_144
    """The JSON text of a task's params (``BadParams``)."""
    tape_events: int = 100_000
    """Events on one tape before ``TapeFull``; a ``final`` is never stopped."""
    quarantine_per_task: int = 1_000
    """Dropped events kept of one task; the count goes on."""
    quarantine_unknown: int = 10_000
    """Dropped events kept of tasks that the store does not know, in all."""
    queue: int = 10_000
    """Calls and events waiting for a flush before ``append`` waits for room."""
    batch: int = 256
    """Calls and events in one flush."""
    looked_at: int = 10_000
    """Tasks that one page of a list looks at, however few of them it is to have."""


def encode_event(type: str, body: Any, limit: int) -> str:
    """The JSON text of an event's body. Raises ``NotJson``, ``EventTooLarge``."""
    text = encode(body, "event")
    if len(text) * 4 > limit and len(text.encode()) > limit:  # a character has 4 bytes at most
        raise EventTooLarge(type, len(text.encode()), limit)
    return text


def check_page_size(limit: int) -> None:
    """Raises ``BadSetting`` for a page of no or too many rows."""
    if not 1 <= limit <= 10_000:
        raise BadSetting("limit", limit, "between 1 and 10,000")


def check_new_task(new: NewTask, limits: StoreLimits) -> tuple[CreateRow, Mapping[str, Any]]:
    """The row to insert, and the params as every reader of the row will see them.

    Raises ``BadOp``, ``BadParams``, ``BadSetting``.
    """
    if not is_op(new.op):
        raise BadOp(new.op)
    if not is_task_id(new.task_id):
        raise BadSetting("task_id", new.task_id, "a UUID in its usual lower-case form")
    if new.timeout is not None and not new.timeout > 0:
        raise BadSetting("timeout", new.timeout, "a number of seconds over 0, or None")
    if new.retries < 0:
        raise BadSetting("retries", new.retries, "0 or more")
    if new.idempotency_key is not None:
        try:
            encode(new.idempotency_key, "idempotency_key")
        except NotJson as error:
            raise BadSetting("idempotency_key", new.idempotency_key, "text without NUL") from error
    if not isinstance(new.params, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise BadParams(f"it is a {type(new.params).__name__}")
    try:
        params = encode(new.params, "params")
    except NotJson as error:
        raise BadParams(error.why) from error
    if len(params) * 4 > limits.params_bytes and len(params.encode()) > limits.params_bytes:
        raise BadParams(f"over {limits.params_bytes:,} bytes")
    row = CreateRow(
        new.task_id,
        new.op,
        params,
        new.timeout,
        new.retries,
        new.idempotency_key,
        new.traceparent,
        new.run_at,
        *bind(new.only_by, new.idempotency_key),
    )
    return row, decode(params)


def bind(only_by: str | None, idempotency_key: str | None) -> tuple[str | None, int | None]:
    """The owner and the lease of a pending task that one owner alone can run; else no owner and
    no lease.

    One with an idempotency key has no owner: who submits it again goes on with it.
    """
    if only_by is None:
        return None, None
    return only_by if idempotency_key is None else None, LOST_AFTER


def check_age(name: str, seconds: float) -> None:
    """Raises ``BadSetting`` for an age that is none."""
    if not math.isfinite(seconds) or seconds < 0:
        raise BadSetting(name, seconds, "a number of seconds, 0 or more")
