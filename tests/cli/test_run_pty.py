"""``tapescope run --pty``: the command writes on terminals, and not a byte is another for it."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

from tests.cli.command import Tapescope, read_terminal

TELLS = """
import os, signal, sys
def tell(*_):
    print("size", *os.get_terminal_size(1), flush=True)
signal.signal(signal.SIGWINCH, tell)
print("terminals", os.isatty(1), os.isatty(2), flush=True)
print("beside", file=sys.stderr)
tell()
for line in sys.stdin:
    print("got", line, end="", flush=True)
sys.exit(5)
"""


def test_command_in_a_pipe_writes_on_terminals(tapescope: Tapescope) -> None:
    """It keeps its colours; its bytes and the two streams are as they were; its tape is whole."""
    done = tapescope("run", "--pty", "--", "python3", "-c", TELLS, stdin=b"a\n")
    lines = [e["body"] for e in tapescope.tape() if e["type"] == "log"]

    assert done.returncode == 5
    assert done.stdout == b"terminals True True\nsize 80 24\ngot a\n"
    assert done.stderr == b"beside\n"
    assert [line["line"] for line in lines if line["stream"] == "stderr"] == ["beside"]
    assert len(lines) == 4


def test_flood_on_a_terminal_is_whole(tapescope: Tapescope) -> None:
    """What the command wrote last is read before the end of a terminal is."""
    done = tapescope("run", "--pty", "--", "seq", "5000")

    assert done.returncode == 0
    assert done.stdout.split() == [str(number).encode() for number in range(1, 5_001)]


def test_terminal_has_the_size_of_ours(tapescope: Tapescope) -> None:
    """At the start, and when ours is given another size."""
    with tapescope.on_terminal("run", "--pty", "--", "python3", "-c", TELLS) as (process, end):
        shown = read_terminal(end, until=[b"beside"])
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        shown += read_terminal(end, until=[b"size 77 33"])
        os.write(end, b"\x04")
        shown += read_terminal(end)
        status = process.wait(30)

    assert b"size 77 33" in shown
    assert status == 5
