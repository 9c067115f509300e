"""W3C baggage as it is stored with a task and handed to its runner: opt-in, for it may be secret.

Read and written here, for the API's propagator logs what it leaves out, values and all.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_plus, unquote_plus

from opentelemetry import baggage
from opentelemetry.context import Context

from tapescope_telemetry.guard import SPANS_OF_OTHERS

__all__ = ["BAGGAGE_BYTES", "BAGGAGE_ENTRIES", "add_baggage", "format_baggage"]

BAGGAGE_BYTES: Final = 8_192
"""Bytes of baggage that go on with a task, and the number of its entries: so much a platform must
hand on (W3C Baggage, 3.3.2). What is too much is left out, whole entries of it."""
BAGGAGE_ENTRIES: Final = 64


def format_baggage(context: Context) -> str | None:
    """The baggage of a context as a W3C header has it; ``None`` where there is none."""
    kept: list[str] = []
    room = BAGGAGE_BYTES
    with SPANS_OF_OTHERS:
        for name, value in baggage.get_all(context).items():
            entry = f"{quote_plus(name)}={quote_plus(str(value))}"
            if len(entry) <= room and len(kept) < BAGGAGE_ENTRIES:
                kept.append(entry)
                room -= len(entry) + 1
    return ",".join(kept) or None


def add_baggage(header: str | None, context: Context) -> Context:
    """The context with the entries of a W3C header, as many as are handed on."""
    if header:
        with SPANS_OF_OTHERS:
            for entry in header[: BAGGAGE_BYTES + 1].split(",")[:BAGGAGE_ENTRIES]:
                name, is_entry, value = entry.strip().partition("=")
                if is_entry and name.strip():
                    name, value = unquote_plus(name.strip()), unquote_plus(value.strip())
                    context = baggage.set_baggage(name, value, context)
    return context
