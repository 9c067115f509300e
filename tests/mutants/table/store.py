"""The guards of the port and its write queue."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import STORE, Edit, Guard, row

_COMMIT: Final = f"{STORE}/_group_commit.py"
_RESULTS: Final = f"{STORE}/_results.py"
_CORE: Final = f"{STORE}/core.py"
_PORT: Final = f"{STORE}/port.py"
_CLAIMS: Final = f"{STORE}/_claims.py"
_ORPHANS: Final = f"{STORE}/_orphans.py"
_FOLLOW: Final = f"{STORE}/follow.py"
_NOTES: Final = f"{STORE}/notifications.py"
_ORDERS: Final = f"{STORE}/orders.py"
_RULES: Final = f"{STORE}/tape_rules.py"
_OPENING: Final = f"{STORE}/opening.py"
_LEASES: Final = f"{STORE}/leases.py"
_MAINTENANCE: Final = f"{STORE}/maintenance.py"

_FLUSHES: Final = "tests/store/test_group_commit.py"
_TROUBLE: Final = "tests/store/test_group_commit_trouble.py"
_ORPHANED: Final = "tests/store/test_orphans.py"
_FOLLOWS: Final = "tests/manager/test_follow.py"
_CONTRACT: Final = "tests/contract/test_conformance.py::TestMemory"

GUARDS: Final[tuple[Guard, ...]] = (
    # --- the write queue --------------------------------------------------------------------------
    row(
        "store.tail_after_doubt",
        "I3: after a fate that was never learned the tape's end is read before it is written to",
        Edit(
            _COMMIT,
            "call.cursor.key = None  # its tape's end must be read before it writes",
            "pass",
        ),
        "tests/store/test_group_commit_trouble.py::test_fate_never_learned_is_said_and_counted[True]",
        on="memory",
    ),
    row(
        "store.lane_context",
        "A flush serves many callers: the span of the one that woke the lane is not its own",
        Edit(
            _COMMIT,
            "            context=contextvars.Context(),  # it serves many callers: none of their spans"
            " is its own\n",
        ),
        "tests/store/test_contexts.py::test_a_flush_is_in_no_callers_context",
        on="memory",
    ),
    row(
        "store.blocked_lane_context",
        "The same, of the lane of those that wait for a lock",
        Edit(
            _COMMIT,
            'name="tapescope-blocked-lane", context=contextvars.Context()\n',
            'name="tapescope-blocked-lane"\n',
        ),
        "tests/store/test_contexts.py::test_a_flush_is_in_no_callers_context",
        on="memory",
        held_by="store.lane_context",
    ),
    # --- accounts ---------------------------------------------------------------------------------
    # --- the calls --------------------------------------------------------------------------------
    row(
        "store.home",
        "A store that was forked, or is of another loop, says so to who uses it",
        Edit(
            _CORE,
            "        self._home.check()\n        return self._commits",
            "        return self._commits",
        ),
        "tests/manager/test_homes.py::test_a_store_says_that_it_is_used_in_another_loop[memory]",
        on="memory",
    ),
    row(
        "store.home_fork",
        "A store that was forked while it was open is not used in the child",
        Edit(f"{STORE}/home.py", "os.getpid() != self._pid", "False"),
        "tests/manager/test_process.py::test_a_forked_child_may_not_use_the_manager",
        on="memory",
    ),
    row(
        "store.home_loop",
        "A store is not used in another event loop",
        Edit(f"{STORE}/home.py", "if loop is not self._loop:", "if False:"),
        "tests/manager/test_homes.py::test_a_manager_says_that_it_is_used_in_another_loop[memory]",
        on="memory",
    ),
    # --- orphans ----------------------------------------------------------------------------------
    row(
        "store.orphan_context",
        "The cancel of an orphan is in no span of its caller's",
        Edit(_ORPHANS, "            context=contextvars.Context(),\n"),
        "tests/store/test_contexts.py::test_the_cancel_of_an_orphan_is_in_no_callers_context",
        on="memory",
    ),
    # --- claims of due tasks ----------------------------------------------------------------------
    # --- following --------------------------------------------------------------------------------
    row(
        "store.follower_gap",
        "I9: a change that begins behind a gap has the follower read the tape",
        Edit(_FOLLOW, " or change.events[0].seq > seq + 1"),
        "tests/manager/test_follow.py::test_a_change_behind_a_gap_has_the_tape_read",
        on="memory",
    ),
    row(
        "store.watch_context",
        "The watch of other processes' commits is in no caller's span",
        Edit(f"{STORE}/_watch.py", "                context=contextvars.Context(),\n"),
        "tests/store/test_contexts.py::test_a_watch_is_in_no_followers_context",
    ),
    # --- orders and rules -------------------------------------------------------------------------
    # --- the model in memory ----------------------------------------------------------------------
)
