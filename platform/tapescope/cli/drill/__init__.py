"""``tapescope drill``: faults on purpose, to see that their alerts reach somebody."""

from __future__ import annotations

from tapescope.cli.drill.catalogue import print_drills
from tapescope.cli.drill.session import run_drill

__all__ = ["print_drills", "run_drill"]
