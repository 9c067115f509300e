"""The guards of the port and its write queue."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import STORE, TAPESCOPE, Edit, Guard, row

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
_CLOSED: Final = (
    "tests/store/test_group_commit_trouble.py"
    "::test_a_call_that_waits_is_told_that_the_store_was_closed_meanwhile"
)
_TROUBLE: Final = "tests/store/test_group_commit_trouble.py"
_ORPHANED: Final = "tests/store/test_orphans.py"
_FOLLOWS: Final = "tests/manager/test_follow.py"
_CONTRACT: Final = "tests/contract/test_conformance.py::TestMemory"

GUARDS: Final[tuple[Guard, ...]] = (
    # --- the write queue --------------------------------------------------------------------------
    row(
        "store.lane_exit",
        "Who waits for a lane in which the process was told to end hears of it",
        Edit(
            f"{STORE}/_group_commit.py",
            "(asyncio.CancelledError, *EXITS):\n            self._give_up(calls, EventFateUnknown(0.0))\n            raise\n        finally:\n            self._free_lanes",
            "asyncio.CancelledError:\n            self._give_up(calls, EventFateUnknown(0.0))\n            raise\n        finally:\n            self._free_lanes",
        ),
        "tests/run/test_never_begun.py::test_an_exit_in_the_midst_of_our_tasks_ends_the_program",
        on="memory",
    ),
    row(
        "store.one_flush_a_task",
        "I3: a task is in one flush at a time, and its events keep their order",
        (
            Edit(
                _COMMIT,
                "        if cursor.busy:\n            return  # listed again when its flush has ended\n",
            ),
            Edit(_COMMIT, "if cursor.busy or not cursor.queue:", "if not cursor.queue:"),
        ),
        "tests/store/test_group_commit_random.py::test_any_interleaving_on_two_lanes_keeps_the_invariants",
        on="memory",
    ),
    row(
        "store.withdraw_in_flight",
        "I7: a call whose flush is under way is not withdrawn",
        Edit(_COMMIT, "if call.in_flight or call.withdrawn or", "if call.withdrawn or"),
        "tests/store/test_group_commit.py::test_cancelled_caller_of_a_flush_under_way_changes_nothing",
        on="memory",
    ),
    row(
        "store.withdraw_counted",
        "I7: a call that is withdrawn is accounted for",
        Edit(_COMMIT, "        fail(self._context, call, asyncio.CancelledError())\n"),
        "tests/store/test_group_commit.py::test_cancelled_caller_withdraws_without_a_hole",
        on="memory",
    ),
    row(
        "store.withdraw_lets_in",
        "The room of a call that is withdrawn goes to who waits for room",
        Edit(
            _COMMIT,
            "        self._rest_if_idle()\n        self._let_in()\n",
            "        self._rest_if_idle()\n",
        ),
        "tests/store/test_group_commit.py::test_withdrawn_call_makes_room",
        on="memory",
    ),
    row(
        "store.room_handed_on",
        "A waiter for room that is cancelled hands its place on",
        Edit(
            _COMMIT,
            "                if not turn.cancelled():\n                    self._let_in()  # its place goes to the next caller\n",
        ),
        "tests/store/test_group_commit.py::test_cancelled_waiter_for_room_hands_its_turn_on",
        on="memory",
    ),
    row(
        "store.back_pressure",
        "A full queue makes an append wait",
        Edit(_COMMIT, "while self.full and not self._closed:", "while False:"),
        "tests/store/test_group_commit.py::test_full_queue_makes_append_wait_and_drops_nothing",
        on="memory",
    ),
    row(
        "store.urgent_first",
        "Finishes, claims and cancels are taken before appends",
        Edit(
            _COMMIT,
            "            self._list(cursor, urgent=call.finishes)\n",
            "            self._list(cursor, urgent=False)\n",
        ),
        "tests/store/test_group_commit.py::test_finishes_cancels_and_claims_do_not_wait_for_room",
        on="memory",
    ),
    row(
        "store.close_answers_all",
        "A close answers every call that was taken",
        Edit(_COMMIT, "            await self._idle\n", "            pass\n"),
        "tests/store/test_group_commit_trouble.py::test_aclose_answers_everything_that_was_taken",
        on="memory",
    ),
    row(
        "store.refused_split",
        "One guilty call of a flush fails alone",
        Edit(
            _COMMIT,
            "            except FlushRefused as error:\n                await self._split(lane, calls, error)",
            "            except FlushRefused as error:\n                self._reject(calls, StoreRefused(str(error)))",
        ),
        "tests/store/test_group_commit.py::test_one_guilty_call_of_200_fails_alone",
        on="memory",
    ),
    row(
        "store.defect_split",
        "A call that an adapter cannot take fails alone, whatever is raised",
        Edit(
            _COMMIT,
            "                if answer is None:  # nothing was written",
            "                if False:  # nothing was written",
        ),
        "tests/store/test_group_commit.py::test_defect_of_an_adapter_reaches_the_callers",
        on="memory",
    ),
    row(
        "store.resend_unchanged",
        "I6: a flush whose fate is unknown is sent again, and as it was",
        Edit(
            _COMMIT,
            "except (FateUnknown, FlushBlocked, StoreAway) as error:\n                if isinstance(error, FlushBlocked) and not unknown:",
            "except (FateUnknown, FlushBlocked, StoreAway) as error:\n                if isinstance(error, FateUnknown):\n                    raise EventFateUnknown(0.0) from error\n                if isinstance(error, FlushBlocked) and not unknown:",
        ),
        "tests/store/test_group_commit_trouble.py::test_unknown_fate_is_resent_unchanged_and_first[True]",
        on="memory",
    ),
    row(
        "store.blocked_resend",
        "I6: a blocked resend tells nothing of the fate",
        Edit(
            _COMMIT,
            "if isinstance(error, FlushBlocked) and not unknown:",
            "if isinstance(error, FlushBlocked):",
        ),
        "tests/store/test_group_commit_trouble.py::test_trouble_of_a_resend_does_not_settle_the_fate",
        on="memory",
    ),
    row(
        "store.defect_of_resend",
        "I6: a defect at a resend tells nothing of the first try",
        Edit(
            _COMMIT,
            "                if not unknown:\n                    raise\n                cause = error\n",
            "                raise\n",
        ),
        "tests/store/test_group_commit_trouble.py::test_trouble_of_a_resend_does_not_settle_the_fate",
        on="memory",
    ),
    row(
        "store.resend_has_time",
        "A lost reply is asked for again, however old the call",
        Edit(
            _COMMIT, "                deadline = max(deadline, context.clock.monotonic() + least)\n"
        ),
        "tests/store/test_group_commit_trouble.py::test_lost_reply_is_asked_for_again_however_old_the_call",
        on="memory",
    ),
    row(
        "store.fate_said",
        "A fate that was not learned is said, and not told as nothing written",
        Edit(
            _COMMIT,
            "                if unknown:\n                    self._doubt",
            "                if False:\n                    self._doubt",
        ),
        "tests/store/test_group_commit_trouble.py::test_fate_never_learned_is_said_and_counted[True]",
        on="memory",
    ),
    row(
        "store.doubt_looks",
        "Who follows looks again once the store answers after a write of unknown fate",
        Edit(_COMMIT, "        self._context.changes.doubt()\n", ""),
        f"{_TROUBLE}::test_who_follows_looks_when_the_store_answers_again[lose_reply]",
    ),
    row(
        "store.doubt_looks_claims",
        "And after a claim of unknown fate",
        Edit(_CLAIMS, "                        self._core.changes.doubt()\n", ""),
        f"{_TROUBLE}::test_who_follows_looks_when_the_store_answers_again[lose_claim]",
    ),
    row(
        "store.doubt_looks_changes",
        "And after what is written at once, and may be there though the store was away",
        Edit(_CORE, "            self.changes.doubt()\n", ""),
        f"{_TROUBLE}::test_who_follows_looks_when_the_store_answers_again[lose_rescue]",
    ),
    row(
        "store.doubt_answered",
        "A read that is answered has them look, where nobody writes",
        Edit(_CORE, "                self.changes.note_answer()\n", ""),
        f"{_TROUBLE}::test_who_follows_looks_when_the_store_answers_again",
    ),
    row(
        "store.tail_after_doubt",
        "I3: after a fate that was never learned the tape's end is read before it is written to",
        Edit(
            _COMMIT,
            "                call.cursor.key = None\n                if isinstance",
            "                if isinstance",
        ),
        "tests/store/test_group_commit_trouble.py::test_fate_never_learned_is_said_and_counted[True]",
        on="memory",
    ),
    row(
        "store.give_up_doubt",
        "I4 I5: a retry or a release whose fate was not learned is found again, and not made twice",
        Edit(
            _COMMIT, "if cursor.doubt is not None and isinstance(call, PendingGiveUp):", "if False:"
        ),
        "tests/run/test_store_away.py::test_a_retry_whose_reply_is_lost_is_made_once",
        "tests/run/test_store_away.py::test_a_release_whose_reply_is_lost_is_made_once",
        "tests/store/test_group_commit_trouble.py::test_giving_up_again_after_an_unknown_fate_is_no_late_event",
        on="memory",
    ),
    row(
        "store.try_limited",
        "A call on a half-open network waits for no longer than its patience",
        Edit(_COMMIT, "limit = max(min(left, context.patience / 2), least)", "limit = None"),
        "tests/adapters/postgres/test_half_open.py::test_no_call_waits_past_its_patience",
        on="postgresql",
    ),
    row(
        "store.old_call_alone",
        "The patience of an old call does not fail its neighbours",
        Edit(
            _COMMIT,
            "rest = [call for call in calls if call.since + self._context.patience > now]",
            "rest = list[PendingWrite]()",
        ),
        "tests/store/test_group_commit_trouble.py::test_patience_of_an_old_call_does_not_fail_its_neighbours",
        on="memory",
    ),
    row(
        "store.read_again_once",
        "A tape that was written to behind our back is read again",
        Edit(_COMMIT, "elif isinstance(call, PendingEvents) and not call.reloaded:", "elif False:"),
        "tests/store/test_group_commit.py::test_tape_written_behind_our_back_is_read_again",
        on="memory",
    ),
    row(
        "store.blocked_elsewhere",
        "Nobody else waits for a lock that one call waits for",
        Edit(
            _COMMIT,
            "                if hand_over:\n                    return _Blocked(calls, error)\n",
        ),
        "tests/store/test_group_commit_trouble.py::test_many_that_wait_for_locks_wait_by_themselves",
        on="memory",
    ),
    row(
        "store.blocked_parked",
        "A call that waits for a lock is tried again",
        Edit(
            _COMMIT,
            "            self._park(call, error)\n",
            "            self._reject([call], StoreBusy(self._context.name, str(error)))\n",
        ),
        "tests/store/test_group_commit_trouble.py::test_blocked_task_holds_up_only_itself",
        on="memory",
    ),
    row(
        "store.blocked_gives_up",
        "A call waits for a lock for no longer than its patience",
        Edit(
            _COMMIT,
            "        if left <= 0:\n            busy",
            "        if False:\n            busy",
        ),
        "tests/store/test_group_commit_trouble.py::test_blocked_for_good_is_unavailable",
        on="memory",
    ),
    row(
        "store.held_order",
        "I3: what comes behind a parked event waits behind it",
        Edit(
            _COMMIT,
            "if isinstance(call, PendingEvents) and call.cursor.held:\n                call.in_flight = False",
            "if False:\n                call.in_flight = False",
        ),
        "tests/store/test_group_commit_trouble.py::test_blocked_task_holds_up_only_itself",
        on="memory",
    ),
    row(
        "store.lane_folds",
        "Callers that are woken together are in one flush",
        Edit(
            _COMMIT,
            "                await asyncio.sleep(0)  # callers that are woken together queue together\n                calls = self._take()",
            "                calls = self._take()",
        ),
        "tests/store/test_group_commit.py::test_withdrawn_call_makes_room",
        on="memory",
    ),
    row(
        "store.lane_ended_answers",
        "The calls of a lane that was cancelled before it began are answered",
        Edit(
            _COMMIT,
            "            while calls := self._take():\n                self._give_up(calls, StoreClosed())\n",
        ),
        f"{_TROUBLE}::test_a_lane_that_is_cancelled_before_it_begins_answers_its_calls",
        on="memory",
    ),
    row(
        "store.lane_gives_up",
        "The calls of a lane that is cancelled in a flush are answered",
        Edit(
            _COMMIT,
            "        except (asyncio.CancelledError, *EXITS):\n            self._give_up(calls, EventFateUnknown(0.0))\n            raise\n        finally:\n            self._free_lanes",
            "        finally:\n            self._free_lanes",
        ),
        "tests/manager/test_process.py::test_a_crash_in_the_midst_of_a_write_still_exits",
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
    row(
        "store.stored_counted",
        "I7: what was stored is counted from what the database says it wrote",
        Edit(_RESULTS, "        context.meter.ledger.store(type_, count)\n", "        pass\n"),
        _FLUSHES,
        on="memory",
        vital=True,
    ),
    row(
        "store.refused_not_stored",
        "I7: what was dropped is not counted as stored",
        Edit(
            _RESULTS,
            "for place, row in enumerate(rows) if place not in refused)",
            "for place, row in enumerate(rows))",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_audit_finds_nothing_while_tasks_run",
        on="memory",
    ),
    row(
        "store.overruled_counted",
        "I7: an event that a cancel made a final is counted as a final",
        Edit(
            _RESULTS,
            "        stored[rows[place].type] -= 1\n        stored[FINAL] += 1\n",
            "        pass\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_a_cancel_on_record_beats_a_release",
        on="memory",
    ),
    row(
        "store.lost_claim_no_offer",
        "I7: a claim that has lost is no offer",
        Edit(
            _RESULTS,
            "        context.meter.ledger.replay(1)  # another owner has the task: no task_started was offered\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_retry_later_makes_the_task_pending_again",
        on="memory",
    ),
    row(
        "store.own_final_no_offer",
        "I7: the tape's own final, sent again, is no new offer",
        Edit(
            _RESULTS,
            "        context.meter.ledger.replay(1)  # the tape's own final, sent again: no new offer\n",
            "        pass\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_finish_again_is_answered_as_the_first_time",
        on="memory",
    ),
    row(
        "store.late_cancel_no_offer",
        "I7: a cancel of a task that was not pending is no offer",
        Edit(
            _RESULTS,
            "        context.meter.ledger.replay(1)  # it was not pending: no final was offered\n",
            "        pass\n",
        ),
        "tests/store/test_group_commit.py::test_creates_claims_events_and_cancels_share_a_flush",
        on="memory",
    ),
    row(
        "store.drops_counted",
        "I7: each event of a call that was dropped is counted",
        Edit(
            _RESULTS,
            r"            context.meter.dropped\(.*?\n            \)\n",
            "            pass\n",
            pattern=True,
        ),
        "tests/contract/test_conformance.py::TestMemory::test_audit_finds_nothing_while_tasks_run",
        on="memory",
    ),
    row(
        "store.failures_counted",
        "I7: each event of a call that ends with an error is counted",
        Edit(
            _RESULTS, "            context.meter.ledger.fail(type_, why, 1)\n", "            pass\n"
        ),
        "tests/store/test_group_commit.py::test_one_guilty_call_of_200_fails_alone",
        on="memory",
    ),
    row(
        "store.failed_claim_counted",
        "I7: a claim that ends with an error is counted",
        Edit(
            _RESULTS, "        context.meter.ledger.fail(TASK_STARTED, why, 1)\n", "        pass\n"
        ),
        "tests/store/test_group_commit.py::test_creates_claims_and_cancels_withdraw_too",
        on="memory",
    ),
    row(
        "store.failed_cancel_counted",
        "I7: a cancel that ends with an error is counted",
        Edit(_RESULTS, "        context.meter.ledger.fail(FINAL, why, 1)\n", "        pass\n"),
        "tests/store/test_group_commit.py::test_creates_claims_and_cancels_withdraw_too",
        on="memory",
    ),
    row(
        "store.unqueued_counted",
        "I7: a call that could not be queued is counted",
        Edit(
            _CORE,
            "        except TapescopeError as error:\n            fail(self.context, call, error)\n            raise\n        return commits",
            "        except TapescopeError as error:\n            raise\n        return commits",
        ),
        "tests/store/test_group_commit_trouble.py::test_aclose_answers_everything_that_was_taken",
        on="memory",
    ),
    row(
        "store.unqueued_waiter_counted",
        "I7: a caller that is cancelled while it waits for room is counted",
        Edit(_PORT, "                fail(self._core.context, call, error)\n"),
        "tests/store/test_group_commit.py::test_cancelled_waiter_for_room_hands_its_turn_on",
        on="memory",
    ),
    row(
        "store.bad_event_counted",
        "I7: an event that no tape takes is accounted for",
        Edit(
            _PORT,
            "                ledger.fail(named, error_type_of(error), 1)\n",
            "                pass\n",
        ),
        "tests/store/test_group_commit.py::test_tape_limit_counts_what_is_being_written",
        on="memory",
    ),
    row(
        "store.idempotent_params",
        "An idempotency key answers with no task of other params",
        Edit(
            _RESULTS,
            "if same or by_unique_key or canonical(standing.params) == canonical(decode(row.params)):",
            "if True:",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_same_idempotency_key_with_other_params_conflicts",
        on="memory",
    ),
    row(
        "store.told_after_commit",
        "I9: who follows here is told of what was stored",
        Edit(
            _RESULTS,
            "        context.changes.publish(Change(cursor.task_id, cursor.tail, events))\n",
            "        pass\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_subscriber_is_handed_the_committed_events",
        on="memory",
    ),
    row(
        "store.owner_told",
        "A cancel is told to who runs the task here",
        Edit(
            _RESULTS,
            "            context.changes.tell_owner(answer.owner, row.task_id, answer.request)\n",
            "            pass\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_cancel_in_the_same_process_reaches_the_owner_at_once",
        on="memory",
    ),
    # --- the calls --------------------------------------------------------------------------------
    row(
        "store.insists",
        "A give-up that is under way is answered although its caller was cancelled",
        (
            Edit(
                _CORE,
                "        return await asyncio.shield(call.future)\n",
                "        return await call.future\n",
            ),
            Edit(_CORE, "        if call.withdrawn:\n", "        if True:\n"),
        ),
        "tests/run/test_outside_cancels.py::test_at_the_retry[memory]",
        on="memory",
    ),
    row(
        "store.insists_to_the_end",
        "The same, however often its caller is cancelled",
        Edit(_CORE, "    await wait_shielded(call.future)\n"),
        "tests/run/test_outside_cancels.py::test_at_the_retry[memory]",
        on="memory",
    ),
    row(
        "store.to_its_end",
        "What a cancelled caller has begun goes on",
        Edit(_CORE, "await await_child(asyncio.shield(task))", "await await_child(task)"),
        "tests/adapters/test_cancelled_openings.py::test_a_closing_that_is_cancelled_leaves_nothing[sqlite-1]",
    ),
    row(
        "store.to_its_end_waits",
        "A caller that is cancelled is so after the end of what it has begun",
        Edit(
            _CORE,
            "        await wait_shielded(task)\n        if not task.cancelled():\n            task.exception()  # the caller, who would have it raised, has been cancelled\n",
        ),
        "tests/manager/test_anyio_scopes.py::test_the_loop_sleeps[change]",
    ),
    row(
        "store.gone_caller_withdraws",
        "A call whose caller is gone is taken out of the queue",
        Edit(_CORE, "                    commits.withdraw(call)\n", "                    pass\n"),
        "tests/store/test_group_commit.py::test_cancelled_caller_withdraws_without_a_hole",
        on="memory",
    ),
    row(
        "store.change_to_its_end",
        "I7: what a cancelled caller's change has written is counted",
        Edit(
            _CORE,
            "lambda: self.retrying(lambda: _to_its_end(write()))",
            "lambda: self.retrying(write)",
        ),
        "tests/manager/test_leases.py::test_a_rescue_is_told_though_its_caller_is_gone[memory]",
        on="memory",
    ),
    row(
        "store.close_to_its_end",
        "A close that is cancelled closes all the same",
        Edit(
            _CORE,
            "            await _to_its_end(self._close(commits))\n",
            "            await self._close(commits)\n",
        ),
        "tests/adapters/test_cancelled_openings.py::test_a_closing_that_is_cancelled_leaves_nothing[sqlite-1]",
    ),
    row(
        "store.open_leaves_nothing",
        "An opening that is cancelled leaves nothing open",
        Edit(_CORE, "await await_child(asyncio.shield(opening))", "await await_child(opening)"),
        "tests/adapters/test_cancelled_openings.py::test_an_opening_that_is_cancelled_leaves_nothing[sqlite-3]",
    ),
    row(
        "store.open_waits",
        "An opening that is cancelled is so after all is closed again",
        Edit(_CORE, "            await wait_shielded(opening)\n", "            pass\n"),
        "tests/adapters/test_cancelled_openings.py::test_an_opening_that_is_cancelled_leaves_nothing[sqlite-1]",
    ),
    row(
        "store.open_closed_again",
        "A store that was open when its opening was cancelled is closed",
        Edit(
            _CORE,
            "                await _to_its_end(self.backend.close())\n",
            "                pass\n",
        ),
        "tests/adapters/test_cancelled_openings.py::test_an_opening_that_is_cancelled_too_late_is_taken_back",
    ),
    row(
        "store.shield",
        "A wait for what was begun ends with it, whatever cancels come",
        Edit(
            f"{TAPESCOPE}/shielded.py", "    while not work.done():\n", "    if not work.done():\n"
        ),
        "tests/adapters/test_cancelled_openings.py::test_an_opening_that_is_cancelled_leaves_nothing[sqlite-2]",
    ),
    row(
        "store.shield_anyio",
        "The same, in a scope of anyio's, which cancels again at each step",
        Edit(
            f"{TAPESCOPE}/shielded.py",
            "nullcontext() if scope is None else scope(shield=True)",
            "nullcontext()",
        ),
        "tests/manager/test_anyio_scopes.py::test_the_loop_sleeps[close_a_manager]",
    ),
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
        "store.home_of_open",
        "The same, of who opens or closes it",
        Edit(_CORE, "        if self._home is not None:\n            self._home.check()\n"),
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
        "tests/store/test_home.py::test_only_a_caller_in_the_same_loop_is_at_home",
        on="memory",
    ),
    row(
        "store.read_only",
        "A store that was opened to be read takes no verb that writes",
        Edit(
            _CORE, "        if not self._may_write:\n            raise StoreReadOnly(self.name)\n"
        ),
        "tests/contract/test_conformance.py::TestMemory::test_reader_writes_nothing",
        on="memory",
    ),
    row(
        "store.one_cursor",
        "I3: an attempt has one cursor, whoever asks for it",
        Edit(
            _CORE, "cursor = self._cursors[name] = TapeCursor(*name)", "cursor = TapeCursor(*name)"
        ),
        "tests/store/test_group_commit.py::test_an_attempt_has_one_place_on_its_tape[False]",
        on="memory",
    ),
    row(
        "store.claims_cursor",
        "I3: the attempt of a claim and one of the same name have one cursor",
        Edit(
            _CORE, "        self._cursors[cursor.task_id, cursor.attempt, cursor.owner] = cursor\n"
        ),
        "tests/store/test_group_commit.py::test_an_attempt_has_one_place_on_its_tape[True]",
        on="memory",
    ),
    row(
        "store.call_limited",
        "A call on a half-open network ends with its patience",
        Edit(
            _CORE,
            "        if not self.backend.may_hang:\n            return await work\n",
            "        if True:\n            return await work\n",
        ),
        "tests/adapters/postgres/test_half_open.py::test_no_call_waits_past_its_patience",
        on="postgresql",
    ),
    row(
        "store.away_retried",
        "A call waits for a store that comes back within its patience",
        Edit(
            _CORE,
            "                if left <= 0:\n                    raise told from error\n                await backoff.wait(left)\n",
            "                raise told from error\n",
        ),
        "tests/store/test_group_commit.py::test_a_read_waits_for_a_store_that_is_away",
    ),
    row(
        "store.tape_limit",
        "A tape holds so many events, those that are being written among them",
        Edit(_PORT, "if may_be_full and len(checked) > self.tape_room(attempt):", "if False:"),
        "tests/store/test_group_commit.py::test_tape_limit_counts_what_is_being_written",
        on="memory",
    ),
    row(
        "store.tape_limit_flying",
        "Events that are being written count for the limit of a tape",
        Edit(_PORT, "queued = cursor.flying + sum", "queued = sum"),
        "tests/store/test_group_commit.py::test_tape_limit_counts_what_is_being_written",
        on="memory",
    ),
    row(
        "store.reserved_types",
        "I1: nobody appends a final, or another event of the platform's own",
        Edit(
            _PORT,
            "if reserved or not is_event_type(type_):",
            "if not is_event_type(type_):",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_reserved_event_type[task_started]",
        on="memory",
    ),
    # --- orphans ----------------------------------------------------------------------------------
    row(
        "store.orphans_adopted",
        "A create that was cancelled leaves no task behind that nobody knows of",
        Edit(
            _PORT,
            "            self._orphans.adopt(call)\n            raise\n        return created\n",
            "            raise\n        return created\n",
        ),
        "tests/store/test_orphans.py::test_an_orphans_cancel_follows_its_create[create]",
        on="memory",
    ),
    row(
        "store.orphans_begun",
        "One that was claimed with its creation is not left running either",
        Edit(
            _PORT,
            "            self._orphans.adopt(call)\n            raise\n        if won",
            "            raise\n        if won",
        ),
        "tests/store/test_orphans.py::test_an_orphans_cancel_follows_its_create[create_claimed]",
        on="memory",
    ),
    row(
        "store.orphan_attempt",
        "The attempt of an orphan that was claimed with its creation is ended",
        Edit(
            _ORPHANS,
            "released = await self._release(attempt, message)",
            "released = UnknownTask(task_id)",
        ),
        "tests/store/test_orphans.py::test_a_caller_cancelled_with_the_commit_leaves_nothing[create_claimed]",
        on="memory",
    ),
    row(
        "store.begun_failed",
        "A task_started whose flush fails is counted as failed",
        Edit(
            f"{STORE}/_results.py",
            "    elif isinstance(call, PendingClaim | PendingBirth):\n",
            "    elif isinstance(call, PendingClaim):\n",
        ),
        "tests/store/test_orphans.py::test_a_create_of_unknown_fate_is_cancelled_when_it_is_found[create_claimed]",
        on="memory",
    ),
    row(
        "store.orphan_with_key",
        "A task with an idempotency key is not ended: the key finds it",
        Edit(
            _ORPHANS,
            "if call.withdrawn or others or row.idempotency_key is not None:",
            "if call.withdrawn or others:",
        ),
        "tests/store/test_orphans.py::test_a_key_finds_what_a_cancelled_create_left[idempotency_key]",
        on="memory",
    ),
    row(
        "store.orphan_fate",
        "An orphan is cancelled once the fate of its create is known",
        Edit(
            _ORPHANS,
            "            fate = await call.find_fate()\n",
            "            fate = call.find_fate() and (0, 0, None)\n",
        ),
        "tests/store/test_orphans.py::test_an_orphans_cancel_follows_its_create[create]",
        on="memory",
    ),
    row(
        "store.orphans_ended",
        "A close waits for the orphans",
        Edit(
            _PORT,
            "        await self.orphans_ended()\n        await self._core.aclose()\n",
            "        await self._core.aclose()\n",
        ),
        "tests/store/test_orphans.py::test_a_close_waits_for_the_orphans",
        on="memory",
    ),
    row(
        "store.orphan_future",
        "The fate of a create is known although its caller's future was cancelled",
        Edit(
            f"{STORE}/_pending.py",
            "        if self.future.cancelled():\n            self.future = asyncio.get_running_loop().create_future()",
            "        if False:\n            self.future = asyncio.get_running_loop().create_future()",
        ),
        "tests/store/test_orphans.py::test_an_orphans_cancel_follows_its_create[create]",
        on="memory",
    ),
    # --- claims of due tasks ----------------------------------------------------------------------
    row(
        "store.due_shield",
        "A claim of due tasks goes on although its caller was cancelled",
        Edit(_CLAIMS, "await await_child(asyncio.shield(claiming))", "await await_child(claiming)"),
        "tests/store/test_due_claims.py::test_claims_on_their_way_to_a_caller_that_is_gone_are_given_back",
        on="memory",
    ),
    row(
        "store.due_given_back",
        "What was claimed for a caller that is gone is given back",
        Edit(
            _CLAIMS,
            "            leaving = asyncio.ensure_future(self._give_back(claiming))\n            await wait_shielded(leaving)\n            await await_child(leaving)\n",
            "",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_claims_of_a_cancelled_caller_are_given_back[1]",
        on="memory",
    ),
    row(
        "store.due_number_kept",
        "A claim whose reply was lost is asked for again under its number",
        Edit(_CLAIMS, "                if not again:\n", "                if True:\n"),
        "tests/adapters/postgres/test_claims.py::test_claims_of_unknown_fate_are_handed_out_by_the_next_call",
        on="postgresql",
    ),
    row(
        "store.due_again_told",
        "A resend says that it is one",
        Edit(_CLAIMS, "            order = order._replace(again=True)\n"),
        "tests/adapters/postgres/test_claims.py::test_a_call_that_comes_after_its_resend_claims_nothing",
        on="postgresql",
    ),
    row(
        "store.due_still_held",
        "I5: what an earlier call claimed is handed out only while it is held",
        Edit(_CLAIMS, " if row.held_by(owner)]", "]"),
        "tests/adapters/postgres/test_claims.py::test_claims_that_were_rescued_meanwhile_are_not_handed_out",
        on="postgresql",
    ),
    row(
        "store.due_wanted",
        "What an earlier call claimed, and this one is not for, is given back",
        Edit(
            _CLAIMS,
            "        wanted = [claim for claim in held if order.takes(claim.task)][:limit]\n",
            "        wanted = held\n",
        ),
        "tests/adapters/postgres/test_claims.py::test_claims_that_are_no_longer_wanted_are_released",
        on="postgresql",
    ),
    # --- following --------------------------------------------------------------------------------
    row(
        "store.follower_gap",
        "I9: a change that begins behind a gap has the follower read the tape",
        Edit(_FOLLOW, " or change.events[0].seq > seq + 1"),
        "tests/manager/test_follow.py::test_a_change_behind_a_gap_has_the_tape_read",
        on="memory",
    ),
    row(
        "store.follower_once",
        "I9: every event comes once",
        Edit(
            _FOLLOW,
            "return (event for event in change.events if event.seq > seq)",
            "return change.events",
        ),
        "tests/manager/test_follow.py::test_a_follower_resumes_by_seq[memory]",
        on="memory",
    ),
    row(
        "store.follower_past_end",
        "A follower that resumes past the final ends",
        Edit(
            _FOLLOW,
            "    if change.events[-1].type == FINAL and change.events[-1].seq <= seq:\n        return None  # resumed past the end: a last look at the tape says so\n",
        ),
        "tests/manager/test_follow.py::test_a_follower_resumes_by_seq[memory]",
        on="memory",
    ),
    row(
        "store.follower_tape_gap",
        "I9: a gap on the tape itself is an error",
        Edit(
            _FOLLOW,
            "            if event.seq != self._given + 1:\n                if not events:\n                    raise TapeGap(self._task_id, self._given + 1, event.seq)\n                break\n",
        ),
        "tests/manager/test_follow.py::test_a_gap_is_an_error",
        on="memory",
    ),
    row(
        "store.follower_ends_with_error",
        "The end of a follower's store is never silence",
        Edit(_FOLLOW, "raise changes.why or StoreClosed() from None", "raise"),
        "tests/manager/test_follow.py::test_a_follower_ends_when_its_manager_closes[memory]",
        on="memory",
    ),
    row(
        "store.follower_subscribes",
        "I9: what is committed between the first read and the subscription is not missed",
        Edit(_NOTES, "        circle.append(subscription)\n        if first:", "        if first:"),
        "tests/manager/test_follow.py::test_a_follower_sees_every_event_once_and_in_order[memory]",
        on="memory",
    ),
    row(
        "store.told_once",
        "Who was given a commit's events does not read the tape for them",
        Edit(_NOTES, "not end or end > subscription.given_seq", "True"),
        "tests/store/test_notifications.py::test_an_end_whose_events_were_given_is_not_told_again",
        on="memory",
    ),
    row(
        "store.backlog",
        "I9: a backlog that is full becomes a look at all of it",
        Edit(
            _NOTES,
            "            self._waiting.clear()\n            change = RESYNC\n",
            "            return\n",
        ),
        "tests/manager/test_follow.py::test_a_slow_follower_is_not_cut_off",
        on="memory",
    ),
    row(
        "store.listener_raises",
        "A listener that raises does not stop the lane",
        Edit(
            _NOTES,
            "        except Exception as error:  # noqa: BLE001  # its own trouble, not the store's callers'\n",
            "        except ZeroDivisionError as error:\n",
        ),
        "tests/store/test_group_commit.py::test_listener_that_raises_does_not_stop_the_lane",
        on="memory",
    ),
    row(
        "store.watch_context",
        "The watch of other processes' commits is in no caller's span",
        Edit(f"{STORE}/_watch.py", "                context=contextvars.Context(),\n"),
        "tests/store/test_contexts.py::test_a_watch_is_in_no_followers_context",
    ),
    # --- orders and rules -------------------------------------------------------------------------
    row(
        "store.rescue_cancel",
        "A cancel on record is not lost where the owner is",
        Edit(
            _ORDERS,
            "        if task.cancel is not None:\n            return RescueResult.CANCELLED\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_rescue_honours_a_cancel_on_record",
        on="memory",
    ),
    row(
        "store.rescue_retries",
        "A rescue makes no attempt that no retry is left for",
        Edit(
            _ORDERS,
            "if task.retries_spent < task.retries and task.op in self.ops:",
            "if task.op in self.ops:",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_rescue_retries_what_can_run_again",
        on="memory",
    ),
    row(
        "store.rescue_op",
        "A rescue makes no attempt that no worker can make",
        Edit(
            _ORDERS,
            "if task.retries_spent < task.retries and task.op in self.ops:",
            "if task.retries_spent < task.retries:",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_rescue_fails_what_nobody_can_run",
        on="memory",
    ),
    row(
        "store.rescue_pending",
        "A pending task that workers can run by now is not lost with its submitter",
        Edit(
            _ORDERS,
            "            return task.op not in self.ops\n        return task.status",
            "            return True\n        return task.status",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_rescue_ends_what_a_dead_owner_alone_could_run",
        on="memory",
    ),
    row(
        "store.rescued_counted",
        "I7: the event of a rescue is an offer, and stored",
        Edit(
            _LEASES,
            "        core.meter.ledger.offer(1)\n        core.meter.ledger.store(type_, 1)\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_work_is_told_of_in_the_process_that_made_it[arrivals-rescued]",
        on="memory",
    ),
    row(
        "store.rescued_told",
        "I9: who follows a task that is rescued is told",
        Edit(
            _LEASES,
            "            core.changes.publish(Change(task.task_id, last_seq, (event,)))\n",
            "            pass\n",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_a_rescue_shows_to_followers",
        on="memory",
    ),
    row(
        "store.rescued_arrival",
        "A worker is told of a task that a rescue made pending",
        Edit(_LEASES, "            self._core.changes.publish_arrival()\n", "            pass\n"),
        "tests/contract/test_conformance.py::TestMemory::test_work_is_told_of_in_the_process_that_made_it[arrivals-rescued]",
        on="memory",
    ),
    row(
        "store.repair_rescues",
        "A task that a repair finds stuck is rescued",
        Edit(
            _MAINTENANCE,
            "if any(one.rule is AuditRule.STUCK_RUNNING for one in mended.repairs):",
            "if False:",
        ),
        "tests/adapters/test_repair.py::test_stuck_task_is_handed_to_the_rescue[sqlite-ended]",
    ),
    row(
        "store.too_new",
        "A schema of a newer version is not used",
        Edit(
            _OPENING,
            "    if not versions.compatible:\n        raise SchemaTooNew(versions.found, versions.known)\n",
        ),
        "tests/adapters/sqlite/test_store.py::test_newer_schema_is_refused",
    ),
    row(
        "store.too_old",
        "A schema of an older version is not migrated unasked",
        Edit(
            _OPENING,
            "    if mode not in (OpenMode.MIGRATE_ALONE, OpenMode.MIGRATE):\n        raise SchemaTooOld(versions.found, versions.known, name)\n",
        ),
        "tests/adapters/test_rolling_upgrade.py::test_only_a_migration_changes_a_function[sqlite]",
    ),
    row(
        "store.not_made",
        "A store that is only to be used is not made",
        Edit(_OPENING, "        if not mode.may_create:\n            raise StoreNotFound(name)\n"),
        "tests/contract/test_conformance.py::TestMemory::test_missing_store_is_not_made[read]",
        on="memory",
    ),
    # --- the model in memory ----------------------------------------------------------------------
    row(
        "memory.after_final",
        "I1: nothing comes after the final",
        Edit(
            _RULES,
            '    if last is not None and last.type == FINAL:\n        raise FlushRefused(f"I1: the tape of task {task.task_id} is closed")\n',
        ),
        "tests/store/test_tape_rules.py::test_an_event_out_of_place_is_refused[I1-last0-row0-running]",
        on="memory",
    ),
    row(
        "memory.seq",
        "I3: a tape has no gap",
        Edit(
            _RULES,
            '    if row.seq != seq:\n        raise FlushRefused(f"I3: seq {row.seq} where {seq} belongs")\n',
        ),
        "tests/store/test_group_commit.py::test_tape_written_behind_our_back_is_read_again",
        on="memory",
    ),
    row(
        "memory.attempt",
        "I5: an event is of its task's own attempt",
        Edit(
            _RULES,
            '    if row.attempt != task.attempt:\n        raise FlushRefused(f"I5: attempt {row.attempt} is not attempt {task.attempt}")\n',
        ),
        "tests/store/test_tape_rules.py::test_an_event_out_of_place_is_refused[I5-last3-row3-running]",
        on="memory",
    ),
    row(
        "memory.offer",
        "I7: an offer is on the tape once",
        Edit(
            _RULES,
            "    if last is not None and (row.attempt, row.offer) <= (last.attempt, last.offer):\n",
            "    if False:\n",
        ),
        "tests/store/test_tape_rules.py::test_an_event_out_of_place_is_refused[I7-last4-row4-running]",
        on="memory",
    ),
    row(
        "memory.running",
        "I5: only a running task takes events, and a pending one its final",
        Edit(
            _RULES,
            "    if row.type != FINAL and task.status is not TaskStatus.RUNNING:\n",
            "    if False:\n",
        ),
        "tests/store/test_tape_rules.py::test_an_event_out_of_place_is_refused[I5-last5-row5-pending]",
        on="memory",
    ),
    row(
        "memory.append_fence",
        "I5: only the running attempt of its owner appends",
        Edit(
            _RULES,
            "return holder == (TaskStatus.RUNNING, row.attempt, row.owner)",
            "return task.status is TaskStatus.RUNNING",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_an_old_attempt_gives_up_nothing",
        on="memory",
    ),
    row(
        "memory.foreign_offer",
        "An event that is not of the run itself has an offer that no run takes",
        Edit(_RULES, "offer = max(offer, FIRST_FOREIGN_OFFER - 1) + 1", "offer = offer + 1"),
        "tests/store/test_tape_rules.py::test_an_event_of_another_has_an_offer_that_no_run_takes",
        on="memory",
    ),
    row(
        "memory.cancel_overrules",
        "A cancel on record is not lost where the attempt gives its task up",
        Edit(_RULES, "if give_up is not None and task.cancel is not None:", "if False:"),
        "tests/contract/test_conformance.py::TestMemory::test_an_old_attempt_gives_up_nothing",
        on="memory",
    ),
    row(
        "memory.flush_once",
        "I6: a flush that is sent again is carried out once",
        Edit(
            f"{TAPESCOPE}/testing/_memory.py",
            "        if answered is not None and number == flush.number:\n            return answered\n",
        ),
        "tests/store/test_group_commit_trouble.py::test_unknown_fate_is_resent_unchanged_and_first[True]",
        on="memory",
    ),
    row(
        "memory.claim_seen",
        "A claim takes the task only as it was seen",
        Edit(
            f"{TAPESCOPE}/testing/_memory.py",
            "if (task.status, task.attempt) != (TaskStatus.PENDING, row.attempt) or task.run_us > now:",
            "if task.status is not TaskStatus.PENDING or task.run_us > now:",
        ),
        "tests/contract/test_conformance.py::TestMemory::test_claim_takes_a_task_only_as_it_was_seen",
        on="memory",
    ),
    row(
        "store.final_in_doubt",
        "A final whose reply was lost for good is counted when it is found on the tape",
        Edit(
            f"{STORE}/_results.py",
            "            _count_final_in_doubt(context, cursor, call.final, refusal.last_seq)\n",
            "            pass\n",
        ),
        "tests/adapters/postgres/test_lost_ends.py"
        "::test_an_end_whose_reply_was_lost_is_counted_once[finish-Loss.REPLY-too late]",
        on="postgresql",
    ),
    row(
        "store.final_counted_once",
        "The same, sent once more: it is no news",
        Edit(
            f"{STORE}/_results.py",
            "    if doubt is not None and not doubt.counted:\n",
            "    if doubt is not None:\n",
        ),
        "tests/adapters/postgres/test_lost_ends.py"
        "::test_an_end_whose_reply_was_lost_is_counted_once[finish-Loss.REPLY-too late]",
        on="postgresql",
    ),
    row(
        "store.read_closed",
        "A read that waits while the store is away asks no closed one",
        Edit(
            _CORE, "            self.require_open()  # it may have been closed while this waited\n"
        ),
        f"{_CLOSED}[get]",
        on="memory",
    ),
    row(
        "store.change_closed",
        "A change that waits while the store is away asks no closed one",
        Edit(_CORE, "            self.require_open()  # as in a read\n"),
        f"{_CLOSED}[rescue]",
        on="memory",
    ),
    row(
        "store.claim_closed",
        "A claim that waits while the store is away asks no closed one",
        Edit(
            _CLAIMS,
            "                self._core.require_open()  # it may have been closed while this waited\n",
            "                pass\n",
        ),
        f"{_CLOSED}[claim_due]",
        on="memory",
    ),
    row(
        "store.claim_unknown_closed",
        "A claim that may have been made is unknown also where the store was closed",
        Edit(
            _CLAIMS,
            "                if unknown:\n                    raise EventFateUnknown(self._core.patience) "
            "from error\n                raise\n",
            "                raise\n",
        ),
        f"{_TROUBLE}"
        "::test_a_claim_whose_reply_was_lost_is_unknown_where_the_store_was_closed_meanwhile",
        on="memory",
    ),
    row(
        "store.gone_loop",
        "A store that closes when its loop is closed waits for nothing any more",
        Edit(_CORE, "if not loop.is_closed():  # else nothing", "if True:  # else nothing"),
        "tests/manager/test_closed_loops.py"
        "::test_a_store_whose_loop_is_closed_while_it_closes_ends_in_silence[postgresql]",
        on="postgresql",
    ),
    row(
        "store.watch_gone_loop",
        "So does its watch",
        Edit(
            f"{STORE}/_watch.py",
            "            if self._watcher.get_loop().is_closed():\n                return  # it ends with its loop\n",
        ),
        "tests/manager/test_closed_loops.py",
        on="memory",
        held_by="loop.gone_loop",
    ),
)
