"""One flush in the database thread: as few statements as will do, for each gives the GIL away.

The fast path is BEGIN, one statement a kind of row, COMMIT; counts tell whether all went well. Only
when one does not match is it asked which rows are missing, and why.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, repeat
from typing import Any, Final

from tapescope.model import (
    FINAL,
    TAPE_OPEN,
    TAPE_UNKNOWN,
    CancelReason,
    CancelRequest,
    DropReason,
    Outcome,
    Task,
    TaskStatus,
    carry,
    find_drop_reason,
)
from tapescope.store import (
    CancelAnswer,
    CancelRow,
    CancelState,
    ClaimAnswer,
    ClaimRow,
    CreateRow,
    EventRow,
    Flush,
    FlushAnswer,
    FlushRefused,
    GiveUpRow,
    RefusedRow,
    StoreLimits,
    TraceRow,
    cancel_instead,
    decode,
    encode,
    find_key,
    list_ended,
    read_cancel,
)
from tapescope_adapters._sql import Queries
from tapescope_adapters.sqlite._connection import write_transaction
from tapescope_adapters.sqlite._messages import find_untaken
from tapescope_adapters.sqlite._rows import find_idempotent, find_unique

__all__ = ["Writing"]


_MOST_ROWS: Final = 1_024
"""Rows of a statement: of 20 columns, they stay below the 32,766 parameters that SQLite takes."""


class Writing:
    """Writes flushes on one connection; used in that connection's thread only."""

    def __init__(self, queries: Queries, limits: StoreLimits, now: Callable[[], int]) -> None:
        self._sql = queries
        self._limits = limits
        self._now = now
        self._padded: dict[tuple[str, int, int], str] = {}

    def write(self, conn: sqlite3.Connection, flush: Flush) -> FlushAnswer:
        """Carry out a flush in one transaction.

        Raises ``FlushRefused`` for a row that cannot be bound or read back, whatever the reason: a
        number or a text that SQLite has no place for raises Python's own errors.
        """
        try:
            return self._write(conn, flush)
        except sqlite3.Error:
            raise  # translated where the thread is left
        except (
            Exception
        ) as error:  # the transaction was rolled back: one row's fault is not others'
            raise FlushRefused(f"{type(error).__name__}: {error}") from error

    def _write(self, conn: sqlite3.Connection, flush: Flush) -> FlushAnswer:
        answer = FlushAnswer(self._now())
        with write_transaction(conn):
            if flush.creates:
                self._create(conn, flush.creates, answer)
            if flush.claims:
                claims = [row._replace(key=find_key(row, answer.keys)) for row in flush.claims]
                answer.claims = self._claim(conn, claims, answer.now)
            if flush.rows:
                rows = self._overrule(conn, flush, answer) if flush.give_ups else flush.rows
                stored = self._execute(conn, "append_events", 8, rows)
                if stored != len(flush.rows):
                    answer.refused = self._refuse(conn, flush)
                for given in flush.give_ups:
                    self._give_up(conn, flush.rows[given.row], given, answer.now)
            if flush.cancels:
                answer.cancels = [self._cancel(conn, row, answer.now) for row in flush.cancels]
            if flush.traces:
                self.note_traces(conn, flush.traces)
            if ended := list_ended(flush, answer):
                answer.untaken = find_untaken(conn, self._sql, ended)
        return answer

    def note_traces(self, conn: sqlite3.Connection, rows: Sequence[TraceRow]) -> None:
        """Keep where run spans are."""
        self._execute(conn, "note_traces", 4, rows)

    def _execute(
        self, conn: sqlite3.Connection, name: str, width: int, rows: Sequence[Sequence[Any]]
    ) -> int:
        """One statement for many rows, padded to a power of two so that its text stays cached.

        Only a single call of very many events needs more: a statement has so many parameters.
        """
        if len(rows) > _MOST_ROWS:
            first, rest = rows[:_MOST_ROWS], rows[_MOST_ROWS:]
            return self._execute(conn, name, width, first) + self._execute(conn, name, width, rest)
        height = 1 << (len(rows) - 1).bit_length()
        sql = self._padded.get((name, width, height))
        if sql is None:
            row = f"({', '.join('?' * width)})"
            sql = self._sql[name].replace("/*rows*/", ", ".join([row] * height))
            self._padded[name, width, height] = sql
        padding = repeat(None, (height - len(rows)) * width)
        return conn.execute(sql, tuple(chain(chain.from_iterable(rows), padding))).rowcount

    # --- creates ----------------------------------------------------------------------------------

    def _create(
        self, conn: sqlite3.Connection, rows: Sequence[CreateRow], answer: FlushAnswer
    ) -> None:
        keys: list[int] = []
        plain: list[CreateRow] = []
        for place, row in enumerate(
            rows
        ):  # in their order: of those due at once the first goes first
            if row.idempotency_key is None and row.unique_key is None:
                plain.append(row)
                continue
            keys += self._insert(conn, plain, answer.now)
            plain = []
            found = self._find_standing(conn, row)
            if found is None:
                keys += self._insert(conn, [row], answer.now)
            else:
                answer.existing[place] = found
                keys.append(0)
        answer.keys = [*keys, *self._insert(conn, plain, answer.now)]

    def _find_standing(self, conn: sqlite3.Connection, row: CreateRow) -> Task | None:
        """The task that a key of the row leads to."""
        found = None
        if row.idempotency_key is not None:
            found = find_idempotent(conn, self._sql, row.op, row.idempotency_key)
        if found is None and row.unique_key is not None:
            found = find_unique(conn, self._sql, row.op, row.unique_key)
        return found

    def _insert(
        self, conn: sqlite3.Connection, rows: Sequence[CreateRow], now: int
    ) -> Iterable[int]:
        if not rows:
            return ()
        self._execute(conn, "insert_tasks", 20, [(*row, now) for row in rows])
        last: int = conn.execute("SELECT last_insert_rowid()").fetchone()[0]
        return range(last - len(rows) + 1, last + 1)

    # --- claims -----------------------------------------------------------------------------------

    def _claim(
        self, conn: sqlite3.Connection, rows: Sequence[ClaimRow], now: int
    ) -> list[ClaimAnswer | None]:
        first: dict[tuple[int, int], ClaimRow] = {}
        for row in rows:  # a second claim of one attempt in a flush has lost
            first.setdefault((row.key, row.attempt), row)
        tried = list(first.values())
        won = self._execute(
            conn,
            "claim_tasks",
            5,
            [(row.key, row.attempt, row.owner, row.lease, now) for row in tried],
        )
        if won != len(tried):
            keys = encode([row.key for row in tried], "keys")
            holders = {
                key: (attempt, owner, status)
                for key, attempt, owner, status in conn.execute(self._sql["find_claimed"], (keys,))
            }
            tried = [
                row
                for row in tried
                if holders.get(row.key) == (row.attempt + 1, row.owner, TaskStatus.RUNNING)
            ]
        answers: dict[tuple[int, int], ClaimAnswer] = {}
        if tried:
            self._execute(
                conn,
                "start_attempts",
                5,
                [(row.key, row.attempt, row.owner, row.ts, row.body) for row in tried],
            )
            ends: dict[int, int] = {}
            if again := [row.key for row in tried if row.attempt]:
                found = conn.execute(self._sql["find_started"], (encode(again, "keys"),))
                ends = dict(found.fetchall())
            for row in tried:
                answers[row.key, row.attempt] = ClaimAnswer(
                    row.attempt + 1, now, now + row.lease, ends.get(row.key, 1)
                )
        seen = [(row.key, row.attempt) for row in rows]
        return [
            answers.get(name) if first[name] is row else None
            for name, row in zip(seen, rows, strict=True)
        ]

    # --- attempts that give their task up ---------------------------------------------------------

    def _overrule(
        self, conn: sqlite3.Connection, flush: Flush, answer: FlushAnswer
    ) -> list[EventRow]:
        """The rows, with a cancelled ``final`` where a cancel is on record."""
        rows = list(flush.rows)
        keys = encode([rows[given.row].key for given in flush.give_ups], "keys")
        on_record = {
            (key, attempt, owner): read_cancel(*on_record)
            for key, attempt, owner, *on_record in conn.execute(
                self._sql["find_overruled"], (keys,)
            )
        }
        for given in flush.give_ups:
            row = rows[given.row]
            request = on_record.get((row.key, row.attempt, row.owner))
            if request is not None:
                rows[given.row] = cancel_instead(row, request)
                answer.cancelled_instead[given.row] = request
        return rows

    def _give_up(self, conn: sqlite3.Connection, row: EventRow, given: GiveUpRow, now: int) -> None:
        """Make the task pending again; a cancelled or refused one is not this attempt's."""
        run_at = now if given.run_at is None else given.run_at
        until = None if given.lease is None else run_at + given.lease
        conn.execute(
            self._sql["give_up_task"],
            (given.owner, until, run_at, run_at, given.spends, row.key, row.attempt, row.owner),
        )

    # --- rows that the guard left out -------------------------------------------------------------

    def _refuse(self, conn: sqlite3.Connection, flush: Flush) -> list[RefusedRow]:
        """Say why rows are missing from the tapes, and quarantine and count them."""
        firsts: dict[Any, int] = {}
        for place, source in enumerate(flush.sources):
            firsts.setdefault(source, place)
        asked = [
            (row.key, row.seq, row.attempt, row.offer, source.task_id, row.owner)
            for source, row in ((w, flush.rows[place]) for w, place in firsts.items())
        ]
        found = conn.execute(self._sql["examine_refused"], (encode(asked, "rows"),)).fetchone()[0]
        states: list[_State] = [_State(*state[1:]) for state in decode(found)]
        of_source = dict(zip(firsts, states, strict=True))
        begins = {  # of each tape that the flush writes to
            flush.rows[place].key: flush.rows[place].seq
            for source, place in firsts.items()
            if of_source[source].stored
        }
        for source, place in firsts.items():
            if not of_source[source].stored and (begun := begins.get(flush.rows[place].key)):
                of_source[source].reopen(begun - 1)
        refused: list[RefusedRow] = []
        kept: list[tuple[Any, ...]] = []
        counts: Counter[tuple[str, int, str, str, str]] = Counter()
        last_offers: dict[tuple[str, int, str, str, str], int] = {}
        unknown: int | None = None
        for place, (row, source) in enumerate(zip(flush.rows, flush.sources, strict=True)):
            state = of_source[source]
            if state.stored:
                continue
            reason = state.reason(row.attempt, row.type, row.body)
            outcome = state.outcome
            refused.append(RefusedRow(place, reason, state.op, outcome, state.last_seq or 0))
            if reason is None:
                continue
            key = (source.task_id, row.attempt, reason.value, row.type, outcome or TAPE_OPEN)
            if reason is DropReason.UNKNOWN_TASK:
                if unknown is None:
                    unknown = int(conn.execute(self._sql["count_unknown"]).fetchone()[0])
                room = unknown < self._limits.quarantine_unknown
                unknown += 1
                key = (source.task_id, row.attempt, reason.value, row.type, TAPE_UNKNOWN)
                if not room:  # the count goes on, the table does not grow
                    key = ("", 0, reason.value, "", TAPE_UNKNOWN)
            else:
                room = state.dropped < self._limits.quarantine_per_task
                state.dropped += 1
            if room:
                late = row.ts - state.last_ts if outcome is not None else None
                kept.append(
                    (
                        source.task_id,
                        row.attempt,
                        row.offer,
                        row.owner,
                        row.type,
                        reason.value,
                        row.ts,
                        late,
                        source.trace_id,
                        row.body,
                    )
                )
            counts[key] += 1
            last_offers[key] = row.offer
        if kept:
            conn.execute(self._sql["quarantine"], (encode(kept, "drops"),))
        if counts:
            rows = [(*key, n, last_offers[key]) for key, n in counts.items()]
            conn.execute(self._sql["count_drops"], (encode(rows, "drops"),))
        return refused

    # --- cancels ----------------------------------------------------------------------------------

    def _cancel(self, conn: sqlite3.Connection, row: CancelRow, now: int) -> CancelAnswer | None:
        met = conn.execute(self._sql["lock_for_cancel"], (row.task_id,)).fetchone()
        if met is None:
            return None
        key, op, status, attempt, owner, *on_record, traceparent, last_seq, expires_at = met
        request = read_cancel(*on_record)
        if carry(TaskStatus, status).terminal:
            return CancelAnswer(CancelState.TERMINAL, op, owner, attempt, request, last_seq)
        if row.reason == CancelReason.EXPIRED and (expires_at is None or expires_at > now):
            return CancelAnswer(CancelState.NOT_EXPIRED, op, owner, attempt, request, last_seq)
        if request is not None:
            return CancelAnswer(CancelState.ALREADY_RECORDED, op, owner, attempt, request, last_seq)
        request = CancelRequest(
            CancelReason(row.reason), row.message, row.by, row.ts, traceparent=row.traceparent
        )
        recorded = (row.reason, row.message, row.by, row.ts, row.traceparent, key)
        conn.execute(self._sql["record_cancel"], recorded)
        if status == TaskStatus.RUNNING:
            return CancelAnswer(CancelState.RECORDED, op, owner, attempt, request, last_seq)
        conn.execute(self._sql["append_by_another"], (FINAL, row.ts, row.body, key))
        last_seq += 1
        state = CancelState.CANCELLED
        return CancelAnswer(state, op, owner, attempt, request, last_seq, traceparent)


class _State:
    """What a refused writer met: its task, and the end of its tape."""

    def __init__(
        self,
        stored: int,
        op: str | None,
        status: str | None,
        attempt: int | None,
        last_seq: int | None,
        last_type: str | None,
        last_attempt: int | None,
        last_ts: int | None,
        final: str | None,
        dropped: int | None,
    ) -> None:
        self.stored = bool(stored)
        self.op = op
        self.attempt = attempt
        self.last_seq = last_seq
        self.last_attempt = last_attempt
        self.last_ts = last_ts or 0
        self.final = final
        self.dropped = dropped or 0
        self.outcome = (
            Outcome(status) if status is not None and carry(TaskStatus, status).terminal else None
        )

    def reopen(self, last_seq: int) -> None:
        """See the tape as the flush found it, before rows of the attempt that runs were written."""
        self.last_seq, self.outcome = last_seq, None

    def reason(self, attempt: int, type: str, body: str) -> DropReason | None:
        """Why a row is kept off the tape; ``None``: the tape's own final, again."""
        return find_drop_reason(
            attempt,
            type,
            body,
            task_attempt=self.attempt,
            final=None if self.outcome is None else (self.last_attempt, self.final),
        )
