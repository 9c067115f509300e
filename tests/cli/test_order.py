"""Priority and queue on the command line: said by a submit, shown by ``show`` and ``list``."""

from __future__ import annotations

from tests.cli.command import Tapescope


def test_a_submit_says_its_priority(tapescope: Tapescope) -> None:
    """It is on the row, as a person and a program read it; 0 where nothing is said."""
    task_id = tapescope.here("submit", "resize", "--priority", "-3").stdout.decode().strip()
    tapescope.here("submit", "resize")
    shown = tapescope.here("show", task_id).stdout.decode()
    listed = tapescope.json("list")["tasks"]
    refused = tapescope.here("submit", "resize", "--priority", "10")

    assert [line.split() for line in shown.splitlines() if "priority" in line] == [
        ["priority", "-3"]
    ]
    assert [task["priority"] for task in listed] == [0, -3]
    assert refused.returncode == 1
    assert "a whole number from -9 to 9" in refused.stderr.decode()


def test_a_submit_says_its_queue(tapescope: Tapescope) -> None:
    """It is on the row, as a person and a program read it; the usual one where nothing is said."""
    task_id = tapescope.here("submit", "resize", "--queue", "bulk").stdout.decode().strip()
    tapescope.here("submit", "resize")
    shown = tapescope.here("show", task_id).stdout.decode()
    listed = tapescope.json("list")["tasks"]
    refused = tapescope.here("submit", "resize", "--queue", "a b")

    assert [line.split() for line in shown.splitlines() if line.startswith("queue")] == [
        ["queue", "bulk"]
    ]
    assert [task["queue"] for task in listed] == ["default", "bulk"]
    assert refused.returncode == 1
    assert "1 to 128 of A-Z" in refused.stderr.decode()


def test_a_submit_says_when_it_expires(tapescope: Tapescope) -> None:
    """Counted from when it is due; on the row, as a person and a program read it."""
    asked = ("submit", "resize", "--delay", "3600", "--expires-in", "1.5")
    task_id = tapescope.here(*asked).stdout.decode().strip()
    tapescope.here("submit", "resize")
    shown = tapescope.here("show", task_id).stdout.decode()
    plain, task = tapescope.json("list")["tasks"]
    refused = tapescope.here("submit", "resize", "--expires-in", "0")

    (line,) = [line for line in shown.splitlines() if line.startswith("expires_in")]
    assert line.split(None, 1)[1].startswith("1.5 s after it is due: 2")
    assert "(in " in line
    assert (plain["expires_in"], task["expires_in"]) == (None, 1.5)
    assert refused.returncode == 1
    assert "a number of seconds over 0" in refused.stderr.decode()
