"""The guards of commands, their output, and what waits for a store in spool files."""

from __future__ import annotations

from typing import Final

from tests.mutants.guard import SHELL, TAPESCOPE, Edit, Guard, row

_PROCESS: Final = f"{SHELL}/process.py"
_COMMAND: Final = f"{SHELL}/command.py"
_BACKLOG: Final = f"{SHELL}/backlog.py"
_RECORDER: Final = f"{SHELL}/recorder.py"
_REPLAY: Final = f"{SHELL}/replay.py"
_SPOOL: Final = f"{TAPESCOPE}/spool.py"

_COMMANDS: Final = "tests/shell/test_command.py"
_BACKLOGS: Final = "tests/shell/test_backlog.py"
_SPOOLS: Final = "tests/cli/test_run_store_away.py"
_SIGNALS: Final = "tests/cli/test_run_signals.py"

GUARDS: Final[tuple[Guard, ...]] = (
    row(
        "spool.file_synced",
        "What a wrapper could not tell its store outlives a power loss",
        Edit(_SPOOL, "                os.fsync(file.fileno())\n"),
        "tests/shell/test_spool.py::test_a_file_is_durable_under_its_name",
    ),
    row(
        "spool.folder_synced",
        "So does its name",
        Edit(_SPOOL, "        os.fsync(fd)\n", "        pass\n"),
        "tests/shell/test_spool.py::test_a_file_is_durable_under_its_name",
    ),
    row(
        "spool.whole",
        "A spool file is there whole or not at all",
        Edit(
            _SPOOL,
            "                Path(file.name).replace(path)\n            except BaseException:  # interrupted, too: no half of a file is left\n                with suppress(FileNotFoundError):\n                    Path(file.name).unlink()\n                raise",
            "                Path(file.name).replace(path)\n            except BaseException:\n                raise",
        ),
        "tests/shell/test_spool.py::test_a_file_that_cannot_be_written_leaves_no_half",
    ),
    row(
        "spool.private",
        "The folder of spool files is its user's alone",
        Edit(_SPOOL, "_MODE: Final = 0o700", "_MODE: Final = 0o755"),
        "tests/shell/test_spool.py::test_a_file_is_durable_under_its_name",
    ),
    row(
        "spool.newer_format",
        "A file of a newer version is not read with what this one knows",
        Edit(_SPOOL, '        if head["tapescope_spool"] != _FORMAT:\n', "        if False:\n"),
        'tests/shell/test_spool.py::test_a_file_that_cannot_be_read_is_said_to_be["tapescope_spool":1-"tapescope_spool":2-newer version]',
    ),
    row(
        "spool.not_whole",
        "A file that is not whole is said to be",
        Edit(
            _SPOOL,
            "    except (KeyError, TypeError, ValueError) as error:\n        raise BadSpool",
            "    except ZeroDivisionError as error:\n        raise BadSpool",
        ),
        'tests/shell/test_spool.py::test_a_file_that_cannot_be_read_is_said_to_be["final"-"last"-not a whole spool file]',
    ),
    row(
        "spool.replayed_once",
        "Two processes do not replay one file at once",
        Edit(
            _REPLAY,
            "            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
            "            pass\n",
        ),
        "tests/shell/test_spool.py::test_a_file_is_replayed_once",
    ),
    row(
        "spool.other_store",
        "A file of another store whose name has the same mark is left alone",
        Edit(
            _REPLAY,
            "                if spooled.store != store.name:\n                    continue\n",
        ),
        "tests/shell/test_spool.py::test_a_file_that_cannot_be_replayed_is_kept",
    ),
    row(
        "spool.kept_on_error",
        "A file whose replay failed is kept",
        Edit(
            _REPLAY,
            "            except TapescopeError as error:\n                told.append((path, error))\n            else:\n                path.unlink()",
            "            except TapescopeError as error:\n                told.append((path, error))\n            path.unlink()",
        ),
        "tests/shell/test_spool.py::test_a_file_that_cannot_be_replayed_is_kept",
    ),
    row(
        "spool.keeps_its_owner",
        "A task whose wrapper left a file is not failed as lost",
        Edit(_SPOOL, "return {owner for owner in owners if _short(owner) in left}", "return set()"),
        "tests/shell/test_spool.py::test_an_owner_that_left_a_file_is_known",
    ),
    row(
        "shell.child_secrets",
        "A command inherits no secret of ours",
        Edit(_COMMAND, "if not _SECRET.match(name)}", "if name}"),
        f"{_COMMANDS}::test_a_command_inherits_no_secret_of_ours",
    ),
    row(
        "shell.cancel_stops",
        "A cancel ends the command with all that it began",
        Edit(
            _COMMAND,
            "                await self._stop(child, pumps)\n                await _record_last(recorder)\n                raise",
            "                await _record_last(recorder)\n                raise",
        ),
        f"{_COMMANDS}::test_cancel_sends_sigterm_to_the_whole_group",
    ),
    row(
        "shell.settled",
        "What a command said is stored before its end",
        Edit(
            _COMMAND,
            "                await recorder.settle()  # who",
            "                pass  # who",
        ),
        _COMMANDS,
        "tests/shell/test_backlog.py",
    ),
    row(
        "shell.loop_ends",
        "A command does not run on when the loop that looks after it ends",
        Edit(
            _COMMAND,
            "            if start is None and not child.ended.done():\n                child.kill()  # the loop ends, and with it all that would look after the command\n",
        ),
        f"{_COMMANDS}::test_who_is_cancelled_twice_leaves_no_command_behind",
    ),
    row(
        "shell.own_session",
        "A signal for a command reaches its processes, and no other",
        Edit(_PROCESS, '"start_new_session": True', '"start_new_session": False'),
        f"{_COMMANDS}::test_cancel_sends_sigterm_to_the_whole_group",
    ),
    row(
        "shell.killed_after_grace",
        "A command that ignores SIGTERM is killed",
        Edit(
            _COMMAND,
            "        child.kill()\n        await asyncio.wait([child.ended])\n",
            "        await asyncio.wait([child.ended], timeout=5)\n",
        ),
        f"{_COMMANDS}::test_command_that_ignores_sigterm_is_killed_after_its_grace",
        held_by="shell.loop_ends",
    ),
    row(
        "shell.drain_ends",
        "A process that a command left behind does not hold up its end",
        Edit(
            _COMMAND,
            "call_later(self.drain, _stop_waiting, child)",
            "call_later(60, _stop_waiting, child)",
        ),
        f"{_COMMANDS}::test_process_left_behind_does_not_hold_up_the_end",
    ),
    row(
        "shell.drain_reads",
        "What a process left behind still says in the drain is recorded",
        Edit(
            _COMMAND,
            "call_later(self.drain, _stop_waiting, child)",
            "call_later(0, _stop_waiting, child)",
        ),
        f"{_COMMANDS}::test_what_a_left_behind_process_still_says_is_recorded",
    ),
    row(
        "shell.stopped_continues",
        "A command that is stopped is told to go on, or it would not hear the SIGTERM",
        Edit(_PROCESS, "        self._signal(signal.SIGCONT)\n"),
        f"{_COMMANDS}::test_a_stopped_command_ends_within_its_grace",
    ),
    row(
        "shell.released",
        "Nothing is signalled by an id that may be another process's by now",
        Edit(
            _PROCESS,
            "        if self._may_be_reaped.is_set():\n            return  # from now on its id may be another process's\n",
        ),
        "tests/shell/test_process.py::test_nothing_is_signalled_once_it_may_be_reaped",
    ),
    row(
        "shell.ends_closed",
        "A command that cannot be started leaves no descriptor open",
        Edit(
            _PROCESS,
            "        for fd in streams.values():\n            os.close(fd)\n        raise\n",
            "        raise\n",
        ),
        "tests/shell/test_process.py::test_a_command_that_cannot_be_started_leaves_nothing_open",
    ),
    row(
        "shell.rest_bounded",
        "A command that writes as fast as it is read does not keep us reading",
        Edit(_PROCESS, "and taken < _LAST_READ:", "and taken < 9e9:"),
        "tests/shell/test_process.py::test_the_rest_is_no_more_than_a_pipe_holds",
    ),
    row(
        "shell.read_bounded",
        "Nor once nothing more is waited for",
        Edit(
            _PROCESS,
            "            if self._left is not None and self._left <= 0:\n                self.held = True\n                break\n",
        ),
        "tests/shell/test_process.py::test_what_writes_on_does_not_hold_up_the_end",
    ),
    row(
        "shell.sigpipe_default",
        "A command has the signals that Python ignores for itself",
        Edit(
            _PROCESS,
            '        "setsigdef": (signal.SIGPIPE, signal.SIGXFSZ),  # Python ignores them\n',
        ),
        "tests/cli/test_run.py::test_run_into_a_closed_pipe_ends_the_command",
        "tests/cli/test_run_signals.py",
    ),
    row(
        "shell.room_for_stderr",
        "A flood on stdout leaves places of the tape to stderr",
        Edit(_RECORDER, "self._for_stderr = self._head // 10", "self._for_stderr = 0"),
        f"{_COMMANDS}::test_a_flood_leaves_room_for_what_stderr_says_then",
    ),
    row(
        "shell.last_lines",
        "Of output that is too much the last lines are kept",
        Edit(_RECORDER, "self._tail = min(_TAIL, self.limit // 10)", "self._tail = 0"),
        f"{_COMMANDS}::test_the_last_lines_have_a_place_whatever_came_before",
    ),
    row(
        "shell.held_bounded",
        "What is held in memory for the last lines has a bound",
        Edit(_RECORDER, ">= _TAIL_BYTES:", ">= 9e12:"),
        "tests/shell/test_recorder.py",
    ),
    row(
        "shell.left_out_told",
        "How many lines were left out is on the tape",
        Edit(
            _RECORDER,
            '            self.note(LINES_LEFT_OUT, {"lines": self.left_out, "bytes": size})\n',
        ),
        f"{_COMMANDS}::test_full_tape_keeps_the_first_and_the_last_lines",
    ),
    row(
        "shell.disk_full",
        "A disk of ours that is full costs a command no output",
        Edit(
            _BACKLOG,
            "        except OSError as error:  # our own disk must not cost the command its output\n",
            "        except ZeroDivisionError as error:\n",
        ),
        f"{_BACKLOGS}::test_a_full_disk_costs_what_waits_and_is_told",
    ),
    row(
        "shell.doubt_resolved",
        "What a store was sent and did not answer is looked for before it is sent again",
        Edit(
            _BACKLOG,
            "        missing, self.confirmed = match(self._unsure, found, self.confirmed)\n",
            "        missing, self.confirmed = self._unsure, self.confirmed\n",
        ),
        f"{_BACKLOGS}::test_an_outage_costs_no_event_and_no_order",
    ),
    row(
        "shell.doubt_later",
        "What is confirmed after an event of unknown fate hides it from nobody",
        Edit(
            _BACKLOG,
            "            elif not self._unsure:  # later ones are looked at when the doubt is resolved\n",
            "            else:\n",
        ),
        f"{_BACKLOGS}::test_what_is_confirmed_after_a_doubt_hides_it_from_nobody",
        on="memory",
    ),
    row(
        "shell.file_behind_memory",
        "What waits in memory does not overtake what waits in a file",
        Edit(_BACKLOG, "if self._room > 0 and not self._in_file:", "if self._room > 0:"),
        f"{_BACKLOGS}::test_what_comes_later_does_not_overtake_what_waits_in_a_file",
    ),
    row(
        "shell.holds_back",
        "A store that keeps up holds a command back that says more than it takes",
        Edit(
            _BACKLOG,
            "return len(self._queue) >= _OUTSTANDING and self._keeps_up()",
            "return False",
        ),
        f"{_COMMANDS}::test_order_is_kept_in_a_flood",
        f"{_BACKLOGS}::test_a_store_that_keeps_up_holds_back_who_says_too_much",
    ),
    row(
        "shell.away_holds_nobody",
        "A store that is away holds no command back",
        Edit(
            _BACKLOG,
            "return len(self._queue) >= _OUTSTANDING and self._keeps_up()",
            "return len(self._queue) >= _OUTSTANDING and bool(self._sent)",
        ),
        f"{_BACKLOGS}::test_a_store_that_is_away_holds_nobody_back",
    ),
    row(
        "shell.late_key",
        "A key that is heard only after the command's end takes no final from the tape",
        Edit(
            f"{TAPESCOPE}/cli/_foreground.py",
            "if number in _MAY_END and now - self._ended_at < _SAME_MOMENT:",
            "if number in _MAY_END and not self._heard and now - self._ended_at < _SAME_MOMENT:",
        ),
        f"{_SPOOLS}::test_a_key_that_is_heard_late_takes_no_end_from_the_tape",
    ),
    row(
        "shell.stop_counts_sigcont",
        "A SIGCONT that comes at the moment of our own stop is not lost: one that has been taken",
        Edit(
            f"{TAPESCOPE}/cli/_signals.py",
            "if self.continued == stop.continued and signal",
            "if signal",
        ),
        f"{_SIGNALS}::test_no_sigcont_is_lost_at_the_moment_of_a_stop",
    ),
    row(
        "shell.stop_sees_sigcont",
        "Nor is one that waits to be taken, which a stop signal would take back",
        Edit(
            f"{TAPESCOPE}/cli/_signals.py",
            " and signal.SIGCONT not in signal.sigpending():",
            ":",
        ),
        f"{_SIGNALS}::test_no_sigcont_is_lost_at_the_moment_of_a_stop",
    ),
    row(
        "shell.told_to_stop",
        "A SIGCONT reaches a command that a SIGTSTP of ours has not stopped yet",
        Edit(
            f"{TAPESCOPE}/cli/_foreground.py",
            " or self._was_told_to_stop",
            "",
        ),
        "tests/cli/test_run_terminal.py::test_a_command_that_is_not_stopped_yet_goes_on",
    ),
)
