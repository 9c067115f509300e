"""The guards of one run."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import RUN, TAPESCOPE, Edit, Guard, row

_WRITES: Final = f"{RUN}/durable_writes.py"
_RUN: Final = f"{RUN}/run.py"
_ATTEMPT: Final = f"{RUN}/attempt.py"
_TAPE: Final = f"{RUN}/tape_writer.py"
_POLICY: Final = f"{RUN}/retry_policy.py"
_TYPES: Final = f"{RUN}/typed_values.py"
_HANDLER: Final = f"{RUN}/tape_handler.py"
_REPORTER: Final = f"{RUN}/reporter.py"
_KEEPER: Final = f"{RUN}/keeper.py"
_HOOKS: Final = f"{RUN}/hooks.py"
_RESOURCES: Final = f"{RUN}/resources.py"

_OUTSIDE: Final = "tests/run/test_outside_cancels.py"
_AWAY: Final = "tests/run/test_store_away.py"
_CANCELS: Final = "tests/run/test_cancel_table.py"
_REPORTS: Final = "tests/run/test_reporter.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "run.hook_no_success",
        "A hook makes no success of an attempt that was stopped",
        Edit(
            _RUN,
            "            if self.stop_reason is not None and not inner.returned:\n"
            "                return None, inner.error or asyncio.CancelledError()\n",
        ),
        "tests/run/test_hooks.py::test_a_hook_makes_nothing_else_of_a_cancel[stop_runner_and_return]",
    ),
    row(
        "run.hook_no_runner",
        "No runner is begun inside of hooks once the attempt was stopped",
        Edit(
            _RUN,
            "            if self.stop_reason is not None or self._phase is not _Phase.RUNNING:\n"
            "                raise asyncio.CancelledError",
            "            if False:\n                raise asyncio.CancelledError",
        ),
        "tests/run/test_hooks.py::test_a_hook_makes_nothing_else_of_a_cancel[stopped_before_and_proceed]",
    ),
    row(
        "run.hook_thread",
        "The hooks around a thread that goes on are cancelled",
        Edit(
            _RUN,
            "                return None, asyncio.CancelledError()  # for the hooks",
            "                pass  # for the hooks",
        ),
        "tests/run/test_hooks.py::test_a_thread_that_goes_on_has_its_hooks_unwound[False]",
    ),
    row(
        "run.hook_behind_thread",
        "A cancel lands in a hook whose thread has ended",
        Edit(
            _RUN,
            "            self._thread = None  # what follows is",
            "            pass  # what follows is",
        ),
        "tests/run/test_hooks.py::test_a_hook_is_cancelled_behind_its_thread[False]",
    ),
    row(
        "run.hook_left_thread",
        "A cancel lands in a hook that has left its thread",
        Edit(_RUN, " or (self._hooked and self._thread.cancelled())"),
        "tests/run/test_hooks.py::test_a_hook_is_cancelled_behind_its_thread[True]",
    ),
    row(
        "run.hook_zombie",
        "A thread and its hooks are one zombie, which ends when both have",
        Edit(_RUN, "            if not self._hooked:  # else", "            if True:  # else"),
        "tests/run/test_hooks.py::test_a_thread_that_goes_on_has_its_hooks_unwound[True]",
    ),
    row(
        "run.hook_once",
        "A hook proceeds once",
        Edit(_HOOKS, "        self._begun = True\n"),
        "tests/run/test_hooks.py::test_a_hook_proceeds_once_and_in_time",
    ),
    row(
        "run.resource_context",
        "A resource is opened in a context of its own",
        Edit(_RESOURCES, "contextvars.Context()", "contextvars.copy_context()"),
        "tests/manager/test_resources.py::test_what_a_resource_logs_is_on_no_tape",
    ),
    row(
        "run.resource_anew",
        "A resource that has ended by itself is opened anew",
        Edit(_RESOURCES, "            self._on_end()\n", "            pass\n"),
        "tests/manager/test_resources.py::test_a_resource_that_breaks_is_opened_anew",
    ),
    row(
        "run.resource_order",
        "Resources are closed in reverse order",
        Edit(_RESOURCES, "next(reversed(self._held.items()))", "next(iter(self._held.items()))"),
        "tests/manager/test_resources.py::test_a_resource_is_opened_once_and_closed_behind_its_runs",
    ),
    row(
        "run.resource_bound",
        "A resource that does not close holds no manager up",
        Edit(
            _RESOURCES, "asyncio.wait([self._task], timeout=within)", "asyncio.wait([self._task])"
        ),
        "tests/manager/test_resources.py::test_a_resource_that_cannot_be_closed_holds_nobody_up",
    ),
    row(
        "run.late_log",
        "A line that is logged after the end of its run is a late event",
        Edit(
            f"{RUN}/current.py",
            "            loop.call_soon_threadsafe(self._send_late, store, kept)\n",
            "            pass\n",
        ),
        "tests/run/test_tape_handler.py::test_what_is_logged_after_the_end_is_a_late_event[memory]",
        on="memory",
    ),
    row(
        "run.log_conclusion",
        "The tape says at its end how many log records it has not",
        Edit(_HANDLER, "            run.before_end.append(self._conclude)\n", ""),
        "tests/run/test_tape_handler.py::test_the_lines_of_an_attempt_are_bounded",
    ),
    row(
        "run.log_at_any_rate",
        "What a tape has not is said where too much is on its way, too",
        Edit(
            f"{RUN}/tape_writer.py",
            "self._unheard >= _UNHEARD_LIMIT and not at_any_rate",
            "self._unheard >= _UNHEARD_LIMIT",
        ),
        "tests/run/test_tape_handler.py::test_a_burst_at_the_end_is_told_of",
    ),
    row(
        "run.claim_shield",
        "A cancel from outside while a task is claimed: the run is cancelled, its claim not lost",
        Edit(_WRITES, "forget_cancels()\n            cancelled = True", "raise"),
        "tests/run/test_outside_cancels.py::test_at_the_claim[memory]",
        on="memory",
        held_by="run.begins_again",
    ),
    row(
        "run.claim_cancel_told",
        "The same: the runner is not begun",
        Edit(
            _WRITES,
            "            forget_cancels()\n            cancelled = True\n",
            "            forget_cancels()\n",
        ),
        "tests/run/test_outside_cancels.py::test_at_the_claim[memory]",
        on="memory",
    ),
    row(
        "run.final_shield",
        "I2: a cancel from outside while the final is written does not leave the tape open",
        Edit(
            _WRITES, "forget_cancels()\n        except (NotJson", "raise\n        except (NotJson"
        ),
        "tests/run/test_outside_cancels.py::test_at_the_final[memory]",
        on="memory",
    ),
    row(
        "run.claim_found",
        "A claim whose answer was lost is found in the row",
        Edit(_WRITES, "claim = _find_claim(row, task, owner)", "claim = None"),
        "tests/run/test_store_away.py::test_a_claim_whose_reply_is_lost_is_found",
        on="memory",
    ),
    row(
        "run.claim_not_due",
        "A task that is not due by the store's clock is not lost",
        Edit(
            _WRITES,
            "if claim is None and (row.status, row.attempt) == (task.status, task.attempt):",
            "if False:",
        ),
        "tests/run/test_claim_not_due.py::test_clock_set_back_at_the_claim_loses_no_task",
    ),
    row(
        "run.claim_waits",
        "A claim waits for a store that is away",
        Edit(_WRITES, "if unwanted():", "if True:"),
        "tests/run/test_store_away.py::test_a_claim_waits_for_the_store",
        on="memory",
    ),
    row(
        "run.begins_again",
        "A run that is cancelled before its first step is cancelled as at its claim, and ends",
        Edit(
            _RUN,
            "if ended.cancelled() and self._phase is _Phase.CLAIMING and self._record is None:",
            "if False:",
        ),
        "tests/run/test_never_begun.py::test_a_cancel_before_the_first_step_is_one_at_the_claim[memory-callable]",
        on="memory",
    ),
    row(
        "run.exit_ends_it",
        "A run in which the process was told to end holds up no closing manager",
        Edit(
            _RUN,
            "            self._record.end_with_loop()\n        self._end(None)\n",
            "            self._record.end_with_loop()\n",
        ),
        "tests/run/test_never_begun.py::test_an_exit_in_the_midst_of_a_run_ends_the_program",
        on="memory",
    ),
    row(
        "run.exit_told_once",
        "An exit that struck in one of our tasks is raised once: what cleans up goes on",
        Edit(
            f"{TAPESCOPE}/shielded.py",
            "if not ended.cancelled() and not isinstance(ended.exception(), EXITS):",
            "if not ended.cancelled():",
        ),
        "tests/run/test_never_begun.py::test_an_exit_in_the_midst_of_our_tasks_ends_the_program",
        on="memory",
    ),
    row(
        "run.exit_awaited_once",
        "Who awaits a task of ours that an exit has ended is cancelled: the exit is raised once",
        Edit(
            f"{TAPESCOPE}/shielded.py",
            "        raise asyncio.CancelledError from None",
            "        raise",
        ),
        "tests/run/test_exits.py::test_an_exit_in_a_task_of_ours_is_raised_once",
        on="memory",
    ),
    row(
        "run.ends_are_begun_again",
        "What ends a task is begun again after a cancel from outside",
        Edit(f"{TAPESCOPE}/shielded.py", "if task.cancelled() and task.cancelling():", "if False:"),
        "tests/run/test_never_begun.py::test_what_ends_a_task_is_begun_again",
        on="memory",
    ),
    row(
        "run.claim_let_go",
        "A task whose claim is refused is ended by its owner, which lives",
        Edit(_RUN, "if not await let_go(settings.store, task, settings.owner):", "if True:"),
        "tests/manager/test_let_go.py::test_a_cancel_from_outside_does_not_keep_it_from_letting_go",
        on="memory",
    ),
    row(
        "run.let_go_shield",
        "A cancel from outside does not keep an owner from letting go",
        Edit(
            _WRITES,
            "forget_cancels()\n        except TapescopeError",
            "raise\n        except TapescopeError",
        ),
        "tests/manager/test_let_go.py::test_a_cancel_from_outside_does_not_keep_it_from_letting_go",
        on="memory",
        held_by="run.begins_again",
    ),
    row(
        "run.let_go_waits",
        "What another rescuer holds just now is looked at again",
        Edit(_WRITES, "if task.op in ops or clock.monotonic() >= deadline:", "if True:"),
        "tests/manager/test_let_go.py::test_what_another_rescuer_holds_is_looked_at_again",
        on="memory",
    ),
    row(
        "run.final_waits",
        "I2: a final waits for a store that is away",
        Edit(_WRITES, "if clock.monotonic() >= deadline():", "if True:"),
        "tests/run/test_store_away.py::test_a_final_waits_for_the_store",
        on="memory",
    ),
    row(
        "run.final_limit",
        "A final is tried no longer than its lease holds",
        Edit(
            _WRITES,
            "if clock.monotonic() >= deadline():",
            "if clock.monotonic() >= deadline() + 500:",
        ),
        "tests/run/test_store_away.py::test_a_final_is_tried_no_longer_than_is_said",
        on="memory",
    ),
    row(
        "run.final_reduced",
        "I2: a final that a tape cannot hold is reduced",
        Edit(_WRITES, "if reduced or verdict is None:", "if True:"),
        "tests/run/test_cancel_table.py::test_a_result_that_no_tape_takes_fails",
        on="memory",
    ),
    row(
        "run.own_context",
        "A run's context is its own: nothing of the submitter's is current in it",
        Edit(
            _RUN,
            "contextvars.Context() if given is None",
            "contextvars.copy_context() if given is None",
        ),
        "tests/store/test_contexts.py::test_a_run_and_its_shutdown_are_in_no_callers_context",
        on="memory",
    ),
    row(
        "run.carried_untraced",
        "In a context that is carried into a run no span and no baggage of its request is current",
        Edit(
            "telemetry/tapescope_telemetry/spans.py",
            "        copy.run(contexts.attach, NO_CONTEXT)",
            "        pass",
        ),
        "tests/run/test_carried_context.py::test_its_span_and_baggage_are_what_they_would_be_without",
        on="memory",
    ),
    row(
        "run.carried_copy",
        "Each attempt has the context that its submit was given, and not what another one left in it",
        Edit("telemetry/tapescope_telemetry/spans.py", "    copy = of.copy()", "    copy = of"),
        "tests/run/test_carried_context.py::test_each_attempt_has_it_as_it_was_given",
    ),
    row(
        "run.first_reason",
        "The first reason to stop a runner stays, and it is cancelled once",
        Edit(
            _RUN,
            "        if self.stop_reason is not None:\n            return\n        if self._phase is _Phase.CLAIMING:",
            "        if self._phase is _Phase.CLAIMING:",
        ),
        "tests/run/test_cancel_table.py::test_a_cleanup_outlasts_heartbeats",
        on="memory",
    ),
    row(
        "run.stopped_before_begun",
        "A runner that was stopped before it was begun is not begun",
        Edit(_RUN, "if self._claim_cancelled or self.stop_reason is not None:", "if False:"),
        "tests/run/test_outside_cancels.py::test_at_the_claim[memory]",
        on="memory",
    ),
    row(
        "run.outside_forgotten",
        "A cancel from outside does not cancel the writing of the end",
        Edit(_RUN, "                forget_cancels()\n", "                pass\n"),
        "tests/run/test_outside_cancels.py::test_at_the_final[memory]",
        on="memory",
        held_by="run.final_shield",
    ),
    row(
        "run.grace",
        "A runner that goes on past its grace is fenced",
        Edit(
            _RUN,
            "if self._phase is _Phase.RUNNING and (self._hooked or not ended):",
            "if False:",
        ),
        "tests/run/test_cancel_table.py::test_a_swallowed_cancel_is_fenced[memory]",
        on="memory",
    ),
    row(
        "run.fenced_settled_once",
        "I1: the end of a fenced run is written once",
        Edit(
            _RUN,
            "            if self.fenced:\n                # A thread",
            "            if False:\n                # A thread",
        ),
        "tests/run/test_cancel_table.py::test_a_swallowed_cancel_is_fenced[memory]",
        on="memory",
    ),
    row(
        "run.thread_left_fenced",
        "A thread that a cancel from outside leaves behind is a zombie",
        Edit(_RUN, "if self._thread is not None and not self._thread_ended:", "if False:"),
        "tests/run/test_outside_cancels.py::test_a_thread_that_is_left_behind_is_a_zombie",
        on="memory",
    ),
    row(
        "run.thread_result_after_stop",
        "What a stopped thread returns to be awaited is not begun",
        Edit(
            _RUN,
            "        if self.stop_reason is not None:  # it came before what was returned was begun\n",
            "        if False:\n",
        ),
        "tests/run/test_outside_cancels.py::test_what_a_stopped_thread_returns_is_not_begun",
        on="memory",
    ),
    row(
        "run.lease_lost_no_end",
        "I5: a run whose lease was lost writes no end",
        Edit(
            _ATTEMPT,
            "        if verdict.instead == LOST:\n            return self._end_superseded()\n",
        ),
        "tests/manager/test_leases.py::test_a_lost_lease_stops_the_run[memory]",
        on="memory",
    ),
    row(
        "run.lease_lapses",
        "I5: a lease that is over by our own clock is taken for lost",
        Edit(_RUN, "self._record is not None and self._record.deadline <= at", "False"),
        "tests/run/test_store_away.py::test_a_lease_that_is_over_by_our_own_clock_is_lost",
        on="memory",
    ),
    row(
        "run.lease_renewed",
        "A lease that was renewed is not taken for lost",
        Edit(
            _RUN,
            "            self._record.deadline = max(self._record.deadline, until)\n",
            "            pass\n",
        ),
        "tests/run/test_store_away.py::test_a_final_waits_as_long_as_the_lease_was_renewed_for",
        on="memory",
    ),
    row(
        "run.defect_ends_task",
        "A defect of ours does not end a task unseen",
        Edit(
            _RUN,
            "            self._lose(error)\n\n    async def _claim_task",
            "            raise\n\n    async def _claim_task",
        ),
        "tests/run/test_store_away.py::test_a_defect_of_ours_ends_no_task_unseen",
        on="memory",
    ),
    row(
        "run.defect_ends_fenced",
        "A defect of ours does not end a fenced run unseen",
        Edit(
            _RUN,
            "            self._lose(error)\n\n    def _note_thread_end",
            "            raise\n\n    def _note_thread_end",
        ),
        "tests/run/test_cancel_table.py::test_a_defect_in_a_fenced_end_holds_nobody_up",
        on="memory",
    ),
    row(
        "run.span_at_loop_end",
        "I8: the span of a run is ended where its loop is closed under it",
        Edit(_RUN, "                self._record.end_with_loop()\n", "                pass\n"),
        "tests/manager/test_process.py::test_a_closed_loop_ends_the_span_as_lost",
        on="memory",
    ),
    row(
        "run.system_exit",
        "A runner that raises SystemExit fails, and ends no process",
        Edit(
            _RUN,
            "except BaseException as raised:  # noqa: BLE001  # SystemExit is an outcome, too",
            "except Exception as raised:",
        ),
        "tests/run/test_cancel_table.py::test_an_exit_is_a_failure[memory-False-SystemExit]",
        on="memory",
    ),
    row(
        "run.damaged_not_run",
        "A task whose row cannot be read is not run with what is left of it",
        Edit(_RUN, "            elif self.task.damage:\n", "            elif False:\n"),
        "tests/adapters/test_bad_rows.py::test_bad_rows_end_and_are_named_beside_good_tasks[sqlite]",
    ),
    row(
        "run.retries_spent",
        "No more attempts are made than there are retries",
        Edit(
            _POLICY,
            "error is None or task.retries_spent >= task.retries",
            "error is None",
        ),
        "tests/run/test_retries.py::test_the_last_failure_is_the_tasks[memory]",
        on="memory",
    ),
    row(
        "run.given_up",
        "A runner that gave up is not run again",
        Edit(_POLICY, "if any(is_a(part, GiveUp) for part in parts)", "if False"),
        "tests/run/test_retry_policy.py::test_what_is_retried",
        on="memory",
    ),
    row(
        "run.silence_of_the_store",
        "A runner whose report waits for the store is not called stalled",
        Edit(_RUN, " and not tape.reporting else 0", " else 0"),
        "tests/run/test_stalls.py::test_a_report_that_waits_for_its_store_is_no_silence",
        on="memory",
    ),
    row(
        "run.log_of_ours",
        "What the platform and its drivers log of a line brings about no other line",
        Edit(_HANDLER, 'record.name.partition(".")[0] in _NEVER', "False"),
        "tests/run/test_tape_handler.py::test_a_runners_records_are_on_its_tape[memory]",
        on="memory",
    ),
    row(
        "run.log_of_a_hook",
        "What a redaction hook logs of a line brings about no other line",
        Edit(_HANDLER, "if self._busy or record", "if record"),
        "tests/run/test_tape_handler.py::test_a_hook_is_asked_of_records_and_may_log",
        on="memory",
    ),
    row(
        "run.result_readable",
        "A result that could not be read back as what it is annotated with is not stored",
        Edit(_TYPES, "        _convert(stored, kind)  # a value", "        # a value"),
        "tests/run/test_typed_values.py::test_a_result_of_another_type_is_a_bad_result",
        on="memory",
    ),
    row(
        "run.retry_refused",
        "A retry that the store dropped is not run",
        Edit(
            _ATTEMPT,
            "        if answer.dropped is not None:\n            return self._end_refused(\n                Finished(False, answer.dropped",
            "        if False:\n            return self._end_refused(\n                Finished(False, answer.dropped",
        ),
        "tests/run/test_retries.py::test_a_retry_that_comes_too_late_is_none",
        on="memory",
    ),
    row(
        "run.only_here",
        "A task that its owner alone can run waits for that owner between two attempts",
        Edit(_ATTEMPT, "only_here = None if self._shared else task", "only_here = None"),
        "tests/run/test_retries.py::test_a_callable_waits_for_its_owner_between_attempts",
        on="memory",
    ),
    row(
        "run.last_progress",
        "The last progress report is on the tape before the final",
        Edit(_ATTEMPT, "        self.tape.seal()\n"),
        "tests/run/test_reporter.py::test_fast_progress_is_coalesced[memory-False]",
        on="memory",
    ),
    row(
        "run.held_progress_first",
        "A progress report that is held goes before the event that comes after it",
        Edit(
            _TAPE,
            "        self._flush_held()\n        self.reporting",
            "        self.reporting",
        ),
        "tests/run/test_reporter.py::test_fast_progress_is_coalesced[memory-False]",
        on="memory",
    ),
    row(
        "run.held_progress_first_nowait",
        "The same, where the event is not waited for",
        Edit(
            _TAPE,
            "        self._flush_held()\n        self.reserve()\n",
            "        self.reserve()\n",
        ),
        "tests/run/test_reporter.py::test_held_progress_goes_before_an_event_that_nobody_awaits",
        on="memory",
    ),
    row(
        "run.phase_kept",
        "A progress report is replaced only by the next one of its own phase",
        Edit(
            _TAPE,
            "if self._held is not None and self._held[0] != phase:",
            "if False:",
        ),
        "tests/run/test_reporter.py::test_fast_progress_is_coalesced[memory-False]",
        on="memory",
    ),
    row(
        "run.nowait_limit",
        "What a run has outstanding is bounded",
        Edit(
            _TAPE,
            "if self._outstanding >= NOWAIT_LIMIT:",
            "if self._outstanding >= NOWAIT_LIMIT + 1:",
        ),
        "tests/run/test_reporter.py::test_the_backlog_of_a_run_is_bounded[memory]",
        on="memory",
    ),
    row(
        "run.nowait_place_freed",
        "The place of an event that was refused at once is free again",
        Edit(
            _TAPE,
            "        except BaseException:  # nothing is outstanding after any error\n            self._free_place()\n            raise",
            "        except BaseException:\n            raise",
        ),
        "tests/run/test_reporter.py::test_an_event_that_is_refused_at_once_takes_no_place",
        on="memory",
    ),
    row(
        "run.nowait_error_told",
        "The error of an event that was not awaited is raised at the next report",
        Edit(
            _TAPE,
            "        if isinstance(error, Exception):\n            self._unraised = self._unraised or error\n",
            "",
        ),
        "tests/run/test_reporter.py::test_the_fate_of_an_event_nobody_awaited_is_raised_once[memory]",
        on="memory",
    ),
    row(
        "run.nowait_error_stops",
        "Where that error is known beforehand, the next event is not offered",
        Edit(
            _TAPE,
            "        self._raise_earlier_error()\n        self._flush_held()\n        self.reporting",
            "        self._flush_held()\n        self.reporting",
        ),
        "tests/run/test_reporter.py::test_the_fate_of_an_event_nobody_awaited_is_raised_once[memory]",
        on="memory",
    ),
    row(
        "run.drop_told",
        "A runner whose event was dropped is told so",
        Edit(
            _TAPE,
            "            raise self._note_drop(answer.dropped)\n",
            "            self._note_drop(answer.dropped)\n",
        ),
        "tests/run/test_reporter.py::test_the_fate_of_an_event_nobody_awaited_is_raised_once[memory]",
        on="memory",
    ),
    row(
        "run.blocking_call",
        "A thread's reporter does not block the loop that it waits for",
        Edit(_REPORTER, "if threading.get_ident() == self._loop_thread:", "if False:"),
        "tests/run/test_reporter.py::test_a_blocking_report_on_the_loop_is_refused",
        on="memory",
    ),
    row(
        "run.thread_loop_closed",
        "A thread does not wait for ever for a loop that is closed",
        Edit(
            _REPORTER,
            "                if loop.is_closed():\n                    raise StoreClosed from None\n",
        ),
        "tests/manager/test_process.py::test_a_thread_that_waits_for_an_answer_learns_that_its_loop_ended",
        on="memory",
    ),
    row(
        "run.thread_body_copied",
        "A thread may change a body after it has handed it over",
        Edit(
            _REPORTER,
            'copy = decode(encode(stored, "event"))  # the caller may change the body before it is read',
            "copy = stored",
        ),
        "tests/run/test_reporter.py::test_bad_reports_raise_at_the_runner",
        on="memory",
    ),
    row(
        "run.hook_before_codec",
        "The hook has the runner's value, not what a codec sealed",
        Edit(
            _KEEPER,
            "decode(encode(value, what)) if as_json else _copy(value)",
            "decode(encode(self._values.encode(value, what), what))",
        ),
        "tests/run/test_codec.py::test_a_redaction_hook_is_asked_before_the_codec[memory-report_in_loop]",
        on="memory",
    ),
    row(
        "run.moved_part_encoded",
        "What a hook moves in a body of ours is encoded wherever it is",
        Edit(
            _KEEPER, "if members is not None and _has_shape(answer, members, part):", "if members:"
        ),
        "tests/run/test_codec.py::test_the_codec_has_whatever_the_hook_gives[moved]",
        on="memory",
    ),
    row(
        "run.run_before_shield",
        "A cancel from outside while the run before is looked for: the claim is not lost",
        Edit(
            _RUN,
            "            forget_cancels()\n            self._claim_cancelled = True\n            return None\n",
            "            raise\n",
        ),
        "tests/run/test_traces.py::test_cancel_from_outside_while_the_run_before_is_looked_for",
        on="memory",
        held_by="run.begins_again",
    ),
)
