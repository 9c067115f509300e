"""The commands, one module each: its options and its work.

What the package ``tapescope`` has imported by then costs a command nothing; whatever else a command
needs (an HTTP server, rich, a drill) it imports when it runs.
"""

from __future__ import annotations
