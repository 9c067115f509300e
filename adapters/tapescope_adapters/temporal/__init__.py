"""The engine on Temporal. Importing it without ``temporalio`` raises ``MissingExtra``.

It is a package of the adapters, for that is what it is: it reaches one service, behind a port of
the platform, and is found by the scheme of a URL. Nothing else knows ``temporalio``.
"""

from __future__ import annotations

from tapescope.errors import MissingExtra

try:
    from tapescope_adapters.temporal.engine import TemporalEngine
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "temporalio":
        raise
    raise MissingExtra("The engine on Temporal", "temporal") from error

__all__ = ["TemporalEngine"]
