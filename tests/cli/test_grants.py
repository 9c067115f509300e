"""``tapescope migrate --print-grants``: SQL for a person to run; no store is opened for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.command import Tapescope

AWAY = "postgresql://u:secret@127.0.0.1:1/db?schema=jobs"


def test_grants_are_printed_without_a_store(tmp_path: Path) -> None:
    """The schema is the URL's and the name is the option's, both quoted; no server is asked."""
    done = Tapescope(AWAY, tmp_path).here(
        "migrate", "--print-grants", "submitter", "--role", 'the "app"'
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert b'GRANT USAGE ON SCHEMA "jobs" TO "the ""app""";' in done.stdout
    assert b"secret" not in done.stdout


def test_file_has_no_roles(tapescope: Tapescope) -> None:
    """For a SQLite store there is nothing to grant, and nothing is made."""
    done = tapescope.here("migrate", "--print-grants", "reader")

    assert (done.returncode, done.stdout) == (1, b"")
    assert b"there is nothing to grant" in done.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--role", "app"), b"--role goes with --print-grants"),
        (("--check", "--print-grants", "reader"), b"do not go together"),
        (("--print-grants", "owner"), b"'owner'"),
    ],
)
def test_what_does_not_go_together_is_refused(
    tapescope: Tapescope, given: tuple[str, ...], said: bytes
) -> None:
    """A wrong command line ends with status 2, and changes nothing."""
    done = tapescope.here("migrate", *given)

    assert done.returncode == 2
    assert said in done.stderr
