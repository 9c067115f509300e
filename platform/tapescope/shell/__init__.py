"""Shell commands as runners: ``ShellCommand``."""

from __future__ import annotations

from tapescope.shell.command import ShellCommand

__all__ = ["ShellCommand"]
