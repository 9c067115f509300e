"""Slots on the command line: a submit names its key; who waits for one is shown so."""

from __future__ import annotations

from tests.cli.command import Tapescope


def test_a_parked_task_says_what_it_waits_for(tapescope: Tapescope) -> None:
    """In the lists, and by itself; a program reads it in JSON."""
    task_id = tapescope.here("submit", "sync", "--concurrency-key", "eu").stdout.decode().strip()
    shown = tapescope.here("show", task_id).stdout.decode()
    listed = tapescope.here("list").stdout.decode()
    (shape,) = tapescope.json("list")["tasks"]
    tapescope.here("cancel", task_id, "--yes")
    after = tapescope.json("show", task_id)

    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "waits for a slot, or the rate, of concurrency key 'eu', and a worker" in lines
    assert " parked " in listed
    assert (shape["status"], shape["parked"], shape["concurrency_key"]) == ("pending", True, "eu")
    assert (after["status"], after["parked"]) == ("cancelled", False)
