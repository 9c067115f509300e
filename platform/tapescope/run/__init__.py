"""One run of a task: claim, await the runner, settle."""

from __future__ import annotations
