"""What a store takes: its limits, and the checks of everything a caller hands in.

Every number, text and time that a caller gives is checked here, before it meets the calls of
others in the write queue, and goes on as a plain ``int``, ``float`` or ``str`` that each store can
keep. Refused input is not a drop: the caller gets an error, and nothing is written.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final, TypeVar, cast

import uuid_utils

from tapescope.codec import decode, encode
from tapescope.errors import (
    BadOp,
    BadParams,
    BadSetting,
    EventTooLarge,
    NotJson,
)
from tapescope.model.tasks import MOST_TAGS, PRIORITIES, NewTask, is_op, is_queue, is_tag
from tapescope.model.times import FIRST_TIME, LAST_TIME, as_microseconds
from tapescope.store.flush import CreateRow

Choice = TypeVar("Choice", bound=StrEnum)

__all__ = [
    "StoreLimits",
    "bind",
    "check_choice",
    "check_count",
    "check_engine",
    "check_expiry",
    "check_flag",
    "check_key",
    "check_moment",
    "check_new_task",
    "check_op",
    "check_page_size",
    "check_params",
    "check_parent",
    "check_place",
    "check_priority",
    "check_queue",
    "check_queues",
    "check_rate",
    "check_retries",
    "check_seconds",
    "check_share",
    "check_tag",
    "check_tags",
    "check_text",
    "check_time",
    "check_trace_id",
    "check_whole",
    "encode_event",
    "first_id_of",
    "is_task_id",
    "new_task_id",
]


LOST_AFTER: Final = 86_400_000_000
"""Microseconds, a day, after which a task that fell due is lost, if its owner alone can run it and
is not known to be dead before: it may be on another host."""

_TASK_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_TRACE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")

_TEXT: Final = frozenset({str})

_MOST_SECONDS: Final = 36_525 * 86_400
"""A hundred years: no clock, timer or column that a span of time meets is too small for it."""
_MOST_WHOLE: Final = 2**31 - 1
"""What a column of four bytes holds."""
_MOST_QUEUES: Final = 100
"""That one worker takes tasks from: a claim looks for each."""
_MOST_PLACES: Final = 2**63 - 1
"""What a key of a row is at most, in both stores."""
_KEY_BYTES: Final = 1_024
"""An index of PostgreSQL takes 2,704 bytes a row, the op among them; a longer key than this is a
payload, which belongs in the params."""
_TEXT_BYTES: Final = 1_024
_ENGINE: Final = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_TRACE_BYTES: Final = 9_216
"""A trace context with the most baggage that is carried, 8,192 bytes."""


def new_task_id() -> str:
    """A fresh task id: a UUIDv7, so ids sort by the time they were made."""
    return str(uuid_utils.uuid7())


def first_id_of(us: int) -> str:
    """The lowest id that a task of this time can have: a UUIDv7 begins with its milliseconds."""
    head = f"{min(max(0, us // 1_000), (1 << 48) - 1):012x}"
    return f"{head[:8]}-{head[8:]}-0000-0000-000000000000"


def is_task_id(text: object) -> bool:
    """Whether ``text`` is a UUID in its usual lower-case form."""
    return isinstance(text, str) and _TASK_ID.fullmatch(text) is not None


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
    message_bytes: int = 32_768
    """The JSON text of a message (``MessageTooLarge``). On the tape it is in one event, with its
    key and time: where ``event_bytes`` leaves less room than this, that is the limit."""
    inbox: int = 1_000
    """Messages of one task that it has not taken (``InboxFull``)."""
    looked_at: int = 10_000
    """Tasks that one page of a list looks at, however few of them it is to have."""


def encode_event(type: str, body: Any, limit: int) -> str:
    """The JSON text of an event's body. Raises ``NotJson``, ``EventTooLarge``."""
    text = encode(body, "event")
    if len(text) * 4 > limit and len(text.encode()) > limit:  # a character has 4 bytes at most
        raise EventTooLarge(type, len(text.encode()), limit)
    return text


# --- numbers, texts and times ---------------------------------------------------------------------


