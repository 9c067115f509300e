"""Reading rows: SQLite's tuples to the port's frozen values; used in a connection's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from tapescope.model import (
    CancelRequest,
    DropFilter,
    DropReason,
    Event,
    QuarantinePage,
    TapePage,
    Task,
    TaskFilter,
    TaskStatus,
    TracedAttempt,
    carry,
)
from tapescope.store import (
    READ_BYTES,
    AttemptState,
    FollowersOrder,
    FollowersPage,
    ListedTasks,
    RescueOrder,
    are_times,
    as_damaged_task,
    count_drops,
    decode,
    encode,
    has_sound_numbers,
    read_cancel,
    read_drop,
    read_event,
    read_json,
    read_sound_tags,
    read_tags,
)
from tapescope_adapters._sql import Queries, conditions, leads
from tapescope_adapters.sqlite._connection import read_transaction, reading_any_text

__all__ = [
    "count_tasks",
    "find_bad_rows",
    "find_ended",
    "find_followers",
    "find_idempotent",
    "find_lost",
    "find_standing",
    "find_traced",
    "find_unconfirmed",
    "find_unique",
    "get_task",
    "list_tasks",
    "load_attempt",
    "read_cancels",
    "read_claimed",
    "read_claimed_row",
    "read_quarantine",
    "read_row",
    "read_tape",
    "read_traced",
]

_COLUMNS: Final = (
    "id, task_id, op, params, status, attempt, owner, created_at, run_at, claimed_at, finished_at, "
    "lease_expires_at, timeout_s, retries, idempotency_key, traceparent, cancel_reason, "
    "cancel_message, cancel_by, cancel_requested_at, cancel_traceparent, error_code, "
    "retries_spent, priority, tags, parent_id, cancel_with_parent, unique_key, concurrency_key, "
    "parked_at, engine, queue"
)
_TASK: Final = _COLUMNS.replace(
    "params", f"CASE WHEN length(params) <= {READ_BYTES} THEN params END"
)
"""What is read of a row. A text that is longer than any store takes does not come into Python."""
_LISTED: Final = _COLUMNS.replace(
    "params",
    f"CASE WHEN length(params) > {READ_BYTES} THEN NULL"
    " WHEN typeof(params) <> 'text' OR NOT json_valid(params) THEN params"
    " WHEN json_type(params) <> 'object' OR instr(lower(params), '\\ud')"
    " OR length(params) - length(replace(replace(params, '[', ''), '{', '')) > 200 THEN params"
    " ELSE '{}' END",
)
"""The same without params, which are empty; but for those that a reader may find damaged."""
_TEXTS: Final = {str, type(None)}
_BEYOND_ANY_ID: Final = "g"  # ids are hexadecimal
_BEYOND_ANY_NUMBER: Final = 2**63 - 1


def _task(row: Sequence[Any]) -> Task:
    try:
        reason, message, by, at, asked_in, error_code, retries_spent, priority, *late = row[16:]
        tags, parent_id, cancel_with_parent, unique, concurrency, parked_at, engine, queue = late
        params = read_json(row[3])
        texts = (
            row[1],
            row[2],
            row[4],
            row[6],
            row[14],
            row[15],
            message,
            by,
            error_code,
            parent_id,
            unique,
            concurrency,
        )
        if (
            type(params) is dict
            and are_times(*row[7:12], at, parked_at)
            and has_sound_numbers(row[5], row[13], retries_spent, row[12])
            and type(priority) is int
            and cancel_with_parent in (0, 1)
            and type(engine) is str
            and type(queue) is str
            and {type(text) for text in texts} <= _TEXTS
            and (at is None) is (reason is None)
        ):
            return Task(
                key=row[0],
                task_id=row[1],
                op=row[2],
                params=cast("dict[str, Any]", params),
                status=carry(TaskStatus, row[4]),
                attempt=row[5],
                owner=row[6],
                created_us=row[7],
                run_us=row[8] if parked_at is None else parked_at,
                claimed_us=row[9],
                finished_us=row[10],
                lease_expires_us=row[11],
                timeout=row[12],
                retries=row[13],
                idempotency_key=row[14],
                traceparent=row[15],
                cancel=read_cancel(reason, message, by, at, asked_in),
                error_code=error_code,
                retries_spent=retries_spent,
                priority=priority,
                tags=read_tags(tags),
                parent_id=parent_id,
                cancel_with_parent=bool(cancel_with_parent),
                unique_key=unique,
                concurrency_key=concurrency,
                parked=parked_at is not None and row[4] == TaskStatus.PENDING,
                engine=engine or None,
                queue=queue,
            )
    except (TypeError, ValueError):
        pass  # it was written past tapescope
    return as_damaged_task(dict(zip(_COLUMNS.split(", "), row, strict=True)))


def get_task(conn: sqlite3.Connection, sql: Queries, task_id: str) -> Task | None:
    """The task of this id."""
    row = conn.execute(sql["get_task"].replace("/*task*/", _TASK), (task_id,)).fetchone()
    return None if row is None else _task(row)


def find_idempotent(conn: sqlite3.Connection, sql: Queries, op: str, key: str) -> Task | None:
    """The task that holds this op's idempotency key."""
    row = conn.execute(sql["find_idempotent"].replace("/*task*/", _TASK), (op, key)).fetchone()
    return None if row is None else _task(row)


