"""``tapescope run``: the command's output and status, and its tape."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import pytest

from tests.cli.command import Tapescope, slow
from tests.cli.conftest import Here


def test_run_leaves_the_tape_and_the_status(tapescope_on: Tapescope) -> None:
    """Output and exit status are the command's own, and the tape tells all of it."""
    done = tapescope_on("run", "--", "sh", "-c", "echo a; echo b >&2; exit 3")
    events = tapescope_on.tape()

    assert (done.returncode, done.stdout, done.stderr) == (3, b"a\n", b"b\n")
    assert [event["type"] for event in events] == [
        "task_started",
        "command_started",
        "log",
        "log",
        "final",
    ]
    assert {(e["body"]["stream"], e["body"]["line"]) for e in events[2:4]} == {
        ("stdout", "a"),
        ("stderr", "b"),
    }
    assert events[-1]["body"]["outcome"] == "failed"
    assert events[-1]["body"]["error"]["details"] == {"exit_status": 3}


def test_run_passes_bytes_through_exactly(tapescope: Tapescope) -> None:
    """Every byte value, in both directions, no newline at the end: nothing is added or changed."""
    content = bytes(range(256)) * 1_000
    done = tapescope("run", "--", "sh", "-c", "tee /dev/stderr", stdin=content)

    assert done.returncode == 0
    assert done.stdout == content
    assert done.stderr == content


def test_run_records_bytes_that_are_no_text(tapescope: Tapescope) -> None:
    """NUL and bytes that are not UTF-8 are escaped on the tape, and marked."""
    tapescope("run", "--", "printf", r"a\0b\377c")

    assert tapescope.tape()[2]["body"] == {
        "stream": "stdout",
        "line": r"a\x00b\xffc",
        "escaped": True,
    }


def test_run_splits_long_lines(tapescope: Tapescope) -> None:
    """A line of 20,000 characters is three events, whose parts make the line."""
    tapescope("run", "--", "sh", "-c", "head -c 20000 /dev/zero | tr '\\0' x; echo")
    bodies = [event["body"] for event in tapescope.tape()[2:-1]]

    assert [body.get("continued") for body in bodies] == [True, True, None]
    assert "".join(body["line"] for body in bodies) == "x" * 20_000


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
        slow(["sh", "-c", "kill -KILL $$"], -signal.SIGKILL),
        slow(["sh", "-c", "kill -SEGV $$"], -signal.SIGSEGV),
        slow(["sh", "-c", "exit 255"], 255),
        (["no-such-program-here"], 127),
        (["/etc/passwd"], 126),
        slow(["/etc/passwd/nothing"], 127),
        slow([""], 127),
    ],
)
def test_run_exits_as_a_shell_would(tapescope: Tapescope, command: list[str], status: int) -> None:
    """The command's status, or its signal; 126 not executable, 127 not found."""
    done = tapescope("run", "--", *command)
    final = tapescope.tape()[-1]["body"]

    assert done.returncode == status
    assert final["outcome"] == ("failed" if status else "succeeded")
    assert done.stderr.count(b"\n") == (status in (126, 127))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--op", "Bad Op", "--", "true"],
        ["--timeout", "0", "--", "true"],
        ["--grace", "-1", "--", "true"],
        ["--timeout", "soon", "--", "true"],
        ["--no-such-option", "--", "true"],
        ["--timeout"],
        ["--pty=yes", "--", "true"],
        [],
    ],
)
def test_run_with_a_wrong_command_line_runs_nothing(here: Here, arguments: list[str]) -> None:
    """What is wrong in itself is one line and status 125, which no command's can be taken for."""
    done = here("run", *arguments)

    assert done.returncode == 125
    assert done.stdout == b""
    assert re.fullmatch(rb"tapescope: [^\n]+\n", done.stderr)
    if b"--help" in done.stderr:
        assert b"See 'tapescope run --help'." in done.stderr


