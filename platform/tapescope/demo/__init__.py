"""A demonstration: real work on a real store, and what is left of it afterwards."""

from __future__ import annotations

from tapescope.demo.session import Board, make_manager, run_endless, run_jobs
from tapescope.demo.summary import DemoSummary, read_summary
from tapescope.demo.workload import FileSet, find_files

__all__ = [
    "Board",
    "DemoSummary",
    "FileSet",
    "find_files",
    "make_manager",
    "read_summary",
    "run_endless",
    "run_jobs",
]
