"""The errors of setting telemetry up: each is a ``TapescopeError`` and says what to do next."""

from __future__ import annotations

from tapescope.errors import TapescopeError

__all__ = [
    "BadTelemetrySetting",
    "MissingTelemetryExtra",
    "ProvidersTaken",
    "SdkRefused",
    "TelemetryUsedAfterFork",
]


class MissingTelemetryExtra(TapescopeError, ImportError):
    """A part of the telemetry that needs packages which are not installed.

    An ``ImportError``, too: a module of ours whose packages are missing raises it.
    """

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} needs more packages: pip install 'tapescope[{extra}]'")


class BadTelemetrySetting(TapescopeError):
    """A variable or an argument that the telemetry cannot be set up with.

    ``value`` is ``None`` where it may hold a secret.
    """

    def __init__(self, name: str, value: object, wanted: str) -> None:
        self.name, self.value, self.wanted = name, value, wanted
        shown = "" if value is None else f" is {value!r}"
        super().__init__(f"The telemetry setting {name}{shown}: it must be {wanted}.")


class ProvidersTaken(TapescopeError):
    """The process has global OpenTelemetry providers already, and they cannot be replaced."""

    def __init__(self) -> None:
        super().__init__(
            "This process has global OpenTelemetry providers already. Call setup() before they are "
            "set, or without as_global and hand its .telemetry to the manager."
        )


class TelemetryUsedAfterFork(TapescopeError):
    """A telemetry setup was used in a child process that was forked from its own."""

    def __init__(self) -> None:
        super().__init__(
            "This telemetry setup belongs to the process that was forked: its threads and its "
            "connections are not here. Call setup() again in the child."
        )


class SdkRefused(TapescopeError):
    """The OpenTelemetry SDK does not take its own ``OTEL_*`` variables."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(
            f"The OpenTelemetry SDK refuses its settings ({why}). Mend the OTEL_* variable, or set "
            "OTEL_SDK_DISABLED=true."
        )
