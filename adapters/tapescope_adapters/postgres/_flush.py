"""A flush as the arguments of one call, column by column, and its answer read back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from tapescope.model import CancelRequest, DropReason, Outcome, Untaken
from tapescope.store import (
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    Flush,
    FlushAnswer,
    FlushRefused,
    GiveUpRow,
    RefusedRow,
    StoreLimits,
    TraceRow,
    decode,
    encode,
    read_cancel,
)
from tapescope_adapters.postgres._rows import Row, as_task

__all__ = ["VOID", "arguments", "read_answer", "traces"]

VOID: Final = "void"
"""The stored answer of a flush that was given up before it was carried out."""

_SEPARATOR: Final = "\x1e"
"""Joins texts that cannot hold it: in JSON a control character is always escaped."""


def arguments(lane: str, flush: Flush, instance: str, limits: StoreLimits) -> list[Any]:
    """What the schema's ``flush`` function takes, in the order of the query of that name.

    Raises ``FlushRefused`` for a value that cannot be written as its column wants it, whatever the
    reason: one row's fault is not the others'.
    """
    try:
        return _arguments(lane, flush, instance, limits)
    except Exception as error:  # whatever a value has the encoders raise
        raise FlushRefused(f"{type(error).__name__}: {error}") from error


def _arguments(lane: str, flush: Flush, instance: str, limits: StoreLimits) -> list[Any]:
    keys = {row.key for row in flush.claims if row.key > 0}
    rows: Sequence[str] | None = None
    news = ""
    if flush.rows:
        task_ids = [source.task_id for source in flush.sources]
        row_keys, seqs, attempts, offers, types, times, bodies, owners = zip(
            *flush.rows, strict=True
        )
        # rows stand in seq order for each task, so the last one of a task is what stays
        ends = dict(zip(task_ids, seqs, strict=True))
        news = ",".join([f"{task_id}:{seq}" for task_id, seq in ends.items()])
        keys.update(row_keys)
        rows = (
            *map(_as_array, (row_keys, seqs, attempts, offers)),
            _SEPARATOR.join(types),
            _as_array(times),
            _SEPARATOR.join(bodies),
            _quote(owners if len(set(owners)) > 1 else owners[:1]),
            _SEPARATOR.join(task_ids),
            _SEPARATOR.join([source.trace_id or "" for source in flush.sources]),
        )
    return [
        lane,
        flush.number,
        instance,
        news,
        list(map(str, keys)),
        limits.quarantine_per_task,
        limits.quarantine_unknown,
        _creates(flush.creates),
        _claims(flush.claims),
        rows,
        _give_ups(flush.give_ups),
        _cancels(flush.cancels),
        *(traces(flush.traces) if flush.traces else ()),
    ]


def traces(rows: Sequence[TraceRow]) -> Sequence[Sequence[str]]:
    """What ``note_traces`` takes, and ``flush_traced`` behind the arguments of a flush."""
    keys, attempts, trace_ids, span_ids = zip(*rows, strict=True)
    return list(map(str, keys)), list(map(str, attempts)), trace_ids, span_ids


def _creates(rows: Sequence[CreateRow]) -> Sequence[str] | None:
    if not rows:
        return None
    (
        task_ids,
        ops,
        params,
        timeouts,
        retries,
        idempotency_keys,
        traceparents,
        run_ats,
        owners,
        leases,
        priorities,
        tags,
        parents,
        followers,
        unique_keys,
        concurrency_keys,
        engines,
        queues,
        expiries,
    ) = zip(*rows, strict=True)
    return (
        _as_array(task_ids),
        _SEPARATOR.join(ops),
        _SEPARATOR.join(params),
        _as_array(timeouts),
        _as_array(retries),
        _quote(idempotency_keys),
        _quote(traceparents),
        _as_array(run_ats),
        _quote(owners),
        _as_array(leases),
        _as_array(priorities),
        _quote(tags),
        _as_array(parents),
        _as_array(followers),
        _quote(unique_keys),
        _quote(concurrency_keys),
        _quote(engines),
        _SEPARATOR.join(queues),
        _as_array(expiries),
    )


def _claims(rows: Sequence[ClaimRow]) -> Sequence[str] | None:
    if not rows:
        return None
    task_ids, keys, attempts, owners, leases, times, bodies = zip(*rows, strict=True)
    return (
        *map(_as_array, (task_ids, keys, attempts)),
        _quote(owners),
        *map(_as_array, (leases, times)),
        _SEPARATOR.join(bodies),
    )


def _give_ups(rows: Sequence[GiveUpRow]) -> Sequence[str] | None:
    if not rows:
        return None
    places, run_ats, spends, owners, leases = zip(*rows, strict=True)
    return (*map(_as_array, (places, run_ats, spends)), _quote(owners), _as_array(leases))


def _cancels(rows: Sequence[CancelRow]) -> Sequence[str | None] | None:
    if not rows:
        return None
    task_ids, reasons, messages, whose, times, _, traceparents = zip(*rows, strict=True)
    return (
        _as_array(task_ids),
        _SEPARATOR.join(reasons),
        _quote(messages),
        _quote(whose),
        _as_array(times),
        None,  # where older code has the texts of the finals, which the database writes
        _quote(traceparents),
    )


def _as_array(values: Sequence[float | str | None]) -> str:
    """The literal of an array of numbers or ids: as JSON has them, but for the brackets."""
    return f"{{{encode(values, 'flush')[1:-1]}}}"


def _quote(texts: Sequence[str | None]) -> str:
    """The literal of an array of texts that may hold anything: a user wrote them."""
    quoted = [
        "NULL" if text is None else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for text in texts
    ]
    return f"{{{','.join(quoted)}}}"


def read_answer(flush: Flush, text: str) -> FlushAnswer:
    """What the ``flush`` function said: the time alone when all went as asked, else JSON."""
    found = decode(text)
    if isinstance(found, int):
        return FlushAnswer(found)
    now: int = found["now"]
    existing: dict[str, Row] = found["existing"] or {}
    claims: list[ClaimAnswer | None] = [None] * len(flush.claims)
    places, starts = found["claims"]
    for place, started_seq in zip(places or (), starts or (), strict=True):
        row = flush.claims[place]
        claims[place] = ClaimAnswer(row.attempt + 1, now, now + row.lease, started_seq)
    overruled: Sequence[Sequence[Any]] = found["overruled"] or ()
    overrulers: Sequence[Sequence[str | None]] = found["overruler_facts"] or ()
    return FlushAnswer(
        now,
        keys=found["keys"] or (),
        existing={int(place): as_task(row) for place, row in existing.items()},
        claims=claims,
        refused=[_refused(row) for row in found["refused"] or ()],
        cancelled_instead={
            place: request
            for (place, *met), facts in zip(overruled, overrulers, strict=True)
            if (request := _read_request(met, *facts)) is not None
        },
        cancels=[
            _cancel(met, facts)
            for met, facts in zip(found["cancels"] or (), found["cancel_facts"] or (), strict=True)
        ],
        untaken=[Untaken(*one) for one in found.get("untaken") or ()],
    )


def _refused(row: Sequence[Any]) -> RefusedRow:
    place, reason, op, outcome, last_seq = row
    return RefusedRow(
        place,
        None if reason is None else DropReason(reason),
        op,
        None if outcome is None else Outcome(outcome),
        last_seq,
    )


def _cancel(met: Sequence[Any] | None, facts: Sequence[str | None] | None) -> CancelAnswer | None:
    if met is None or facts is None:
        return None
    state, op, owner, attempt, reason, message, by, at, last_seq = met
    role, asked_in, traceparent = facts
    request = _read_request((reason, message, by, at), role, asked_in)
    return CancelAnswer(CancelState(state), op, owner, attempt, request, last_seq, traceparent)


def _read_request(
    met: Sequence[Any], role: str | None, asked_in: str | None
) -> CancelRequest | None:
    reason, message, by, at = met
    return read_cancel(reason, message, by, at, asked_in, role=role)