def check_seconds(name: str, value: object, *, over_zero: bool = False) -> float:
    """A span of time in seconds, 0 or more, or over 0; at most a hundred years.

    Of any type of number but ``bool``. Raises ``BadSetting``.
    """
    if type(value) is float and 0 < value <= _MOST_SECONDS:  # nearly always
        return value
    expected = f"a number of seconds{' over 0' if over_zero else ', 0 or more'}"
    seconds = _as_float(name, value, expected)
    if seconds < 0 or (over_zero and seconds == 0):
        raise BadSetting(name, value, expected)
    if seconds > _MOST_SECONDS:
        raise BadSetting(name, value, f"at most {_MOST_SECONDS:,} seconds, a hundred years")
    return seconds


def check_share(name: str, value: object) -> float:
    """A part of a whole: a number from 0 to 1 of any type but ``bool``. Raises ``BadSetting``."""
    share = _as_float(name, value, "a number from 0 to 1")
    if not 0 <= share <= 1:
        raise BadSetting(name, value, "a number from 0 to 1")
    return share


def check_rate(name: str, value: object) -> float:
    """How many a second: a number over 0 of any type but ``bool``. Raises ``BadSetting``."""
    rate = _as_float(name, value, "a number over 0")
    if rate <= 0:
        raise BadSetting(name, value, "a number over 0")
    return rate


def _as_float(name: str, value: object, expected: str) -> float:
    """A finite number. Raises ``BadSetting``."""
    if isinstance(value, bool | str | bytes | bytearray):  # float("5") would take the text
        raise BadSetting(name, value, expected)
    try:
        number = float(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what cannot be raises
    except Exception as error:  # whatever a class of somebody's raises
        raise BadSetting(name, value, expected) from error
    if not math.isfinite(number):
        raise BadSetting(name, value, expected)
    return number


def check_whole(name: str, value: object, expected: str, least: int, most: int) -> int:
    """A whole number of any type of whole numbers but ``bool``. Raises ``BadSetting``."""
    if type(value) is int and least <= value <= most:  # nearly always
        return value
    if isinstance(value, bool):
        raise BadSetting(name, value, expected)
    try:
        whole = operator.index(value)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # what is none raises
    except Exception as error:  # as above
        raise BadSetting(name, value, expected) from error
    whole = int.__int__(whole)  # also of a class derived from int
    if not least <= whole <= most:
        raise BadSetting(name, value, expected)
    return whole


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """A whole number over 0, or 0 with ``least``. Raises ``BadSetting``."""
    expected = "a whole number over 0" if least else "a whole number, 0 or more"
    return check_whole(name, value, expected, least, _MOST_WHOLE)


def check_flag(name: str, value: object) -> bool:
    """``True`` or ``False``. Raises ``BadSetting``."""
    if not isinstance(value, bool):
        raise BadSetting(name, value, "True or False")
    return value


def check_retries(value: object, name: str = "retries") -> int:
    """How often another attempt is made. Raises ``BadSetting``."""
    expected = f"a whole number from 0 to {_MOST_WHOLE:,}"
    return check_whole(name, value, expected, 0, _MOST_WHOLE)


def check_priority(value: object) -> int:
    """How soon a task goes among those that are due: the higher first. Raises ``BadSetting``."""
    least, most = PRIORITIES[0], PRIORITIES[-1]
    return check_whole("priority", value, f"a whole number from {least} to {most}", least, most)


def check_expiry(value: object) -> float:
    """Seconds that a task has until an attempt begins. Raises ``BadSetting``."""
    return check_seconds("expires_in", value, over_zero=True)


def check_queue(value: object, name: str = "queue") -> str:
    """The name of a queue. Raises ``BadSetting``."""
    if not is_queue(value):
        expected = "1 to 128 of A-Z, a-z, 0-9, '_', '.', '-', the first a letter or '_'"
        raise BadSetting(name, value, expected)
    return str.__str__(value)  # pyright: ignore[reportArgumentType]  # is_queue takes text alone


def check_queues(queues: object) -> Sequence[str]:
    """The queues that a worker takes, by name, each once. Raises ``BadSetting``."""
    expected = f"1 to {_MOST_QUEUES} names of queues, or None for all"
    whole, given = queues, cast("Iterable[object]", ())
    if isinstance(queues, Iterable) and not isinstance(queues, str | bytes):
        given = cast("Iterable[object]", queues)
    names = sorted({check_queue(one, "queues") for one in given})
    if not 0 < len(names) <= _MOST_QUEUES:
        raise BadSetting("queues", whole, expected)
    return names


def check_tag(value: object, name: str = "tag") -> str:
    """A tag as plain text. Raises ``BadSetting``."""
    if not is_tag(value):
        expected = "1 to 64 letters, digits and _ . : / @ = + -, the first a letter, a digit or '_'"
        raise BadSetting(name, value, expected)
    return str.__str__(value)  # pyright: ignore[reportArgumentType]  # is_tag takes text alone


def check_tags(given: object) -> tuple[str, ...]:
    """The tags of a task in the order of their characters, each once. Raises ``BadSetting``.

    Of any collection of texts: a single text is refused, for it is one of characters.
    """
    if given == ():  # nearly always
        return ()
    told: object = given
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Collection):
        raise BadSetting("tags", told, "a list of texts")
    tags = sorted({check_tag(one, "tags") for one in cast("Collection[object]", given)})
    if len(tags) > MOST_TAGS:
        raise BadSetting("tags", told, f"at most {MOST_TAGS} tags")
    return tuple(tags)


