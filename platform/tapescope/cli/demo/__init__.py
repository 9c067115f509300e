"""``tapescope demo``: real work on a real store, and what is left of it afterwards."""

from __future__ import annotations

from tapescope.cli.demo.session import run_demo

__all__ = ["run_demo"]
