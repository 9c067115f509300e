"""The ledger: offered = stored + dropped + failed, and what breaks it shows."""

from __future__ import annotations

import threading

from tapescope_telemetry import EventLedger
from tests.support.captured_telemetry import CapturedTelemetry


def test_answers_take_events_out_of_flight() -> None:
    """Stored, dropped and failed events leave flight and add up to what was offered (I7)."""
    ledger = EventLedger()
    ledger.offer(10)
    ledger.store("log", 4)
    ledger.drop(2)
    ledger.fail("log", "StoreUnavailable", 1)
    reading = ledger.read()

    assert (reading.offered, reading.in_flight) == (7, 3)
    assert (reading.stored, reading.dropped, reading.failed) == (4, 2, 1)
    assert reading.unaccounted == 0
    assert (ledger.offered, ledger.in_flight, ledger.stored) == (7, 3, 4)
    assert (ledger.dropped, ledger.failed, ledger.unaccounted) == (2, 1, 0)


def test_replay_leaves_the_offered_count() -> None:
    """An offer of an event that was decided before counts nowhere, but is in flight no more."""
    ledger = EventLedger()
    ledger.offer()
    ledger.store("final")
    ledger.offer()
    ledger.replay()

    assert (ledger.offered, ledger.in_flight, ledger.stored, ledger.unaccounted) == (1, 0, 1, 0)


def test_offered_never_falls() -> None:
    """A counter must not go down: each entry leaves ``offered`` where it was, or raises it."""
    ledger = EventLedger()
    seen = [ledger.offered]
    ledger.offer(6)
    seen.append(ledger.offered)
    ledger.store("log", 2)
    seen.append(ledger.offered)
    ledger.replay(1)
    seen.append(ledger.offered)
    ledger.drop(1)
    seen.append(ledger.offered)
    ledger.fail("log", "OSError", 1)
    seen.append(ledger.offered)
    ledger.abandon(1)
    seen.append(ledger.offered)

    assert seen == [0, 0, 2, 2, 3, 4, 5]


def test_abandoned_event_is_unaccounted() -> None:
    """An event whose call ended without an answer shows as unaccounted, not as still in flight."""
    ledger = EventLedger()
    ledger.offer(3)
    ledger.store("log", 2)
    ledger.abandon(1)

    assert (ledger.in_flight, ledger.unaccounted) == (0, 1)


def test_event_counted_twice_is_unaccounted() -> None:
    """An event that was counted as stored and as dropped shows as unaccounted, below zero."""
    ledger = EventLedger()
    ledger.offer()
    ledger.store("log")
    ledger.drop()

    assert (ledger.in_flight, ledger.unaccounted) == (0, -1)


def test_event_stored_after_its_answer_is_unaccounted() -> None:
    """The same the other way round: a late ``store`` does not hide behind a negative flight."""
    ledger = EventLedger()
    ledger.offer()
    ledger.drop()
    ledger.store("log")

    assert (ledger.in_flight, ledger.unaccounted) == (0, -1)


def test_ledger_is_exported_for_its_adapter(captured: CapturedTelemetry) -> None:
    """The tallies come out as offered, appended, failed and unaccounted, an adapter each."""
    sqlite = captured.telemetry.store("sqlite").ledger
    postgres = captured.telemetry.store("postgresql").ledger
    sqlite.offer(6)
    sqlite.store("log", 3)
    sqlite.fail("log", "tapescope.errors.StoreUnavailable", 1)
    sqlite.abandon(2)
    postgres.offer(2)
    postgres.store("final", 1)
    postgres.fail("log", "tapescope.errors.StoreUnavailable", 1)

    assert captured.value("tapescope.tape.event.offered", store_adapter="sqlite") == 6
    assert captured.value("tapescope.tape.event.offered", store_adapter="postgresql") == 2
    appended = "tapescope.tape.event.appended"
    assert captured.value(appended, store_adapter="sqlite", event_type="log") == 3
    assert captured.value(appended, store_adapter="postgresql", event_type="final") == 1
    failed = captured.points("tapescope.tape.event.failed", event_type="log")
    assert sum(point.value for point in failed) == 2
    unaccounted = "tapescope.tape.event.unaccounted"
    assert captured.value(unaccounted, store_adapter="sqlite") == 2
    assert captured.value(unaccounted, store_adapter="postgresql") == 0


def test_threads_count_every_event() -> None:
    """Loops in several threads may share a ledger: none of their counts is lost."""
    ledger = EventLedger()
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for _ in range(5_000):
            ledger.offer()
            ledger.store("log")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (ledger.offered, ledger.stored, ledger.in_flight) == (20_000, 20_000, 0)
