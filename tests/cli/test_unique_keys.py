"""Unique keys on the command line: said by a submit, shown, and told by a retry."""

from __future__ import annotations

from tests.cli.command import Tapescope


def test_a_submit_says_its_unique_key(tapescope: Tapescope) -> None:
    """While the task is open another submit prints its id; a retry of an ended one says who has
    the key."""
    submit = ("submit", "sync", "--unique-key", "ada")
    first = tapescope.here(*submit).stdout.decode().strip()
    again = tapescope.here(*submit, "--params", '{"a": 1}').stdout.decode().strip()
    shown = tapescope.here("show", first).stdout.decode()
    tapescope.here("cancel", first, "--yes")
    second = tapescope.json(*submit)
    listed = tapescope.json("list")["tasks"]
    refused = tapescope.here("submit", "sync", "--unique-key", "x" * 1_025)

    assert again == first
    assert [line.split() for line in shown.splitlines() if "unique_key" in line] == [
        ["unique_key", "ada"]
    ]
    assert [task["unique_key"] for task in listed] == ["ada", "ada"]
    assert [task["task_id"] for task in listed] == [second["task_id"], first]
    assert refused.returncode == 1
    assert "unique_key" in refused.stderr.decode()
