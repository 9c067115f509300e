"""Parts of the telemetry that need packages which a plain install does not bring."""

from __future__ import annotations

__all__ = ["MissingExtra"]


class MissingExtra(ImportError):
    """A module of ours was imported whose packages are not installed.

    An ``ImportError``, because that is when it is met; the platform makes its own error of it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs more packages: pip install 'tapescope[{extra}]'")
