"""A tape beside what is expected of it."""

from __future__ import annotations

from typing import Any
from unittest.mock import ANY

import pytest

from tapescope import Event, Outcome, TapePage
from tapescope.testing import ExpectedEvent, TapeDiffers, assert_tape


def make_tape(*events: tuple[str, Any]) -> TapePage:
    """A tape of these events."""
    made = tuple(Event(n, type, 0, 1, body) for n, (type, body) in enumerate(events, 1))
    return TapePage("01a2", made, len(made), None, 0)


TAPE = make_tape(
    ("task_started", {"attempt": 1}),
    ("progress", {"phase": "resize", "current": 1, "total": 2.0}),
    ("log", {"level": "info", "message": "half"}),
    ("progress", {"phase": "resize", "current": 2, "total": 2.0}),
    ("sizes", [{"width": 1, "height": 2}, {"width": 3}]),
    ("final", {"outcome": "succeeded", "result": {"resized": 2}}),
)

GOOD: list[list[ExpectedEvent]] = [
    ["task_started", "progress", "log", "progress", "sizes", "final"],
    [..., Outcome.SUCCEEDED],
    [...],
    ["task_started", ..., ("progress", {"current": 2}), ...],
    [..., "progress", ..., "progress", "sizes", ..., "final", ...],
    [..., ("sizes", [{"width": 1}, {}]), ("final", {"result": {"resized": ANY}})],
    [..., ("progress", {"total": pytest.approx(2)}), ..., "sizes", "final"],
    [..., ..., "log", ..., ...],
]

BAD: list[tuple[list[ExpectedEvent], int | None, str]] = [
    (["task_started", "log", ...], 2, "event 2 is 'progress': 'log' was expected"),
    (["task_started"], 2, "event 2 is 'progress', and no more was expected"),
    ([], 1, "no more was expected"),
    (["task_started", ("progress", {"current": 2}), ...], 2, "['current'] is 1, and 2 was"),
    (["task_started", ("progress", {"of": 2}), ...], 2, "its body has no 'of'"),
    ([..., ("sizes", [{}]), "final"], 5, "its body has 2 parts, and 1 were expected"),
    ([..., "sized", "final"], None, "it ends where 'sized' was expected"),
    ([..., "sizes", Outcome.FAILED], 6, "is 'succeeded', and 'failed' was expected"),
    ([..., "log", "progress", "sizes", "final", "final"], None, "ends where 'final' was"),
    ([..., "sizes", ("final", {"result": {"resized": 3}})], 6, "['result']['resized'] is 2"),
]


@pytest.mark.parametrize("expected", GOOD)
def test_a_tape_that_is_as_expected_passes(expected: list[ExpectedEvent]) -> None:
    """Types alone, parts of bodies, any events between: as much as the test says, and no more."""
    assert_tape(TAPE, expected)
    assert_tape(TAPE.events, expected)


@pytest.mark.parametrize(("expected", "seq", "why"), BAD)
def test_the_first_difference_is_told(
    expected: list[ExpectedEvent], seq: int | None, why: str
) -> None:
    """Where it is and what it is, with the tape and all that was expected."""
    with pytest.raises(TapeDiffers) as raised:
        assert_tape(TAPE, expected)
    text = str(raised.value)

    assert raised.value.seq == seq
    assert why in raised.value.why
    assert f"--> {seq} " in text or (seq is None and "--> (its end)" in text)
    assert "    1 task_started {'attempt': 1}" in text or seq == 1


def test_what_is_shown_is_bounded() -> None:
    """A tape of thousands of events and bodies of any size fit into a report."""
    tape = make_tape(*(("chunk", "x" * 10_000) for _ in range(5_000)))
    with pytest.raises(TapeDiffers) as raised:
        assert_tape(tape, [*["chunk"] * 2_500, "final"])
    text = str(raised.value)

    assert raised.value.seq == 2_501
    assert "… 2,480 events before\n" in text
    assert "… 2,479 events more\n" in text
    assert "… 2,480 expected before\n" in text
    assert "(10002 characters)" in text
    assert len(text) < 20_000
