"""The command line: ``tapescope``.

Every ``TapescopeError`` is one line on stderr and an exit status: 1, or 2 for a command line that
cannot be read and for a store that is not there; 130 after Ctrl-C. ``tapescope run`` has statuses
of its own, so that they do not mix with those of its command: see ``tapescope.cli.commands.run``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. Without ``arguments`` it reads those of the process."""
    from tapescope.cli._complaints import Complaints

    Complaints.shared()  # before OpenTelemetry is imported, with the rest
    if arguments is None:
        from tapescope.cli._environment import collect_no_garbage, forget_coerced_locale

        collect_no_garbage()
        forget_coerced_locale()
    from tapescope.cli._main import run_arguments

    sys.exit(run_arguments(sys.argv[1:] if arguments is None else list(arguments)))