def find_unique(conn: sqlite3.Connection, sql: Queries, op: str, key: str) -> Task | None:
    """The open task that holds this op's unique key."""
    row = conn.execute(sql["find_unique"].replace("/*task*/", _TASK), (key, op)).fetchone()
    return None if row is None else _task(row)


def find_standing(cursor: sqlite3.Cursor, sql: Queries, new: Mapping[str, Any]) -> Task:
    """The task that has the id or a key of a new one."""
    text = sql["find_standing"].replace("/*task*/", _TASK)
    return _task(cursor.execute(text, new).fetchone())


def find_lost(
    conn: sqlite3.Connection, sql: Queries, order: RescueOrder, after: int, now: int, limit: int
) -> list[Task]:
    """Tasks of keys over ``after`` that the order takes at ``now``, by key."""
    text = sql["find_lost"].replace("/*task*/", _TASK)
    asked = {
        "after": after,
        "now": now,
        "dead": encode(list(order.dead_owners), "owners"),
        "ops": encode(list(order.ops), "ops"),
        "limit": limit,
    }
    return [_task(row) for row in conn.execute(text, asked).fetchall()]


def read_claimed(conn: sqlite3.Connection, sql: Queries, keys: str) -> list[tuple[Task, int]]:
    """The tasks of these keys, a JSON list, and the ends of their tapes.

    Raises ``ValueError`` or the driver's error where one cannot be read.
    """
    # JSON has 15 digits here; a timeout that is NULL would be printed as 0.
    exact = _TASK.replace("timeout_s", "iif(timeout_s IS NULL, NULL, printf('%!.17g', timeout_s))")
    text = sql["read_claimed"].replace("/*task*/", exact)
    found: list[tuple[Task, int]] = []
    for last_seq, *row in decode(conn.execute(text, {"keys": keys}).fetchone()[0]):
        row[12] = None if row[12] is None else float(row[12])
        found.append((_claimed(row), last_seq))
    return found


def read_claimed_row(conn: sqlite3.Connection, sql: Queries, key: int) -> tuple[Task, int]:
    """As ``read_claimed``, of one task, whatever stands in the columns that no claim needs."""
    text = sql["read_claimed_row"].replace("/*task*/", _TASK)
    last_seq, *row = conn.execute(text, (key,)).fetchone()
    return _claimed(row), last_seq


def read_row(conn: sqlite3.Connection, sql: Queries, key: int) -> Task:
    """The task of this key, whatever can be read of it."""
    text = sql["read_claimed_row"].replace("/*task*/", _TASK)
    return _task(conn.execute(text, (key,)).fetchone()[1:])


def _claimed(row: Sequence[Any]) -> Task:
    if type(row[1]) is not str or type(row[5]) is not int or row[5] < 1:
        raise ValueError("an attempt cannot be named: task_id or attempt cannot be read")
    return _task(row)


