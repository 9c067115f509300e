"""The named queries of the two dialects: which are in both, and why each of the others is not."""

from __future__ import annotations

from importlib.resources import files

from tapescope_adapters._sql import load

STEPS = {
    "flush": {
        "insert_tasks",
        "find_idempotent",
        "claim_tasks",
        "find_claimed",
        "start_attempts",
        "find_started",
        "append_events",
        "find_overruled",
        "give_up_task",
        "find_unique",
    },
    "drop_rows": {"examine_refused", "quarantine", "count_drops", "count_unknown"},
    "cancel_task": {"lock_for_cancel", "record_cancel", "append_by_another"},
    "claim_due": {"find_due", "start_due", "read_claimed"},
    "admit_parked": {
        "has_look",
        "find_look",
        "forget_looks",
        "look_again",
        "count_slots",
        "forget_starts",
        "mend_starts",
        "count_starts",
        "look_at_window",
        "find_parked",
        "admit_parked",
    },
    "claim_singly": {"read_claimed_row"},
    "rescue_expired": {"find_lost", "last_seq"},
    "repair_task": {
        "find_guards",
        "read_end",
        "read_last",
        "keep_taken",
        "take_event",
        "correct_row",
        "restore_final",
        "read_counts",
        "read_kept",
        "forget_impossible",
        "end_lease",
        "log_repair",
    },
    "delete_drops": {"unknown_drops", "forget_unknown"},
    "read_backlog": {"read_waits", "read_running", "read_able"},
    "read_unserved": {"read_taken", "find_unserved"},
    "count_backlog": {"read_numbers"},
    "fold_backlog": {"count_passed", "fold_passed", "forget_passed"},
    "fill_backlog": {"forget_live", "fill_backlog"},
    "mend_backlog": {"add_gone", "log_mended"},
    "send_message": {"find_message", "count_waiting", "add_message"},
}
"""By PostgreSQL's function, the queries of SQLite that are its steps: there a statement is a call
within the process, and on PostgreSQL each would be a round trip."""

PARTS = {
    "read_quarantine": {"count_quarantine", "count_dropped"},
    "read_tape": {"read_tape_end"},
    "find_open": {"find_top"},
    "read_inbox": {"find_receiver"},
}
"""By query of both dialects, what PostgreSQL's reads besides, as of the same moment and in the same
round trip. On SQLite a read transaction holds the moment."""

ONLY_SQLITE = {
    "read_ends": "a follower looks at its tapes after each write; PostgreSQL names those that grew",
    "read_arrivals": "a worker looks for new tasks; PostgreSQL notifies it that some have come",
    "read_news": "a follower of the store looks which tapes grew; PostgreSQL notifies it",
}

ONLY_POSTGRES = {
    "flush": "calls the function",
    "flush_traced": "calls the function, and notes traces in the same round trip",
    "repair_task": "calls the function",
    "rescue_expired": "calls the function",
    "mend_backlog": "calls the function",
    "send_message": "calls the function",
    "read_backlog": "calls the function",
    "read_clock": "due times go by the server's clock; SQLite's go by the process's",
    "search_children": "the planner is led by an order; SQLite has search_tasks",
    "find_searched_children": "as above",
    "list_of_status": "as above; SQLite has list_tasks",
    "search_of_status": "as above",
    "find_searched_of_status": "as above",
    "fence": "a reply can be lost, and with it what became of a flush; SQLite is in the process",
    "announce": "a notification; who has a SQLite file open looks at it",
    "settle_lane": "what a lost connection still carries; SQLite is in the process",
    "forget_lane": "SQLite has no lanes: they remember what was replied",
    "forget_lanes": "SQLite has no lanes, as above",
    "forget_stale_lanes": "SQLite has no lanes, as above",
    "read_leases": "an owner's rows are locked one by one; SQLite locks the file",
    "await_lease": "waits for the lock of one row, as above",
    "find_key": "carries the settings of a repair's transaction, as its first statement",
    "has_tables": "the version is in a table; SQLite's is in the file's header",
    "read_version": "the version is in a table, as above",
    "read_compatibility": "is in a table, as above",
    "lock_schema": "one process migrates at a time; SQLite locks the file",
    "read_owner": "a schema has an owner; a SQLite file has its mode",
    "note_version": "the version is in a table, as above",
    "note_compatibility": "is in a table, as above",
    "read_state": "looks at what a server may have had done to it; SQLite looks at its file",
    "read_schema": "SQLite's tells its objects as they were written",
    "read_identity": "tells two stores in one server apart; a SQLite store is its file",
}


def test_names_differ_where_the_dialects_do() -> None:
    """A query of one dialect alone is listed above, with the reason why the other has none."""
    postgres = set(load("tapescope_adapters.postgres"))
    sqlite = set(load("tapescope_adapters.sqlite"))
    steps = [name for part in (STEPS, PARTS) for names in part.values() for name in names]

    assert sqlite - postgres == {*steps, *ONLY_SQLITE}
    assert postgres - sqlite == {*ONLY_POSTGRES}
    assert len(steps) == len(set(steps))


def test_steps_belong_to_what_there_is() -> None:
    """PostgreSQL has the functions that carry out steps, and both the queries that hold parts."""
    functions = {
        entry.name.removesuffix(".sql")
        for entry in (files("tapescope_adapters.postgres") / "sql" / "functions").iterdir()
    }
    both = set(load("tapescope_adapters.postgres")) & set(load("tapescope_adapters.sqlite"))

    assert STEPS.keys() <= functions
    assert PARTS.keys() <= both
