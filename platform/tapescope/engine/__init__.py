"""Engines: what brings tasks to a manager beside its own claims; see docs/decisions/0093."""

from __future__ import annotations

from tapescope.engine.lookup import find_engine
from tapescope.engine.port import (
    Again,
    Answer,
    Confirmation,
    Desk,
    Ended,
    Engine,
    EngineReport,
    EngineServer,
    Forgotten,
    Held,
    Unknown,
)
from tapescope.engine.reconciler import LATE, Reconciled, Reconciler, reconcile
from tapescope.model.telemetry import HeldReason

__all__ = [
    "LATE",
    "Again",
    "Answer",
    "Confirmation",
    "Desk",
    "Ended",
    "Engine",
    "EngineReport",
    "EngineServer",
    "Forgotten",
    "Held",
    "HeldReason",
    "Reconciled",
    "Reconciler",
    "Unknown",
    "find_engine",
    "reconcile",
]
