"""A locale whose encoding is not UTF-8: files of ours are read all the same."""

from __future__ import annotations

from tests.cli.command import Tapescope

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""The locale's encoding is ASCII, and Python does not go round it."""
STRICT = {"PYTHONWARNDEFAULTENCODING": "1", "PYTHONWARNINGS": "error::EncodingWarning"}
"""Text that is opened in the locale's encoding is an error, even where it would do."""


def test_run_in_a_locale_that_is_not_utf_8(tapescope_on: Tapescope) -> None:
    """The command runs, and its tape is on the store, whose schema was made in that locale."""
    done = tapescope_on("run", "--", "echo", "hi", env=ASCII | STRICT)
    events = tapescope_on.tape()

    assert (done.returncode, done.stdout, done.stderr) == (0, b"hi\n", b"")
    assert [event["type"] for event in events] == [
        "task_started",
        "command_started",
        "log",
        "final",
    ]
