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
)
