"""Cutting a command's output into lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tapescope.codec import encode
from tapescope.shell.lines import LINE_BYTES, LineSplitter, count_lines
from tapescope.store.validation import StoreLimits


def test_lines_end_at_newlines_whatever_the_chunks() -> None:
    """A line is one body, wherever its bytes were torn apart; the last needs no newline."""
    lines = LineSplitter("stdout")

    bodies = [*lines.feed(b"one\ntw"), *lines.feed(b"o\n\nthr"), *lines.feed(b"ee"), *lines.end()]

    assert bodies == [
        {"stream": "stdout", "line": "one"},
        {"stream": "stdout", "line": "two"},
        {"stream": "stdout", "line": ""},
        {"stream": "stdout", "line": "three"},
    ]


def test_long_line_is_split_between_characters_and_marked() -> None:
    """A long line is several bodies, all but its last marked as continued, no character torn."""
    lines = LineSplitter("stderr", line_bytes=8)

    bodies = [*lines.feed("ééééé€€€x\nnext".encode()), *lines.end()]

    assert bodies == [
        {"stream": "stderr", "line": "éééé", "continued": True},
        {"stream": "stderr", "line": "é€€", "continued": True},
        {"stream": "stderr", "line": "€x"},
        {"stream": "stderr", "line": "next"},
    ]


def test_bytes_that_are_no_text_are_escaped_and_marked() -> None:
    """NUL and bytes that are not UTF-8 become escapes, and the body says so."""
    lines = LineSplitter("stdout")

    bodies = lines.feed(b"a\0b\xffc\nplain \\x00\n")

    assert bodies == [
        {"stream": "stdout", "line": r"a\x00b\xffc", "escaped": True},
        {"stream": "stdout", "line": r"plain \x00"},
    ]


def test_unended_line_is_not_kept_whole_in_memory() -> None:
    """A line that never ends is handed out in parts as it grows."""
    lines = LineSplitter("stdout", line_bytes=16)

    bodies = [body for _ in range(100) for body in lines.feed(b"0123456789")]

    assert len(bodies) == 62
    assert lines.end() == [{"stream": "stdout", "line": "23456789"}]


@given(st.lists(st.binary(max_size=60)), st.integers(4, 20))
def test_any_bytes_come_back_from_their_lines(chunks: list[bytes], line_bytes: int) -> None:
    """Parts and lines put together again are the output, escapes aside, however it was torn."""
    lines = LineSplitter("stdout", line_bytes)

    bodies = [body for chunk in chunks for body in lines.feed(chunk)] + lines.end()
    text = "".join(body["line"] + ("" if "continued" in body else "\n") for body in bodies)
    output = b"".join(chunks)
    expected = output if output.endswith(b"\n") or not output else output + b"\n"

    assert all(len(body["line"].encode()) <= 4 * line_bytes for body in bodies)
    if b"\0" not in output and not any("escaped" in body for body in bodies):
        assert text.encode() == expected


@given(st.lists(st.integers(0, 9), max_size=200))
def test_lines_are_counted_whatever_their_length(lengths: list[int]) -> None:
    """Few or many, long or short."""
    chunk = b"\n".join(b"x" * length for length in lengths)

    assert count_lines(chunk) == chunk.count(b"\n")


def test_worst_part_fits_on_a_tape() -> None:
    """Of NULs, the bytes that grow most, a part is still below the limit for an event."""
    (body,) = LineSplitter("stdout").feed(b"\0" * LINE_BYTES + b"\n")

    assert len(encode(body, "event").encode()) <= StoreLimits().event_bytes
