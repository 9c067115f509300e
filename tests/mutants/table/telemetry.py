"""The guards of telemetry."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import TELEMETRY, Edit, Guard, row

_TESTS: Final = "tests/telemetry"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "telemetry.guard",
        "Telemetry never decides: what it raises is counted, and the work goes on",
        Edit(
            f"{TELEMETRY}/guard.py",
            "        self.note(kind)\n        return True\n",
            "        self.note(kind)\n        return False\n",
        ),
        "tests/telemetry/test_guard.py::test_no_entry_raises[Telemetry.shared]",
        on="memory",
    ),
    row(
        "telemetry.guarded_span",
        "A span of the process's own that cannot be ended fails no act of the HTTP API",
        Edit(
            f"{TELEMETRY}/guarded_tracer.py",
            "        with SPANS_OF_OTHERS:\n            self._inner.end(end_time)\n",
            "        self._inner.end(end_time)\n",
        ),
        "tests/http/test_server_metrics.py::test_no_provider_and_no_propagator_fails_an_act",
    ),
    row(
        "telemetry.guarded_propagator",
        "A propagator of the process's own that raises fails no act of the HTTP API",
        Edit(f"{TELEMETRY}/guarded_tracer.py", "        propagate.extract(", "        dict("),
        "tests/http/test_server_metrics.py::test_no_provider_and_no_propagator_fails_an_act",
    ),
    row(
        "telemetry.canceller_sampled",
        "A cancel keeps no span that is not recorded",
        Edit(
            f"{TELEMETRY}/spans.py",
            "format_trace_context(found) if found.trace_flags.sampled else None",
            "format_trace_context(found)",
        ),
        "tests/run/test_cancellers.py::test_what_is_not_recorded_is_not_led_to",
        on="memory",
    ),
    row(
        "telemetry.baggage_opt_in",
        "No baggage is stored where nobody asked for it",
        Edit(
            f"{TELEMETRY}/spans.py",
            "if self._carries_baggage and (carried := ",
            "if (carried := ",
        ),
        "tests/run/test_baggage.py::test_it_is_handed_on_where_both_say_so[off-off]",
        on="memory",
    ),
    row(
        "telemetry.baggage_bound",
        "The baggage that goes on with a task is bounded",
        Edit(
            f"{TELEMETRY}/baggage.py",
            "if len(entry) <= room and len(kept) < BAGGAGE_ENTRIES:",
            "if room:",
        ),
        "tests/telemetry/test_baggage.py::test_what_is_too_much_is_left_out_by_the_entry",
        on="memory",
    ),
    row(
        "telemetry.tracestate_bound",
        "A caller's tracestate goes on with a task up to 512 characters",
        Edit(
            f"{TELEMETRY}/spans.py",
            "            if size > TRACESTATE_MOST and (len(entry) > _ENTRY_LARGE or not large):\n",
            "            if size > 1 << 20 and (len(entry) > _ENTRY_LARGE or not large):\n",
        ),
        "tests/telemetry/test_spans.py::test_what_is_stored_of_a_tracestate_is_bounded[entries2-kept2]",
        on="memory",
    ),
    row(
        "telemetry.guard_signals",
        "A KeyboardInterrupt that comes in telemetry passes",
        Edit(
            f"{TELEMETRY}/guard.py",
            "if kind is None or not (self._everything or issubclass(kind, Exception)):",
            "if kind is None:",
        ),
        "tests/telemetry/test_guard.py::test_a_guard_lets_an_exit_pass[KeyboardInterrupt]",
        on="memory",
    ),
    row(
        "telemetry.guard_log",
        "A log handler that raises stops no work",
        Edit(
            f"{TELEMETRY}/guard.py",
            "            except Exception:  # noqa: BLE001  # the log is what fails; the count has it\n",
            "            except ZeroDivisionError:\n",
        ),
        "tests/telemetry/test_guard.py::test_no_entry_raises[Telemetry.submit_span]",
        on="memory",
    ),
    row(
        "telemetry.counter_guard",
        "A counter that raises stops no work",
        Edit(
            f"{TELEMETRY}/instruments.py",
            "            self._inner.add(n, labels, context)\n        except Exception as error:",
            "            self._inner.add(n, labels, context)\n        except ZeroDivisionError as error:",
        ),
        "tests/telemetry/test_guard.py::test_hooks_were_really_reached",
        on="memory",
    ),
    row(
        "telemetry.histogram_guard",
        "A histogram that raises stops no work",
        Edit(
            f"{TELEMETRY}/instruments.py",
            "            self._inner.record(value, labels, context)\n        except Exception as error:",
            "            self._inner.record(value, labels, context)\n        except ZeroDivisionError as error:",
        ),
        "tests/telemetry/test_guard.py::test_hooks_were_really_reached",
        on="memory",
    ),
    row(
        "telemetry.span_once",
        "I8: a span is ended once",
        Edit(
            f"{TELEMETRY}/spans.py", "            if self._ended:\n                return False\n"
        ),
        "tests/telemetry/test_spans.py::test_run_ends_once",
        on="memory",
    ),
    row(
        "telemetry.span_context",
        "A run's context holds its span, and nothing of the submitter's",
        Edit(
            f"{TELEMETRY}/spans.py",
            "set_span_in_context(span, Context()) if own.is_valid",
            "set_span_in_context(span) if own.is_valid",
        ),
        "tests/telemetry/test_spans.py::test_run_span_has_its_ids_and_a_clean_context",
        on="memory",
    ),
    row(
        "telemetry.run_is_root",
        "A run is a root of its own, also where its caller has a span",
        Edit(f"{TELEMETRY}/spans.py", "            context=start_in,\n"),
        "tests/telemetry/test_spans.py::test_run_span_is_a_new_root_linked_to_the_submit",
        on="memory",
    ),
    row(
        "telemetry.cancel_no_error",
        "A submit that was cancelled is not an error",
        Edit(
            f"{TELEMETRY}/spans.py",
            "if error is not None and not is_a(error, (asyncio.CancelledError, GeneratorExit)):",
            "if error is not None:",
        ),
        "tests/telemetry/test_spans.py::test_cancelled_submit_is_not_an_error",
        on="memory",
    ),
    row(
        "telemetry.ledger_replay",
        "I7: an offer of an event that was decided before leaves the account",
        Edit(f"{TELEMETRY}/ledger.py", "            self._replayed += n\n"),
        "tests/telemetry/test_ledger.py::test_replay_leaves_the_offered_count",
        on="memory",
    ),
    row(
        "telemetry.ledger_twice",
        "I7: an event that is counted twice is seen",
        Edit(
            f"{TELEMETRY}/ledger.py",
            "            if self._in_flight < 0:\n                self._in_flight = 0\n",
        ),
        "tests/telemetry/test_ledger.py::test_event_stored_after_its_answer_is_unaccounted",
        on="memory",
    ),
    row(
        "telemetry.ledger_landed_twice",
        "I7: the same, of a drop or a failure",
        Edit(
            f"{TELEMETRY}/ledger.py",
            "self._in_flight = max(0, self._in_flight - n)",
            "self._in_flight -= n",
        ),
        "tests/telemetry/test_ledger.py::test_event_counted_twice_is_unaccounted",
        on="memory",
    ),
    row(
        "telemetry.ledger_in_flight",
        "I7: an event that is under way is not taken for lost",
        Edit(
            f"{TELEMETRY}/ledger.py",
            "offered=self._entered - self._in_flight - self._replayed",
            "offered=self._entered - self._replayed",
        ),
        "tests/telemetry/test_ledger.py::test_answers_take_events_out_of_flight",
        on="memory",
    ),
    row(
        "telemetry.label_cap",
        "The values of a label are few",
        Edit(
            f"{TELEMETRY}/labels.py",
            "if self._left <= 0 or not (self._form is None or self._form(value)):",
            "if not (self._form is None or self._form(value)):",
        ),
        "tests/telemetry/test_tasks.py::test_ops_and_errors_are_capped",
        on="memory",
    ),
    row(
        "telemetry.label_form",
        "A text that was refused as a name is no label",
        Edit(
            f"{TELEMETRY}/labels.py",
            "if self._left <= 0 or not (self._form is None or self._form(value)):",
            "if self._left <= 0:",
        ),
        "tests/telemetry/test_stores.py::test_text_that_is_no_event_type_is_no_label",
        on="memory",
    ),
    row(
        "telemetry.zero_no_exemplar",
        "A zero is no exemplar of its first caller",
        Edit(
            f"{TELEMETRY}/instruments.py",
            "NO_CONTEXT: Final = set_span_in_context(INVALID_SPAN, Context())",
            "NO_CONTEXT: Final = Context()",
        ),
        "tests/telemetry/test_stores.py::test_zeros_leave_no_exemplar",
        on="memory",
    ),
    row(
        "telemetry.drop_zeros_bounded",
        "The zeros of drops leave room for the real ones",
        Edit(f"{TELEMETRY}/stores.py", "if self._on.drop_zeros_left >= series:", "if True:"),
        "tests/telemetry/test_stores.py::test_zeros_leave_room_for_real_drops",
        on="memory",
    ),
    row(
        "telemetry.forked_setup",
        "A setup that was forked says so to who uses it",
        Edit(
            f"{TELEMETRY}/lifetime.py",
            "        if os.getpid() != self._pid:\n            raise TelemetryUsedAfterFork\n        return self._telemetry",
            "        return self._telemetry",
        ),
        "tests/telemetry/test_setup.py::test_a_forked_child_makes_its_own[grpc]",
        on="memory",
    ),
    row(
        "telemetry.end_gives_up",
        "An exit does not wait for a collector that does not answer",
        Edit(
            f"{TELEMETRY}/lifetime.py", "                way.give_up()\n", "                pass\n"
        ),
        "tests/telemetry/test_setup.py::test_a_bad_collector_costs_no_time_and_every_loss_counts[away-grpc]",
        on="memory",
    ),
    row(
        "telemetry.ages_weak",
        "Telemetry keeps no manager alive that was never closed",
        Edit(
            f"{TELEMETRY}/instruments.py",
            "self._methods.append(WeakMethod(method))",
            "self._methods.append(lambda: method)",
        ),
        "tests/telemetry/test_tasks.py::test_telemetry_keeps_no_manager_alive",
        on="memory",
    ),
)
