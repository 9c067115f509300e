"""One run of a task: claim, begin the span, await the runner, settle.

Knows a store and a host that starts runs, never the pool or the manager.
"""

from __future__ import annotations

from tapescope.run.attempt import RunSettings
from tapescope.run.current import find_parent
from tapescope.run.durable_writes import let_go
from tapescope.run.hooks import Nested, RunCall, RunHook, check_hooks
from tapescope.run.keeper import RedactedBody
from tapescope.run.redaction import Redactor
from tapescope.run.reporter import Reporter, ThreadReporter
from tapescope.run.resources import (
    Factory,
    ResourceMap,
    Resources,
    check_factory,
    check_replacements,
)
from tapescope.run.retry_policy import RetryPolicy
from tapescope.run.run import Completion, Run, RunHost, find_current_run
from tapescope.run.runner import Runner, resolve_runner
from tapescope.run.tape_handler import TapeHandler
from tapescope.run.typed_values import TypedValues

__all__ = [
    "Completion",
    "Factory",
    "Nested",
    "RedactedBody",
    "Redactor",
    "Reporter",
    "ResourceMap",
    "Resources",
    "RetryPolicy",
    "Run",
    "RunCall",
    "RunHook",
    "RunHost",
    "RunSettings",
    "Runner",
    "TapeHandler",
    "ThreadReporter",
    "TypedValues",
    "check_factory",
    "check_hooks",
    "check_replacements",
    "find_current_run",
    "find_parent",
    "let_go",
    "resolve_runner",
]
