"""Times as stores keep them, and as users read them."""

from __future__ import annotations

# Microseconds since the Unix epoch, and their text. As a double precision number the fifth has no
# microseconds any more.
TIMES = [
    (0, "1970-01-01T00:00:00.000000Z"),
    (1, "1970-01-01T00:00:00.000001Z"),
    (-1, "1969-12-31T23:59:59.999999Z"),
    (1_769_860_800_123_456, "2026-01-31T12:00:00.123456Z"),
    (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
]
