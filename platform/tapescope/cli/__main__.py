"""``python -m tapescope.cli``: the command line where its script is not installed."""

from __future__ import annotations

from tapescope.cli import main

main()
