"""Faults on purpose, to see that their alerts reach the people on call."""

from __future__ import annotations

from tapescope.drills.catalogue import DRILLS, Drill, find_drill
from tapescope.drills.session import DrillSession

__all__ = ["DRILLS", "Drill", "DrillSession", "find_drill"]
