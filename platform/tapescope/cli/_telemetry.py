"""Telemetry of the command line: sent where the ``OTEL_*`` variables say so, scraped if asked for.

Where neither is wanted nothing of the SDK is imported. Whatever goes wrong is one line on stderr,
and never the end of a command, its status, or more than five seconds of its time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tapescope.cli._options import METRICS_PORT
from tapescope.cli._output import say
from tapescope.cli._settings import read_cancel_status, read_trace_mode
from tapescope.errors import TapescopeError
from tapescope_telemetry import read_settings

if TYPE_CHECKING:
    from tapescope.http.metrics import MetricsListener
    from tapescope_telemetry import TelemetrySetup
    from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["exporting", "make_listener"]

_SHOWN: Final = 200
"""Characters of an SDK's complaint."""


def make_listener(host: str, port: int | None) -> MetricsListener:
    """What serves ``--metrics-port``; without a port it does nothing.

    Raises ``BadSetting``, and ``MissingTelemetryExtra``.
    """
    from tapescope.http.metrics import MetricsListener  # its HTTP server, only where it may listen

    return MetricsListener(host, port, option=METRICS_PORT)


@contextmanager
def exporting(*readers: PrometheusReader) -> Generator[None]:
    """Have telemetry set up inside, if the variables ask for it or a reader reads its metrics.

    The providers become the process's own: what a user's code traces goes the same way, and a
    manager that a user's module makes uses them without any setting.
    """
    started = _start(readers)
    try:
        yield
    finally:
        if started is not None:
            _end(*started)


def _start(readers: tuple[PrometheusReader, ...]) -> tuple[TelemetrySetup, _Complaints] | None:
    try:
        if not (readers or read_settings().wanted):
            return None
        complaints = _Complaints()
        from tapescope_telemetry import setup

        made = setup(
            metric_readers=readers,
            trace_mode=read_trace_mode(),
            cancel_status=read_cancel_status(),
            as_global=True,
        )
    except TapescopeError as error:
        say(f"telemetry is off. {error}")
        return None
    if complaints.first is not None:
        say(f"a telemetry setting is wrong: {complaints.first}")
        complaints.first = None
    logger = logging.getLogger("tapescope")
    if made.log_handler is not None and logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)  # a cancel is logged at this level
    return made, complaints


def _end(made: TelemetrySetup, complaints: _Complaints) -> None:
    lost = made.shutdown()
    if lost:
        why = "" if complaints.first is None else f" ({complaints.first})"
        say(f"{lost} did not reach the collector{why}")


class _Complaints(logging.Handler):
    """Keeps the first warning of OpenTelemetry, which would else print all of them on stderr.

    It stays until the process ends: an exporter's thread may log once more after the shutdown.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first: str | None = None
        self._secrets = [
            part.partition("=")[2].strip()
            for name, value in os.environ.items()
            if name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS")
            for part in (*value.split(","), f"={value}")
        ]
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(self)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record's text, if it is the first."""
        if self.first is None:
            text = " ".join(record.getMessage().split())
            for secret in filter(None, self._secrets):
                text = text.replace(secret, "***")
            self.first = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
