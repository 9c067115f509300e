"""The ledger of events: every one that enters a store is answered for (invariant I7)."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tapescope.model import EVENT_TYPES
from tapescope_telemetry.failures import STORE_FAILURES
from tapescope_telemetry.labels import LabelCaps

__all__ = ["EventLedger", "LedgerReading"]


@dataclass(frozen=True, slots=True)
class LedgerReading:
    """The ledger's columns at one moment. All are counts of events."""

    offered: int
    """Answered for, or known to be lost; it only grows."""
    in_flight: int
    """Entered the port and not yet answered."""
    stored: int
    dropped: int
    failed: int

    @property
    def unaccounted(self) -> int:
        """``offered - stored - dropped - failed``: 0 unless an event was lost or counted twice."""
        return self.offered - self.stored - self.dropped - self.failed


class EventLedger:
    """Counts the events of one adapter in plain integers, read by observable instruments.

    An event is *offered* on entry and is then *in flight* until exactly one of ``store``, ``drop``,
    ``fail`` or ``replay`` takes it out. An answer that takes out more than is in flight was counted
    twice and makes ``unaccounted`` negative; a call that ends without an answer says so with
    ``abandon`` and makes it positive. Any thread may count: a collection that ran between the two
    halves of an entry would report an event as lost that is not.
    """

    __slots__ = (
        "_caps",
        "_dropped",
        "_entered",
        "_failed",
        "_in_flight",
        "_lock",
        "_replayed",
        "_stored",
    )

    def __init__(self, caps: LabelCaps | None = None) -> None:
        self._caps = caps if caps is not None else LabelCaps()
        self._lock = threading.Lock()
        self._entered = 0
        self._in_flight = 0
        self._replayed = 0
        self._dropped = 0
        self._stored: dict[str, int] = dict.fromkeys(EVENT_TYPES, 0)
        self._failed: dict[tuple[str, str], int] = {
            (event_type, error): 0 for event_type in EVENT_TYPES for error in STORE_FAILURES
        }

    def offer(self, n: int = 1) -> None:
        """``n`` events entered the port."""
        with self._lock:
            self._entered += n
            self._in_flight += n

    def store(self, event_type: str, n: int = 1) -> None:
        """The database says that it wrote ``n`` events of this type."""
        stored = self._stored
        if event_type not in stored:
            event_type = self._caps.event_types(event_type)
        with self._lock:
            self._in_flight -= n
            if self._in_flight < 0:
                self._in_flight = 0
            stored[event_type] = stored.get(event_type, 0) + n

    def drop(self, n: int = 1) -> None:
        """The database says that it kept ``n`` late events off a tape."""
        with self._lock:
            self._land(n)
            self._dropped += n

    def fail(self, event_type: str, error_type: str, n: int = 1) -> None:
        """The caller of ``n`` events of this type got an error, or withdrew them."""
        key = (self._caps.event_types(event_type), self._caps.error_types(error_type))
        with self._lock:
            self._land(n)
            self._failed[key] = self._failed.get(key, 0) + n

    def replay(self, n: int = 1) -> None:
        """``n`` offers proved to be of events decided before; they leave the offered count."""
        with self._lock:
            self._land(n)
            self._replayed += n

    def abandon(self, n: int = 1) -> None:
        """``n`` events left the port with no answer: they are out of flight and unaccounted for."""
        with self._lock:
            self._land(n)

    def read(self) -> LedgerReading:
        """All the columns at one moment."""
        with self._lock:
            return LedgerReading(
                offered=self._entered - self._in_flight - self._replayed,
                in_flight=self._in_flight,
                stored=sum(self._stored.values()),
                dropped=self._dropped,
                failed=sum(self._failed.values()),
            )

    def stored_by_type(self) -> dict[str, int]:
        """Stored events by (capped) type."""
        with self._lock:
            return dict(self._stored)

    def failed_by_type(self) -> dict[tuple[str, str], int]:
        """Failed events by (capped) event type and error type."""
        with self._lock:
            return dict(self._failed)

    @property
    def offered(self) -> int:
        """Events that entered and are in flight no more, without those decided before."""
        return self.read().offered

    @property
    def in_flight(self) -> int:
        """Events that entered and are not answered yet."""
        return self.read().in_flight

    @property
    def stored(self) -> int:
        """Events that the database says it wrote."""
        return self.read().stored

    @property
    def dropped(self) -> int:
        """Late events that were kept off a tape."""
        return self.read().dropped

    @property
    def failed(self) -> int:
        """Events that ended in an error at their caller."""
        return self.read().failed

    @property
    def unaccounted(self) -> int:
        """``offered - stored - dropped - failed``; 0 unless an event was lost or counted twice."""
        return self.read().unaccounted

    def _land(self, n: int) -> None:
        self._in_flight = max(0, self._in_flight - n)
