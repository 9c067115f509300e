"""Telemetry of the command line: sent where the ``OTEL_*`` variables say so, scraped if asked for.

Where neither is wanted nothing of the SDK is imported. Whatever goes wrong is one line on stderr,
and never the end of a command, its status, or more than five seconds of its time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from tapescope.cli._complaints import Complaints
from tapescope.cli._options import METRICS_PORT
from tapescope.cli._output import say
from tapescope.cli._settings import (
    read_baggage_setting,
    read_cancel_status,
    read_exception_texts,
    read_messaging_attributes,
    read_trace_mode,
)
from tapescope.errors import BadSetting
from tapescope_telemetry import Telemetry, read_settings
from tapescope_telemetry.chosen import find_chosen

if TYPE_CHECKING:
    from tapescope.http.metrics import MetricsListener
    from tapescope_telemetry import TelemetrySetup
    from tapescope_telemetry.prometheus import PrometheusReader
    from tapescope_telemetry.telemetry import Baggage, ExceptionTexts

__all__ = ["exporting", "make_listener"]

T = TypeVar("T")


def make_listener(host: str, port: int | None, option: str = METRICS_PORT) -> MetricsListener:
    """What serves the port that was given with ``option``; without a port it does nothing.

    Raises ``BadSetting``, and ``MissingTelemetryExtra``.
    """
    from tapescope.http.metrics import MetricsListener  # its HTTP server, only where it may listen

    return MetricsListener(host, port, option=option)


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


def _start(readers: tuple[PrometheusReader, ...]) -> tuple[TelemetrySetup, Complaints] | None:
    complaints = Complaints.shared()
    try:
        made = None
        if readers or read_settings(on_problem=id).wanted:
            made = _set_up(readers, complaints)
        else:
            read_settings(on_problem=complaints.note)
            find_chosen(complaints.note)  # the global ones are used: the environment may name some
            texts: ExceptionTexts = _read(read_exception_texts, "hidden", complaints)
            baggage: Baggage = _read(read_baggage_setting, "off", complaints)
            if texts == "hidden" or baggage == "on":
                Telemetry.share(Telemetry(exception_texts=texts, baggage=baggage))
    except Exception as error:  # noqa: BLE001  # whatever OpenTelemetry makes of its settings
        say(f"telemetry is off. {error}")
        return None
    if (wrong := complaints.take()) is not None:
        say(f"a telemetry setting is wrong: {wrong}")
    if made is None:
        return None
    logger = logging.getLogger("tapescope")
    if made.log_handler is not None and logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)  # a cancel is logged at this level
    return made, complaints


def _set_up(readers: tuple[PrometheusReader, ...], complaints: Complaints) -> TelemetrySetup:
    from tapescope_telemetry import setup

    return setup(
        metric_readers=readers,
        trace_mode=_read(read_trace_mode, "link", complaints),
        cancel_status=_read(read_cancel_status, "unset", complaints),
        exception_texts=_read(read_exception_texts, "hidden", complaints),
        messaging_attributes=_read(read_messaging_attributes, "off", complaints),
        baggage=_read(read_baggage_setting, "off", complaints),
        as_global=True,
        on_problem=complaints.note,
    )


def _read(read: Callable[[], T], instead: T, complaints: Complaints) -> T:
    """A setting of ours, or its default where its value means nothing."""
    try:
        return read()
    except BadSetting as problem:
        complaints.note(problem)
        return instead


def _end(made: TelemetrySetup, complaints: Complaints) -> None:
    lost = made.shutdown()
    if lost:
        why = complaints.take()
        say(f"{lost} did not reach the collector" + ("" if why is None else f" ({why})"))