def check_parent(value: object) -> str:
    """The id of a parent: of a task that may be deleted by now. Raises ``BadSetting``."""
    if not is_task_id(value):
        raise BadSetting("parent_id", value, "the id of a task: a UUID in lower-case letters")
    return str.__str__(value)  # pyright: ignore[reportArgumentType]  # is_task_id takes text alone


def check_place(name: str, value: object, *, of_tape: bool = False) -> int:
    """The place after which a page begins: a ``seq`` of a tape, or a key. Raises ``BadSetting``."""
    most = _MOST_WHOLE if of_tape else _MOST_PLACES
    return check_whole(name, value, "a whole number, 0 for the start", 0, most)


def check_page_size(limit: object) -> int:
    """The rows of a page. Raises ``BadSetting`` for none or too many."""
    return check_whole("limit", limit, "between 1 and 10,000", 1, 10_000)


def check_text(name: str, value: object, *, most: int = _TEXT_BYTES) -> str:
    """A text of at most ``most`` bytes of UTF-8 that every store can keep. Raises ``BadSetting``.

    No store keeps a NUL character or a lone surrogate.
    """
    if type(value) is str and value.isascii() and len(value) <= most and "\0" not in value:
        return value  # nearly always
    if not isinstance(value, str):
        raise BadSetting(name, value, "text")
    text = str.__str__(value)  # plain, also where a derived class says otherwise
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise BadSetting(name, value, "text without lone surrogates") from error
    if "\0" in text:
        raise BadSetting(name, value, "text without NUL")
    if size > most:
        raise BadSetting(name, value, f"text of at most {most:,} bytes")
    return text


def check_choice(name: str, kind: type[Choice], value: object) -> Choice:
    """The member of an ``Enum`` of texts, given as itself or as its text. Raises ``BadSetting``."""
    if isinstance(value, str):
        for choice in kind:
            if str.__eq__(choice, value):
                return choice
    raise BadSetting(name, value, f"one of {', '.join(kind)}")


def check_trace_id(value: object) -> str:
    """A trace's id, in small letters. Raises ``BadSetting``."""
    text = value.strip().lower() if isinstance(value, str) else ""
    if _TRACE_ID.fullmatch(text) is None:
        raise BadSetting("trace_id", value, "32 hexadecimal digits, not all of them 0")
    return text


def check_key(value: object, name: str = "idempotency_key") -> str:
    """A key of a task: a text of at most 1,024 bytes of UTF-8. Raises ``BadSetting``."""
    return check_text(name, value, most=_KEY_BYTES)


def check_op(op: object) -> str:
    """An op as plain text. Raises ``BadOp``."""
    if not is_op(op):
        raise BadOp(op)
    return str.__str__(op)  # pyright: ignore[reportArgumentType]  # is_op takes text alone


def check_engine(name: object) -> str:
    """The name of an engine: that of its entry point. Raises ``BadSetting``."""
    if not isinstance(name, str) or _ENGINE.fullmatch(name) is None:
        raise BadSetting("engine", name, "a small letter, then small letters, digits, - and _")
    return str.__str__(name)


