"""The guards of messages: each is in its inbox once, on its tape once, and before the final."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import POSTGRES, RUN, SQLITE, STORE, Edit, Guard, row

_SUITE: Final = "tests/contract/test_conformance.py"
_RAW: Final = "tests/adapters/test_messages.py::test_no_session_makes_of_a_message_what_it_is_not"
_MARKED: Final = "tests/adapters/test_messages.py::test_what_is_taken_stays_so"
_GONE: Final = "tests/adapters/test_messages.py::test_a_deleted_task_leaves_no_message"
_RUNS: Final = "tests/run/test_messages.py"
_TAKEN: Final = "test_a_message_is_taken_by_the_event_that_says_so"
_ENDED: Final = "test_an_ended_task_takes_none"
_WOKEN: Final = "test_who_knows_the_end_of_the_tape_is_woken_all_the_same"
_ON_SQLITE: Final = f"{SQLITE}/sql/migrations/0016_messages.sql"
_ON_POSTGRES: Final = f"{POSTGRES}/sql/migrations/0016_messages.sql"
_SEND: Final = f"{POSTGRES}/sql/functions/send_message.sql"


def _trigger(name: str) -> Edit:
    return Edit(_ON_SQLITE, rf"^CREATE TRIGGER {name}\b.*?^END;$", pattern=True)


def _line(name: str) -> Edit:
    return Edit(_ON_POSTGRES, rf",\s+CONSTRAINT {name} [^\n]*?(?=,?\n)", pattern=True)


GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "messages.take_sqlite",
        "A message is taken once, on SQLite",
        _trigger("events_take_message"),
        f"{_SUITE}::TestSqlite::{_TAKEN}",
    ),
    row(
        "messages.take_postgres",
        "A message is taken once, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/functions/guard_appended.sql",
            "        IF ended <> takes THEN\n",
            "        IF false THEN\n",
        ),
        f"{_SUITE}::TestPostgres::{_TAKEN}",
        on="postgresql",
    ),
    row(
        "messages.readable_sqlite",
        "A message can be read, and is for a task that has not ended, on SQLite",
        _trigger("messages_can_be_read"),
        f"{_RAW}[sqlite]",
    ),
    row(
        "messages.stay_sqlite",
        "A message is what was sent, on SQLite",
        _trigger("messages_stay"),
        f"{_RAW}[sqlite]",
    ),
    row(
        "messages.go_sqlite",
        "Messages go with their task, on SQLite",
        _trigger("tasks_take_their_messages"),
        f"{_GONE}[sqlite]",
    ),
    row(
        "messages.new_sqlite",
        "A message takes no other one's place, and is not born as taken, on SQLite",
        _trigger("messages_are_new"),
        f"{_RAW}[sqlite]",
    ),
    row(
        "messages.marked_sqlite",
        "A message is marked as taken once, by its event, on SQLite",
        _trigger("messages_taken_by_event"),
        f"{_MARKED}[sqlite]",
    ),
    row(
        "messages.live_sqlite",
        "A message lives as long as its task, on SQLite",
        _trigger("messages_live_with_task"),
        f"{_RAW}[sqlite]",
    ),
    row(
        "messages.marked_postgres",
        "A message is marked once, by its event, and lives as long as its task, on PostgreSQL",
        Edit(_ON_POSTGRES, r"^CREATE TRIGGER messages_taken_by_event\b.*?;$", pattern=True),
        f"{_MARKED}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.readable_postgres",
        "A message can be read, is for a task that has not ended, and stays, on PostgreSQL",
        Edit(_ON_POSTGRES, r"^CREATE TRIGGER messages_can_be_read\b.*?;$", pattern=True),
        f"{_RAW}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.truncated",
        "Messages are never emptied whole",
        Edit(_ON_POSTGRES, r"^CREATE TRIGGER messages_no_truncate\b.*?;$", pattern=True),
        f"{_RAW}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.number_postgres",
        "A number is of one message, on PostgreSQL",
        _line("messages_pkey"),
        f"{_RAW}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.key_postgres",
        "A key is of one message, on PostgreSQL",
        _line("messages_key_unique"),
        f"{_RAW}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.go_postgres",
        "Messages go with their task, on PostgreSQL",
        _line("messages_task_fkey"),
        f"{_GONE}[postgresql]",
        on="postgresql",
    ),
    row(
        "messages.lock",
        "Senders come one by one, and before the final or after it, on PostgreSQL",
        Edit(_SEND, " FOR NO KEY UPDATE;", ";"),
        f"{_SUITE}::TestPostgres::test_senders_of_two_processes_have_numbers_in_a_row",
        on="postgresql",
    ),
    row(
        "messages.durable",
        "A message is as durable as a flush, on PostgreSQL",
        Edit(
            f"{POSTGRES}/sql/messages.sql",
            "SELECT /*settings*/ send_message",
            "SELECT send_message",
        ),
        "tests/adapters/postgres/test_schema.py::test_durability_is_the_sessions_own[commit-on]",
        on="postgresql",
    ),
    row(
        "messages.one_by_one_sqlite",
        "A send is one transaction, on SQLite",
        Edit(f"{SQLITE}/_messages.py", "    with write_transaction(conn):\n", "    if True:\n"),
        f"{_SUITE}::TestSqlite::test_a_send_is_in_before_the_final_or_refused",
    ),
    row(
        "messages.ended_postgres",
        "A task that has ended takes no message, on PostgreSQL",
        Edit(_SEND, "    IF t.status NOT IN ('pending', 'running') THEN\n", "    IF false THEN\n"),
        f"{_SUITE}::TestPostgres::{_ENDED}",
        on="postgresql",
    ),
    row(
        "messages.ended_sqlite",
        "A task that has ended takes no message, on SQLite",
        Edit(f"{SQLITE}/_messages.py", "        if status.terminal:\n", "        if False:\n"),
        f"{_SUITE}::TestSqlite::{_ENDED}",
    ),
    row(
        "messages.woken_sqlite",
        "Who knows the end of the tape hears of a message, on SQLite",
        Edit(
            f"{SQLITE}/_change_poll.py",
            "            news += [(one, 0) for one, n in inboxes.items() "
            "if n != last.inboxes.get(one)]\n",
        ),
        f"{_SUITE}::TestSqlite::{_WOKEN}",
    ),
    row(
        "messages.woken_together",
        "A message is heard of beside ends that are passed on together, on PostgreSQL",
        Edit(
            f"{POSTGRES}/_listener.py",
            "min(end, waiting) and max(end, waiting)",
            "max(end, waiting)",
        ),
        "tests/adapters/postgres/test_foreign_notifications.py"
        "::test_a_look_is_not_lost_among_what_is_passed_on_together",
        on="postgresql",
    ),
    row(
        "messages.woken_here",
        "A send whose reply was lost wakes who waits in its own process",
        Edit(
            f"{STORE}/messages.py",
            "answer.result in (MessageResult.SENT, MessageResult.REPEATED)",
            "answer.result is MessageResult.SENT",
        ),
        f"{_RUNS}::test_a_send_whose_reply_was_lost_wakes_who_waits",
        on="memory",
    ),
    row(
        "messages.bounded",
        "A message is of a bounded size",
        Edit(f"{STORE}/messages.py", "> limits.message_bytes:", "< 0:"),
        f"{_SUITE}::TestSqlite::test_an_inbox_is_bounded",
    ),
    row(
        "messages.fits",
        "A message that no event can hold is refused where it is sent",
        Edit(f"{STORE}/messages.py", "limits.event_bytes)) < size:", "2**31)) < 0:"),
        f"{_SUITE}::TestSqlite::test_what_is_in_an_inbox_can_be_taken",
    ),
    row(
        "messages.left_at_claim",
        "What a task that a claim ends has not taken is counted",
        Edit(f"{STORE}/_claims.py", "        await count_untaken(", "        (lambda *_: None)("),
        "tests/adapters/test_messages.py::test_what_a_claim_ends_leaves_its_messages_counted[sqlite]",
    ),
    row(
        "messages.conflict",
        "A key is of one message: another body is refused",
        Edit(f"{STORE}/messages.py", "        if there and canonical(", "        if False and ("),
        f"{_SUITE}::TestSqlite::test_the_same_key_adds_nothing",
    ),
    row(
        "messages.taken_once",
        "Who stops waiting in mid-commit leaves the append to the next call",
        Edit(f"{RUN}/inbox.py", "await_child(asyncio.shield(append))", "await_child(append)"),
        f"{_RUNS}::test_a_take_that_is_cancelled_in_mid_commit_is_given_next",
        on="memory",
    ),
    row(
        "messages.again",
        "A message comes again where an attempt before has had it, and only there",
        Edit(f"{RUN}/inbox.py", "again=message.n != self._offered", "again=True"),
        f"{_RUNS}::test_a_take_whose_reply_was_lost_does_not_come_again",
        on="memory",
    ),
    row(
        "messages.reread",
        "Who stops waiting in mid-commit loses no message",
        Edit(
            f"{RUN}/inbox.py",
            "                self._given = given.n\n                return given\n",
            "                return given\n",
        ),
        f"{_RUNS}::test_a_runner_is_given_what_is_sent_to_its_task[sqlite-gather]",
    ),
    row(
        "messages.patient",
        "Who waits for a message is not silent",
        Edit(
            f"{RUN}/inbox.py",
            "        self._tape.reporting += 1",
            "        self._tape.reporting += 0",
        ),
        f"{_RUNS}::test_who_waits_for_a_message_is_not_stalled",
        on="memory",
    ),
    row(
        "messages.told_to_stop",
        "A thread that waits for a message is told to stop",
        Edit(
            f"{RUN}/inbox.py",
            "asyncio.wait((taking, stopped), return_when",
            "asyncio.wait((taking,), return_when",
        ),
        f"{_RUNS}::test_a_thread_that_waits_is_told_to_stop",
        on="memory",
    ),
)
