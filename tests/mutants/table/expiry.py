"""The guards of the expiry: what has expired is not begun, ends once, and is seen."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import MANAGER, POSTGRES, SQLITE, STORE, TAPESCOPE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_OF_MANAGER: Final = "tests/manager/test_expiry.py"
_GROWTH: Final = "tests/adapters/growth/test_growth.py"
_CLAIM: Final = "test_a_claim_begins_nothing_that_has_expired"
_MANY: Final = "test_many_that_have_expired_keep_none_from_a_claim"
_BY_ID: Final = "test_a_claim_by_its_id_begins_none"
_ONLY: Final = "test_only_what_has_expired_ends_for_it"
_BEGUN: Final = "test_what_has_begun_goes_on"
_ROUND: Final = "test_looks_go_round"
_CLAIMS: Final = f"{STORE}/_claims.py"
_EXPIRIES: Final = f"{STORE}/_expiries.py"
_CLAIM_DUE: Final = f"{POSTGRES}/sql/functions/claim_due.sql"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "expiry.only_first",
        "An expiry is of the first attempt alone",
        Edit(
            f"{TAPESCOPE}/model/tasks.py",
            "if self.expires_in is None or self.attempt:",
            "if self.expires_in is None:",
        ),
        f"{_SUITE}::TestMemory::{_BEGUN}",
        on="memory",
    ),
    row(
        "expiry.ends_met",
        "What a claim met that has expired is ended at once",
        Edit(_CLAIMS, "await self._expiries.end(expired)", "0"),
        f"{_SUITE}::TestMemory::{_CLAIM}",
        on="memory",
    ),
    row(
        "expiry.claims_again",
        "A claim asks again in the place of what had expired",
        Edit(_CLAIMS, "for _ in range(_ROUNDS):", "for _ in range(1):"),
        f"{_SUITE}::TestMemory::{_CLAIM}",
        on="memory",
    ),
    row(
        "expiry.looks_beside",
        "A claim that met nothing else has others ended, too, that have expired",
        Edit(
            _CLAIMS,
            "                if not found:\n                    ended += await self._expiries.look(_EXPIRED)\n",
        ),
        f"{_SUITE}::TestMemory::{_MANY}",
        on="memory",
    ),
    row(
        "expiry.keeps_claims",
        "What a claim has taken is its caller's, though what expired cannot be ended",
        Edit(
            _CLAIMS,
            "                if not claims:\n                    raise\n                break",
            "                raise",
        ),
        "tests/store/test_expiries.py::test_claims_are_kept_where_the_store_is_away",
        on="memory",
    ),
    row(
        "expiry.by_id_ends",
        "A claim by the id ends what has expired",
        Edit(
            f"{STORE}/port.py",
            "                await self._expiries.end([Expired.of(task)])\n",
            "                pass\n",
        ),
        f"{_SUITE}::TestMemory::{_BY_ID}",
        on="memory",
    ),
    row(
        "expiry.asks_memory",
        "An expiry's cancel is heeded where the task has expired, in memory",
        Edit(
            f"{STORE}/task_rows.py",
            "if row.reason == CancelReason.EXPIRED and not task.has_expired(now):",
            "if False:",
        ),
        f"{_SUITE}::TestMemory::{_ONLY}",
        on="memory",
    ),
    row(
        "expiry.asks_sqlite",
        "An expiry's cancel is heeded where the task has expired, on SQLite",
        Edit(
            f"{SQLITE}/_flush.py",
            "if row.reason == CancelReason.EXPIRED and (expires_at is None or expires_at > now):",
            "if False:",
        ),
        f"{_SUITE}::TestSqlite::{_ONLY}",
    ),
    row(
        "expiry.asks_postgres",
        "An expiry's cancel is heeded where the task has expired, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/cancel_task.sql",
            "ELSIF x_reason = 'expired' AND NOT",
            "ELSIF false AND NOT",
        ),
        f"{_SUITE}::TestPostgres::{_ONLY}",
        on="postgresql",
    ),
    row(
        "expiry.claim_sqlite",
        "A claim of what is due begins nothing that has expired, on SQLite",
        Edit(f"{SQLITE}/sql/due.sql", "iif(late, -id, id)", "id"),
        f"{_SUITE}::TestSqlite::{_CLAIM}",
    ),
    row(
        "expiry.claim_postgres",
        "A claim of what is due begins nothing that has expired, on PostgreSQL",
        Edit(
            _CLAIM_DUE,
            "t.expires_in IS NOT NULL AND t.attempt = 0 AND t.run_at + t.expires_in <= now AS late",
            "false AS late",
        ),
        f"{_SUITE}::TestPostgres::{_CLAIM}",
        on="postgresql",
    ),
    row(
        "expiry.singly_postgres",
        "A claim that goes one by one begins nothing that has expired",
        Edit(
            f"{POSTGRES}/sql/functions/claim_singly.sql",
            r"\n +AND \(d\.expires_in IS NULL[^\n]*(?=\n[^\n]*AS others)",
            pattern=True,
        ),
        "tests/adapters/postgres/test_expiries.py::test_a_claim_one_by_one_begins_nothing_that_has_expired",
        on="postgresql",
    ),
    row(
        "expiry.by_id_sqlite",
        "A claim by the id begins nothing that has expired, on SQLite",
        Edit(
            f"{SQLITE}/sql/tasks.sql",
            r"\n   AND \(typeof\(tasks\.expires_in\)[^\n]*?;",
            ";",
            pattern=True,
        ),
        f"{_SUITE}::TestSqlite::{_BY_ID}",
    ),
    row(
        "expiry.by_id_postgres",
        "A claim by the id begins nothing that has expired, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/flush.sql",
            r"\n +AND \(p\.expires_in IS NULL[^\n]*?\) w",
            "\n) w",  # behind a comment
            pattern=True,
        ),
        f"{_SUITE}::TestPostgres::{_BY_ID}",
        on="postgresql",
    ),
    row(
        "expiry.older_claims",
        "A worker that does not ask is told of nothing that has expired: it would count it",
        Edit(_CLAIM_DUE, "IF x_tell AND expired IS NOT NULL THEN", "IF expired IS NOT NULL THEN"),
        "tests/adapters/postgres/test_expiries.py::test_an_older_worker_meets_nothing_that_has_expired",
        on="postgresql",
    ),
    row(
        "expiry.goes_on",
        "A look for what has expired goes on where the last one ended",
        Edit(
            _EXPIRIES,
            "self._after = (found[-1].at, found[-1].key) if full else FIRST_EXPIRED",
            "self._after = FIRST_EXPIRED",
        ),
        "tests/store/test_expiries.py::test_one_that_cannot_be_ended_holds_up_no_other",
        on="memory",
    ),
    row(
        "expiry.goes_round",
        "The looks for what has expired begin anew",
        Edit(
            _EXPIRIES,
            "self._after = (found[-1].at, found[-1].key) if full else FIRST_EXPIRED",
            "self._after = (found[-1].at, found[-1].key) if found else self._after",
        ),
        "tests/store/test_expiries.py::test_one_that_cannot_be_ended_holds_up_no_other",
        on="memory",
    ),
    row(
        "expiry.heartbeat",
        "A heartbeat ends what has expired",
        Edit(f"{MANAGER}/heartbeat.py", "ending = (self._expire, ", "ending = ("),
        f"{_OF_MANAGER}::test_who_waits_is_told_that_it_expired",
    ),
    row(
        "expiry.by_hand",
        "No user's cancel is an expiry",
        Edit(
            f"{MANAGER}/handle.py",
            '            raise BadSetting("reason", str(reason), expected)\n',
            "            pass\n",
        ),
        f"{_OF_MANAGER}::test_nobody_says_by_hand_that_a_task_has_expired",
        on="memory",
    ),
    row(
        "expiry.child",
        "A child of a task that expired has not expired itself",
        Edit(
            f"{STORE}/port.py",
            "            reason = CancelReason.SUPERSEDED\n",
            "            pass\n",
        ),
        f"{_SUITE}::TestMemory::test_a_child_of_one_that_expired_has_not",
        on="memory",
    ),
    row(
        "expiry.index_sqlite",
        "A look for what has expired walks nothing else, on SQLite",
        Edit(
            f"{SQLITE}/sql/tasks.sql",
            "  FROM tasks t INDEXED BY tasks_expiring\n",
            "  FROM tasks t INDEXED BY tasks_due_op\n",
        ),
        f"{_GROWTH}::test_no_statement_of_sqlite_grows[big]",
    ),
    row(
        "expiry.range_sqlite",
        "A raw session gives no expiry that is not a span of time, on SQLite",
        Edit(
            f"{SQLITE}/sql/migrations/0020_expiry.sql",
            r"\n    CONSTRAINT tasks_expires_in_known[^\n]*;",
            ";",
            pattern=True,
        ),
        "tests/adapters/test_raw_sessions.py::test_an_expiry_that_is_no_span_is_refused",
    ),
    row(
        "expiry.range_postgres",
        "A raw session gives no expiry that is not a span of time, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/migrations/0020_expiry.sql",
            r"\n    CONSTRAINT tasks_expires_in_known[^\n]*;",
            ";",
            pattern=True,
        ),
        "tests/adapters/test_raw_sessions.py::test_an_expiry_that_is_no_span_is_refused",
        on="postgresql",
    ),
    row(
        "expiry.judge",
        "The judge finds an attempt that began too late",
        Edit(f"{TAPESCOPE}/testing/_checker.py", "    if late >= 0:\n", "    if late < -1e18:\n"),
        "tests/testing/test_checker.py::test_an_attempt_that_began_too_late_is_found",
        on="memory",
    ),
)