def check_time(name: str, value: object) -> int:
    """An aware time as microseconds since the Unix epoch. Raises ``BadSetting``."""
    if not isinstance(value, datetime):
        raise BadSetting(name, value, "a datetime with a time zone")
    try:
        offset = value.utcoffset()
    except Exception as error:  # whatever a zone of somebody's raises
        raise BadSetting(name, value, "a datetime with a time zone that can be used") from error
    if not isinstance(offset, timedelta):
        raise BadSetting(name, value, "a datetime with a time zone")
    time = datetime(  # plain: a derived class may have a difference of its own
        value.year, value.month, value.day, value.hour, value.minute, value.second,
        value.microsecond, UTC,
    )  # fmt: skip
    return check_moment(name, value, as_microseconds(time) - offset // timedelta(microseconds=1))


def check_moment(name: str, value: object, microseconds: object) -> int:
    """Microseconds since the Unix epoch that a ``datetime`` can show; ``value`` is what was given.

    Raises ``BadSetting``.
    """
    expected = "a time between the years 1 and 9999, in UTC"
    try:
        return check_whole(name, microseconds, expected, FIRST_TIME, LAST_TIME)
    except BadSetting:
        raise BadSetting(name, value, expected) from None


# --- a task ---------------------------------------------------------------------------------------


def check_new_task(new: NewTask, limits: StoreLimits) -> tuple[CreateRow, Mapping[str, Any]]:
    """The row to insert, and the params as every reader of the row will see them.

    Raises ``BadOp``, ``BadParams``, ``BadSetting``.
    """
    if not is_task_id(new.task_id):
        raise BadSetting("task_id", new.task_id, "a UUID in its usual lower-case form")
    empty = _is_empty(new.params)  # nearly always
    params = "{}" if empty else _encode_params(new.params, limits)
    row = CreateRow(
        str.__str__(new.task_id),
        check_op(new.op),
        params,
        None if new.timeout is None else check_seconds("timeout", new.timeout, over_zero=True),
        check_retries(new.retries),
        None if new.idempotency_key is None else check_key(new.idempotency_key),
        None
        if new.traceparent is None
        else check_text("traceparent", new.traceparent, most=_TRACE_BYTES),
        None if new.run_at is None else check_moment("run_at", new.run_at, new.run_at),
        *bind(
            None if new.only_by is None else check_text("only_by", new.only_by),
            new.idempotency_key,
        ),
        check_priority(new.priority),
        encode(list(tags), "tags") if (tags := check_tags(new.tags)) else None,
        None if new.parent_id is None else check_parent(new.parent_id),
        check_flag("cancel_with_parent", new.cancel_with_parent),
        None if new.unique_key is None else check_key(new.unique_key, "unique_key"),
        None if new.concurrency_key is None else check_key(new.concurrency_key, "concurrency_key"),
        "" if new.engine is None else check_engine(new.engine),
        check_queue(new.queue),
        None if new.expires_in is None else max(1, round(check_expiry(new.expires_in) * 1_000_000)),
    )
    return row, {} if empty else decode(params)


def bind(only_by: str | None, idempotency_key: str | None) -> tuple[str | None, int | None]:
    """The owner and the lease of a pending task that one owner alone can run; else no owner and
    no lease.

    One with an idempotency key has no owner: who submits it again goes on with it.
    """
    if only_by is None:
        return None, None
    return only_by if idempotency_key is None else None, LOST_AFTER


def check_params(given: object) -> dict[str, Any]:
    """The members of any ``Mapping`` whose keys are text. Raises ``BadParams``."""
    if type(given) is dict:
        plain = cast("dict[object, object]", given)
        if {*map(type, plain)} <= _TEXT:  # nearly always
            return cast("dict[str, Any]", plain.copy())
    if not isinstance(given, Mapping):
        raise BadParams(f"a {type(given).__name__} is not a JSON object")
    members = cast("Mapping[object, object]", given)
    try:
        params = dict(members)
    except Exception as error:  # whatever a class of somebody's raises
        raise BadParams(f"reading them raised {type(error).__name__}") from error
    for key in params:
        if not isinstance(key, str):
            raise BadParams(f"a key of the type {type(key).__name__!r} is not text")
    return cast("dict[str, Any]", params)


def _is_empty(given: object) -> bool:
    return type(given) is dict and not given


def _encode_params(given: object, limits: StoreLimits) -> str:
    try:
        params = encode(check_params(given), "params")
    except NotJson as error:
        raise BadParams(error.why) from error
    if len(params) * 4 > limits.params_bytes and len(params.encode()) > limits.params_bytes:
        raise BadParams(f"they are over {limits.params_bytes:,} bytes of JSON")
    return params