@pytest.mark.parametrize("url", ["nothing://x", "no-url", "sqlite:///x.db?wrong=1"])
def test_a_store_that_cannot_be_used_is_no_reason_not_to_run(here: Here, url: str) -> None:
    """The command runs with its own status; one line says what is wrong, and what is lost."""
    done = here("run", "--store", url, "--", "sh", "-c", "echo a; exit 7")

    assert done.returncode == 7
    assert re.fullmatch(rb"tapescope: [^\n]+ 1 line of output not recorded\.\n", done.stderr)


def test_run_needs_no_dashes_before_a_plain_command(tapescope: Tapescope) -> None:
    """Options after the command's name are the command's own."""
    done = tapescope("run", "--op", "greet", "echo", "--op", "--", "hello")

    assert done.stdout == b"--op -- hello\n"
    assert tapescope.json("list")["tasks"][0]["op"] == "greet"


def test_run_keeps_the_command_with_its_task(tapescope: Tapescope) -> None:
    """The task's params are the command, bytes that are not text escaped, too long a one cut."""
    tapescope("run", "--", "true", b"caf\xe9")
    odd = tapescope.json("list")["tasks"][0]["params"]
    tapescope("run", "--", "true", "x" * 100_000, "y" * 30_000, "z")
    cut = tapescope.json("list")["tasks"][0]["params"]["command"]

    assert odd == {"command": ["true", r"caf\xe9"]}
    assert cut[0] == "true"
    assert cut[1].endswith("x…")
    assert cut[2] == "… 2 more"


def test_run_times_out(tapescope: Tapescope) -> None:
    """A command out of time is ended, with timeout's own status, 124."""
    done = tapescope("run", "--timeout", "0.3", "--", "sleep", "600")

    assert done.returncode == 124
    assert tapescope.tape()[-1]["body"]["error"]["code"] == "timeout"


def test_run_says_nothing_of_its_own_into_a_pipe(tapescope: Tapescope) -> None:
    """Without a terminal there is not one byte of ours, on either stream."""
    done = tapescope("run", "--", "true")

    assert (done.stdout, done.stderr) == (b"", b"")


def test_run_hands_on_the_callers_trace(tapescope: Tapescope) -> None:
    """Without telemetry the child has the caller's trace, and the task is linked to it."""
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    environment = {"TRACEPARENT": caller, "TRACESTATE": "a=b"}
    done = tapescope("run", "--", "sh", "-c", "echo $TRACEPARENT $TRACESTATE", env=environment)

    assert done.stdout.decode().strip() == f"{caller} a=b"
    assert tapescope.json("list")["tasks"][0]["traceparent"] == caller


def test_run_adds_no_trace_where_there_is_none(tapescope: Tapescope) -> None:
    """Without telemetry and without a caller's trace the child has no ``TRACEPARENT``."""
    done = tapescope("run", "--", "sh", "-c", "echo ${TRACEPARENT-none}")

    assert done.stdout == b"none\n"


def test_run_into_a_closed_pipe_ends_the_command(tapescope: Tapescope) -> None:
    """When our reader leaves, the command gets the SIGPIPE that it would get without us."""
    line = "y" * 500
    script = f"while echo {line}; do :; done"  # as yes, but not 30,000 lines at a time
    with tapescope.started("run", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()
        status = process.wait(30)

    assert first == f"{line}\n".encode()
    assert status == -signal.SIGPIPE
    assert tapescope.tape()[-1]["body"]["error"]["details"]["exit_status"] == -signal.SIGPIPE


def test_run_with_closed_streams_keeps_the_store_whole(tapescope: Tapescope) -> None:
    """With stdin, stdout and stderr closed, none of them becomes the store's file."""
    line = f"'{sys.executable}' -m tapescope.cli run -- sh -c 'echo a; exit 3' <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", line], env=tapescope.env, check=False, timeout=60)

    assert done.returncode == 3
    assert [event["type"] for event in tapescope.tape()] == [
        "task_started",
        "command_started",
        "log",
        "final",
    ]