def find_bad_rows(
    conn: sqlite3.Connection, sql: Queries, page: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """(task id, what cannot be read) of the rows of ``after`` to ``upto`` and of their tapes.

    What a reader cannot read is a bad row: so the tasks are read, one at a time.
    """
    with reading_any_text(conn):
        for row in conn.execute(sql["audit_bad_row"].replace("/*task*/", _TASK), page):
            if (task := _task(row)).damage:
                yield task.task_id, task.damage
        for task_id, *row in conn.execute(sql["audit_bad_event"], page):
            if (event := read_event(*row)).damage:
                yield str(task_id), f"event {event.seq} of its tape: {event.damage}"


def find_ended(conn: sqlite3.Connection, sql: Queries, task_ids: Sequence[str]) -> list[Task]:
    """Those of these tasks that have ended."""
    asked = encode(list(task_ids), "task_ids")
    query = sql["find_ended"].replace("/*task*/", _TASK)
    return [_task(row) for row in conn.execute(query, (asked,))]


def find_unconfirmed(
    conn: sqlite3.Connection, sql: Queries, engine: str, now: int, limit: int
) -> list[Task]:
    """Pending tasks of an engine that it is to be asked about at ``now``."""
    query = sql["find_unconfirmed"].replace("/*task*/", _TASK)
    asked = {"engine": engine, "now": now, "limit": limit}
    return [_task(row) for row in conn.execute(query, asked).fetchall()]


def find_traced(
    conn: sqlite3.Connection, sql: Queries, trace_id: str, limit: int
) -> list[TracedAttempt]:
    """The attempts of a trace."""
    return [_traced(row) for row in conn.execute(sql["find_traced"], (trace_id, limit))]


def read_traced(
    conn: sqlite3.Connection, sql: Queries, task_ids: Sequence[str]
) -> list[TracedAttempt]:
    """The attempts of these tasks whose run spans were recorded."""
    asked = encode(list(task_ids), "task_ids")
    return [_traced(row) for row in conn.execute(sql["read_traced"], (asked,))]


def _traced(row: Sequence[Any]) -> TracedAttempt:
    task_id, op, status, tags, attempt, trace_id, span_id = row
    status = carry(TaskStatus, status)
    told = read_sound_tags(tags)
    return TracedAttempt(str(task_id), str(op), status, attempt, trace_id, span_id, told)


def list_tasks(
    conn: sqlite3.Connection,
    sql: Queries,
    wanted: TaskFilter,
    limit: int,
    before: str | None,
    look_at: int,
) -> ListedTasks:
    """Tasks older than ``before``, newest first, among ``look_at`` at most."""
    last = _BEYOND_ANY_ID if before is None else before
    of_index, of_row = conditions(wanted)
    if wanted.idempotency_key is not None:  # it leads, whatever a status would lead to
        of_index = {f"+{on}": value for on, value in of_index.items()}
    in_range, on_row = ("".join(f" AND {on} ?" for on in given) for given in (of_index, of_row))
    columns = _TASK if wanted.params else _LISTED
    if leads(wanted):
        text = sql["list_tasks"].replace("/*task*/", columns).replace("/*and*/", in_range + on_row)
        rows = conn.execute(text, (last, *of_index.values(), *of_row.values(), limit))
        return _list_page(rows)
    among = "tasks" if wanted.tag is None else "tagged"
    if not of_row:  # each of them is wanted
        look_at = limit
    text = sql[f"search_{among}"].replace("/*task*/", columns)
    text = text.replace("/*range*/", in_range).replace("/*and*/", on_row)
    rows = conn.execute(text, (last, *of_index.values(), look_at, *of_row.values(), limit))
    page = _list_page(rows)
    if len(page.tasks) == limit or page.looked_to is not None:
        return page
    text = sql[f"find_searched_{among}"].replace("/*range*/", in_range)
    end = conn.execute(text, (last, *of_index.values(), look_at - 1)).fetchone()
    return ListedTasks(page.tasks, None if end is None else end[0])


def _list_page(rows: Iterable[Sequence[Any]]) -> ListedTasks:
    """The tasks of these rows, up to the one with which their params are too much for a page."""
    found: list[Task] = []
    size = 0
    for row in rows:
        found.append(_task(row))
        size += len(row[3] or "")
        if size >= READ_BYTES:
            return ListedTasks(found, found[-1].task_id)
    return ListedTasks(found)


def count_tasks(
    conn: sqlite3.Connection, sql: Queries, op: str | None, tag: str | None
) -> dict[TaskStatus, int]:
    """How many tasks there are of each status that occurs."""
    clause, wanted = ("", ()) if op is None else ("AND op = ?", (op,))
    if tag is None:
        rows = conn.execute(sql["count_tasks"].replace("/*and*/", clause), wanted)
    else:
        rows = conn.execute(sql["count_tagged"].replace("/*and*/", clause), (tag, *wanted))
    return {carry(TaskStatus, str(status)): count for status, count in rows}


def read_tape(
    conn: sqlite3.Connection, sql: Queries, task_id: str, after_seq: int, limit: int
) -> TapePage | None:
    """A page of a tape and where its end is, as of one moment."""
    with read_transaction(conn):
        end = conn.execute(sql["read_tape_end"], (task_id,)).fetchone()
        if end is None:
            return None
        key, last_seq, final_seq, dropped = end
        events: list[Event] = []
        size = 0
        for row in conn.execute(sql["read_tape"], (READ_BYTES, key, after_seq, limit)):
            events.append(read_event(*row))
            size += len(row[4] or "")
            if size >= READ_BYTES:
                break  # the tape goes on, as its end says
    return TapePage(task_id, tuple(events), last_seq or 0, final_seq, dropped)


def read_quarantine(
    conn: sqlite3.Connection,
    sql: Queries,
    wanted: DropFilter,
    after: int,
    limit: int,
    look_at: int,
) -> QuarantinePage:
    """A page of dropped events, and how many more were counted than are kept."""
    one = () if wanted.task_id is None else (wanted.task_id,)
    and_one = "AND task_id = ?" if one else ""
    with read_transaction(conn):
        within = ""
        times: tuple[int, ...] = ()
        end: tuple[int] | None = None
        if wanted.by_time:
            text = sql["find_searched_drop"].replace("/*and*/", and_one)
            end = conn.execute(text, (after, *one, look_at - 1)).fetchone()
            within = "AND id <= ? AND ts >= ? AND ts < ?"
            times = (
                _BEYOND_ANY_NUMBER if end is None else end[0],
                -_BEYOND_ANY_NUMBER if wanted.since_us is None else wanted.since_us,
                _BEYOND_ANY_NUMBER if wanted.until_us is None else wanted.until_us,
            )
        rows = conn.execute(
            sql["read_quarantine"].replace("/*and*/", f"{and_one} {within}"),
            (after, *one, *times, limit + 1),
        ).fetchall()
        kept, counts = _count_drops(conn, sql, one) if wanted.counted else (0, {})
    drops = tuple(read_drop(*row[1:]) for row in rows[:limit])
    return QuarantinePage(
        drops,
        overflow=max(0, sum(counts.values()) - kept),
        next=rows[limit - 1][0] if len(rows) > limit else end and end[0],
        counts=counts,
    )


def _count_drops(
    conn: sqlite3.Connection, sql: Queries, one: Sequence[str]
) -> tuple[int, dict[DropReason, int]]:
    """How many drops are kept, and how many there were; one task's, or all."""
    where = "WHERE task_id = ?" if one else ""
    kept: int = conn.execute(sql["count_quarantine"].replace("/*where*/", where), one).fetchone()[0]
    counted = conn.execute(sql["count_dropped"].replace("/*where*/", where), one)
    return kept, count_drops(counted.fetchall())


def find_followers(conn: sqlite3.Connection, sql: Queries, order: FollowersOrder) -> FollowersPage:
    """Open tasks whose parents have ended as cancelled, and that are to be cancelled with them."""
    parent, child = order.after
    asked = {"limit": order.limit, "parent": parent, "child": child, "parents": order.parents}
    return FollowersPage.of(order, conn.execute(sql["find_followers"], asked).fetchall())


def read_cancels(
    conn: sqlite3.Connection, sql: Queries, owners: Sequence[str]
) -> list[tuple[str, str, CancelRequest]]:
    """The running tasks of these owners with a cancel on record."""
    return [
        (task_id, owner, request)
        for task_id, owner, *on_record in conn.execute(
            sql["read_cancels"], (encode(list(owners), "owners"),)
        )
        if (request := read_cancel(*on_record)) is not None
    ]


def load_attempt(
    conn: sqlite3.Connection, sql: Queries, task_id: str, attempt: int
) -> AttemptState:
    """Where the tape ends, and what the attempt offered last."""
    row = conn.execute(sql["load_attempt"], {"task_id": task_id, "attempt": attempt}).fetchone()
    return AttemptState(*row)
