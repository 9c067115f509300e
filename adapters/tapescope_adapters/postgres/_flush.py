"""A flush as the arguments of one call, a column an array, and its answer read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tapescope.model import DropReason, Outcome
from tapescope.store import (
    CancelAnswer,
    CancelState,
    ClaimAnswer,
    Flush,
    FlushAnswer,
    RefusedRow,
    StoreLimits,
    decode,
)
from tapescope_adapters.postgres._rows import Row, as_cancel, as_task

__all__ = ["VOID", "arguments", "read_answer"]

VOID: Final = "void"
"""The stored answer of a flush that was given up before it was carried out."""

_EMPTY: Final[Mapping[int, Sequence[Sequence[Any]]]] = {n: ((),) * n for n in (6, 7, 8)}
_NO_ROWS: Final[Sequence[Any]] = ((), (), (), (), (), (), "", "", "", "")
_SEPARATOR: Final = "\x1e"
"""Joins texts that cannot hold it: in JSON a control character is always escaped."""


def arguments(lane: str, flush: Flush, instance: str, limits: StoreLimits) -> list[Any]:
    """What the schema's ``flush`` function takes, or ``flush_giving_up`` where any gives up."""
    claims = _columns(flush.claims, 7)
    rows, news = _NO_ROWS, ""
    if flush.rows:
        task_ids = [source.task_id for source in flush.sources]
        keys, seqs, attempts, offers, types, times, bodies, owners = zip(*flush.rows, strict=True)
        # rows stand in seq order for each task, so the last one of a task is what stays
        ends = dict(zip(task_ids, seqs, strict=True))
        news = ",".join([f"{task_id}:{seq}" for task_id, seq in ends.items()])
        rows = (
            keys,
            seqs,
            attempts,
            offers,
            times,
            owners if len(set(owners)) > 1 else owners[:1],
            _SEPARATOR.join(types),
            _SEPARATOR.join(bodies),
            _SEPARATOR.join(task_ids),
            _SEPARATOR.join([source.trace_id or "" for source in flush.sources]),
        )
    return [
        lane,
        flush.number,
        instance,
        news,
        list({*rows[0], *claims[1]}),
        limits.quarantine_per_task,
        limits.quarantine_unknown,
        *_columns(flush.creates, 8),
        *claims,
        *rows,
        *_columns(flush.cancels, 6),
        *_give_ups(flush),
    ]


def _give_ups(flush: Flush) -> Sequence[Sequence[Any]]:
    """What only ``flush_giving_up`` takes; places are counted from 1 there."""
    if not flush.give_ups:
        return ()
    places, run_ats, spends = zip(*flush.give_ups, strict=True)
    return [place + 1 for place in places], run_ats, spends


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    return [*zip(*rows, strict=True)] if rows else _EMPTY[width]


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
    return FlushAnswer(
        now,
        keys=found["keys"] or (),
        existing={int(place): as_task(row) for place, row in existing.items()},
        claims=claims,
        refused=[_refused(row) for row in found["refused"] or ()],
        cancelled_instead={
            place: request
            for place, *cancel in found.get("overruled", ())
            if (request := as_cancel(*cancel)) is not None
        },
        cancels=[_cancel(met) for met in found["cancels"] or ()],
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


def _cancel(met: Sequence[Any] | None) -> CancelAnswer | None:
    if met is None:
        return None
    state, op, owner, attempt, reason, message, by, at, last_seq = met
    request = as_cancel(reason, message, by, at)
    return CancelAnswer(CancelState(state), op, owner, attempt, request, last_seq)
