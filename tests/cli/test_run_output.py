"""The output of ``tapescope run``: all of it passes through, or the status and the tape say so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import Tapescope, slow

RUN = (sys.executable, "-m", "tapescope.cli", "run")


@pytest.mark.parametrize("size", [slow(1), 60_000, slow(1_000_000)])
def test_lost_output_is_no_success(tapescope: Tapescope, size: int) -> None:
    """On a full disk the plain command fails; so do we, whoever noticed it: never with status 0."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            (*RUN, "--", "head", "-c", str(size), "/dev/zero"),
            stdout=full,
            stderr=subprocess.PIPE,
            env=tapescope.env,
            check=False,
            timeout=60,
        )
    final = tapescope.tape()[-1]["body"]
    lost = final["error"]["details"]["bytes_not_written"]

    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert f"No space left on device): {lost:,} bytes are lost".encode() in done.stderr
    assert final["outcome"] == "failed"
    assert lost == size if size < 65_536 else 0 < lost <= size


def test_lost_output_leaves_a_failed_commands_own_status(tapescope: Tapescope) -> None:
    """The command's own bad news goes before ours."""
    line = f"{' '.join(RUN)} -- sh -c 'echo a; exit 7' > /dev/full"
    done = subprocess.run(["sh", "-c", line], env=tapescope.env, check=False, timeout=60)

    assert done.returncode == 7
    assert tapescope.tape()[-1]["body"]["error"]["details"] == {
        "exit_status": 7,
        "bytes_not_written": 2,
    }


def test_output_that_nobody_has_is_on_the_tape(tapescope: Tapescope) -> None:
    """What could not be written, and what the command had written behind it, was recorded."""
    line = f"{' '.join(RUN)} -- seq 20000 > /dev/full"
    subprocess.run(["sh", "-c", line], env=tapescope.env, check=False, timeout=60)
    events = tapescope.tape()
    lines = [event["body"]["line"] for event in events if event["type"] == "log"]
    lost = events[-1]["body"]["error"]["details"]["bytes_not_written"]
    recorded = "\n".join(lines)

    assert lost - len(recorded) in (0, 1), "but for the last newline"
    assert lines[:-1] == [str(number) for number in range(1, len(lines))]


def test_reader_that_has_seen_enough_loses_nothing(tapescope: Tapescope) -> None:
    """A closed pipe is its reader's decision: a command that was done by then has succeeded."""
    line = f"{' '.join(RUN)} -- echo a | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=tapescope.env, check=False, timeout=60, capture_output=True
    )

    assert (done.returncode, done.stderr) == (0, b"")
    assert tapescope.tape()[-1]["body"]["outcome"] == "succeeded"


def test_order_of_both_streams_is_kept_where_they_are_one(tapescope: Tapescope) -> None:
    """With ``2>&1`` the command has one pipe for both, and every line is in its place."""
    script = "for i in $(seq 1 2 399); do echo $i; echo $((i + 1)) >&2; done"
    done = subprocess.run(
        (*RUN, "--", "sh", "-c", script),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=tapescope.env,
        check=True,
        timeout=60,
    )
    lines = [e["body"]["line"] for e in tapescope.tape() if e["type"] == "log"]

    assert done.stdout.split() == [b"%d" % n for n in range(1, 401)]
    assert lines == [str(n) for n in range(1, 401)]


def test_process_that_holds_the_output_is_said(tapescope: Tapescope) -> None:
    """It does not hold up the end, nor is it killed; stderr and the tape say that it is cut off."""
    done = tapescope("run", "--drain", "0.1", "--", "sh", "-c", "sleep 600 & echo $!")
    os.kill(int(done.stdout), signal.SIGKILL)  # raises where it is gone
    events = tapescope.tape()

    assert done.returncode == 0
    assert done.stderr.startswith(b"tapescope: a process that the command left still has its")
    assert done.stderr.count(b"\n") == 1
    assert [e["body"] for e in events if e["type"] == "output_held"] == [
        {"streams": ["stdout", "stderr"]}
    ]
    assert events[-1]["body"]["outcome"] == "succeeded"


def test_late_output_within_the_drain_is_no_loss(tapescope: Tapescope) -> None:
    """What comes before the drain ends passes through and is recorded, without a word of ours."""
    script = "(while kill -0 $$; do :; done 2>/dev/null; echo late) & echo started"
    done = tapescope("run", "--drain", "30", "--", "sh", "-c", script)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"started\nlate\n", b"")
    assert [e["type"] for e in tapescope.tape()].count("output_held") == 0


@pytest.mark.parametrize("way", ["option", "url"])
def test_lines_says_how_much_the_tape_keeps(tapescope: Tapescope, way: str) -> None:
    """Of a flood the first and the last lines, and stderr's, though it came last of all.

    So it is whoever says how long a tape may be: the option, or the store's URL.
    """
    script = "seq 1 5000; echo 'FATAL: disk died' >&2; exit 3"
    limits = {"option": ("--lines", "40"), "url": ("--store", f"{tapescope.store}?tape_events=64")}
    done = tapescope("run", *limits[way], "--", "sh", "-c", script)
    events = tapescope.tape()
    logs = [e["body"] for e in events if e["type"] == "log"]
    numbers = [int(body["line"]) for body in logs if body["stream"] == "stdout"]
    (gap,) = (e["body"] for e in events if e["type"] == "lines_left_out")

    assert done.returncode == 3
    assert done.stdout.count(b"\n") == 5_000
    assert len(logs) <= 40
    assert numbers[0] == 1
    assert numbers[-1] == 5_000
    assert gap["lines"] == 5_001 - len(logs)
    assert {"stream": "stderr", "line": "FATAL: disk died"} in logs
    assert f"tapescope: {gap['lines']:,} lines of output not recorded".encode() in done.stderr
    assert b"--lines" in done.stderr


@pytest.mark.parametrize("named", ["path", "name"])
def test_script_without_a_first_line_runs_as_a_shell_runs_it(
    tapescope: Tapescope, tmp_path: Path, named: str
) -> None:
    """The system cannot execute it; every shell, env and nice give it to sh, and so do we."""
    script = tmp_path / "plain-script"
    script.write_text("echo $0 $1; exit 5\n")
    script.chmod(0o755)
    command = str(script) if named == "path" else "plain-script"
    done = tapescope("run", "--", command, "a b", env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})

    assert (done.returncode, done.stdout) == (5, f"{script} a b\n".encode())


def test_program_of_another_machine_is_no_script(tapescope: Tapescope, tmp_path: Path) -> None:
    """What is no text is not given to a shell: 126, as from bash."""
    program = tmp_path / "odd"
    program.write_bytes(b"\x7fODD\0\0\n")
    program.chmod(0o755)
    done = tapescope("run", "--", str(program))

    assert done.returncode == 126
    assert b"Exec format error" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("width", [10, 100, 4_000])
def test_flood_passes_through_whole(tapescope: Tapescope, width: int) -> None:
    """A flood over the tape's limit passes through whole; what is not recorded is counted."""
    count = 100_000_000 // width if width > 100 else 1_000_000
    program = f"import sys\nfor i in range({count}): sys.stdout.write(f'{{i:0{width - 1}}}\\n')"
    done = tapescope("run", "--", sys.executable, "-c", program)
    lines = [e["body"]["line"] for e in tapescope.tape() if e["type"] == "log"]

    assert done.returncode == 0
    assert len(done.stdout) == count * width
    assert int(lines[0]) == 0
    assert int(lines[-1]) == count - 1
