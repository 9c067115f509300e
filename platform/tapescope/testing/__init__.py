"""For tests of programs that embed tapescope: a store in memory, and the checker of a history.

``MemoryStore`` keeps every rule of a real store. ``Recording`` notes each call of a store and its
answer in a ``History``; ``check`` then says where an invariant does not hold. Who writes a store
runs ``tapescope.testing.conformance``, which needs pytest and is imported by name.
"""

from __future__ import annotations

from tapescope.testing._case import Breach
from tapescope.testing._checker import check
from tapescope.testing._history import Follow, History, RecordedCall, Recording
from tapescope.testing._memory import MemoryBackend, MemoryStore
from tapescope.testing._spans import SpanRecord
from tapescope.testing.polling import settle_loop, until

__all__ = [
    "Breach",
    "Follow",
    "History",
    "MemoryBackend",
    "MemoryStore",
    "RecordedCall",
    "Recording",
    "SpanRecord",
    "check",
    "settle_loop",
    "until",
]
