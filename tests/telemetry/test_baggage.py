"""W3C baggage, as it is stored with a task: what is read of it, and how much."""

from __future__ import annotations

import logging

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context

from tapescope_telemetry.baggage import (
    BAGGAGE_BYTES,
    BAGGAGE_ENTRIES,
    add_baggage,
    format_baggage,
)


def make(entries: dict[str, object]) -> Context:
    """A context with this baggage."""
    context = Context()
    for name, value in entries.items():
        context = baggage.set_baggage(name, value, context)
    return context


@pytest.mark.parametrize(
    "entries",
    [{}, {"tenant": "acme"}, {"a b": "1, 2; 3=4", "ü": "ß\n"}, {"n": 7, "empty": ""}],
    ids=["none", "one", "signs", "no texts"],
)
def test_what_is_stored_is_read_back(entries: dict[str, object]) -> None:
    """As texts, whatever signs they have: a store keeps it in one line."""
    header = format_baggage(make(entries))
    found = baggage.get_all(add_baggage(header, Context()))

    assert dict(found) == {name: str(value) for name, value in entries.items()}
    assert "\n" not in (header or "")
    assert (header is None) is (not entries)


def test_what_is_too_much_is_left_out_by_the_entry(caplog: pytest.LogCaptureFixture) -> None:
    """Whole entries, of bytes and of number, and none of it is logged."""
    large: dict[str, object] = {"large": "secret" * BAGGAGE_BYTES, "small": "1"}
    many: dict[str, object] = {f"n{nth}": "secret" for nth in range(2 * BAGGAGE_ENTRIES)}
    with caplog.at_level(logging.DEBUG):
        kept = format_baggage(make(large)), format_baggage(make(many))
        read = add_baggage(",".join(f"{name}={value}" for name, value in many.items()), Context())
        add_baggage("large=" + "secret" * BAGGAGE_BYTES, Context())

    assert kept[0] == "small=1"
    assert (kept[1] or "").count("=") == len(baggage.get_all(read)) == BAGGAGE_ENTRIES
    assert "secret" not in caplog.text


@pytest.mark.parametrize("header", ["", "=", "novalue", ",,", "=x", "\udcff=1", " = "])
def test_what_is_no_baggage_is_none(header: str) -> None:
    """Whatever a caller's environment holds."""
    found = baggage.get_all(add_baggage(header, Context()))

    assert dict(found) == ({"\udcff": "1"} if header == "\udcff=1" else {})
    assert format_baggage(add_baggage(header, Context())) is None
