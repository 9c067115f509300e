"""``Starts``: which pending tasks may begin, for a store that looks at all of them."""

from __future__ import annotations

from dataclasses import replace

from tapescope.model.ops import KnownOp
from tapescope.model.tasks import Task
from tapescope.store import CreateRow, Starts
from tapescope.store.task_rows import as_pending
from tapescope.store.validation import new_task_id

KNOWN = KnownOp("x", rate_times=2, rate_per_us=10)
NAME = ("x", "k")


def test_the_window_slides() -> None:
    """What began longer ago than it is long counts no more; the next one begins when the oldest
    that counts leaves it."""
    starts = Starts([], [KNOWN], {NAME: [90, 91, 95]}, 100)

    assert starts.begun == {NAME: [91, 95]}
    assert starts.find_earliest(make()) == 101
    assert not starts.take(make())


def test_a_task_is_taken_once() -> None:
    """Each that may begin takes its place from the next one, and only a claim makes it count."""
    starts = Starts([], [KNOWN], {NAME: [95]}, 100)

    assert [starts.take(make()) for _ in range(2)] == [True, False]
    assert starts.begun == {NAME: [95]}
    starts.note(make())
    assert starts.begun == {NAME: [95, 100]}


def test_more_than_may_begin_have_begun() -> None:
    """The rate became smaller: as many as are too many leave the window first."""
    starts = Starts([], [KNOWN], {NAME: [96, 97, 98]}, 100)

    assert starts.find_earliest(make()) == 107


def test_a_time_to_come_counts_from_now_on() -> None:
    """The clock was set back: nobody waits until it is there again."""
    starts = Starts([], [KNOWN], {NAME: [5_000, 6_000]}, 100)

    assert starts.begun == {NAME: [100, 100]}
    assert starts.find_earliest(make()) == 110


def test_an_op_without_a_rate_keeps_nothing() -> None:
    """Nor one that nobody knows; and nothing that it begins is noted."""
    starts = Starts([], [KnownOp("x")], {NAME: [99], ("gone", "k"): [99]}, 100)
    starts.note(make())

    assert starts.begun == {}
    assert starts.take(make())


def test_a_task_that_is_due_later_begins_then() -> None:
    """With room in the window, and where that is there before the task is due."""
    later = replace(make(), run_us=200)

    assert Starts([], [KNOWN], {}, 100).find_earliest(later) == 200
    assert Starts([], [KNOWN], {NAME: [95, 96]}, 100).find_earliest(later) == 200


def make() -> Task:
    """A pending task, due at once."""
    row = CreateRow(new_task_id(), "x", "{}", None, 0, None, None, 1, concurrency_key="k")
    return as_pending(row, {}, 1, 1)
