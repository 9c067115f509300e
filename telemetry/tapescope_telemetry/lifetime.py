"""What ``setup`` made, and its end, which waits for no collector."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from tapescope_telemetry.errors import TelemetryUsedAfterFork
from tapescope_telemetry.logger import Logger
from tapescope_telemetry.names import SCOPE_NAME

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from tapescope_telemetry.delivery import Delivery
    from tapescope_telemetry.telemetry import Telemetry

__all__ = ["Made", "TelemetrySetup", "Undelivered"]

_log = Logger(__name__)

SHUTDOWN_TIMEOUT: Final = 4.0
"""Seconds; with what an interpreter's end takes, an exit is not held up over 5."""
_LEFT_BEHIND: Final = 0.3
"""Seconds for the SDK's threads to see that everything was given up."""
_METRICS_ALONE: Final = 0.5
"""Seconds for the metrics when the collector did not take the spans either."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """What was passed to an exporter and did not arrive; false when all did."""

    spans: int = 0
    metric_points: int = 0
    log_records: int = 0

    def __bool__(self) -> bool:
        return bool(self.spans or self.metric_points or self.log_records)

    def __str__(self) -> str:
        counts = {
            "span": self.spans,
            "metric point": self.metric_points,
            "log record": self.log_records,
        }
        parts = [f"{n:,} {noun}{'' if n == 1 else 's'}" for noun, n in counts.items() if n]
        return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:]))) or "nothing"


class Made:
    """What ``setup`` has made; ``None`` is what was not asked for."""

    def __init__(self) -> None:
        self.tracer_provider: TracerProvider | None = None
        self.meter_provider: MeterProvider | None = None
        self.logger_provider: LoggerProvider | None = None
        self.log_handler: logging.Handler | None = None
        self.deliveries: dict[str, list[Delivery]] = {"traces": [], "metrics": [], "logs": []}


class TelemetrySetup:
    """The providers that ``setup`` made, and their end. Belongs to the process that made it."""

    def __init__(self, made: Made, telemetry: Telemetry) -> None:
        self.tracer_provider: Final = made.tracer_provider
        """``None``: traces are off here."""
        self.meter_provider: Final = made.meter_provider
        """``None``: metrics are off here."""
        self.logger_provider: Final = made.logger_provider
        """``None``: logs are off here."""
        self.log_handler: Final = made.log_handler
        """Sends log records; on the logger ``tapescope``. Add it to your own, to send theirs."""
        self._telemetry = telemetry
        self._deliveries = made.deliveries
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._ended = False
        if self.active:
            atexit.register(self.shutdown)

    @property
    def active(self) -> bool:
        """Whether anything was set up: else nothing was asked for."""
        providers = (self.tracer_provider, self.meter_provider, self.logger_provider)
        return any(provider is not None for provider in providers)

    @property
    def telemetry(self) -> Telemetry:
        """For ``TaskManager(telemetry=...)``; of what is off, the global provider is used.

        Raises ``TelemetryUsedAfterFork``.
        """
        if os.getpid() != self._pid:
            raise TelemetryUsedAfterFork
        return self._telemetry

    @property
    def undelivered(self) -> Undelivered:
        """What did not arrive so far. What no queue had room for is not in it: the SDK counts that,
        as ``otel.sdk.processor.span.processed`` with ``error.type="queue_full"``.
        """
        lost = {signal: sum(way.lost for way in ways) for signal, ways in self._deliveries.items()}
        return Undelivered(lost["traces"], lost["metrics"], lost["logs"])

    def flush(self, timeout: float = SHUTDOWN_TIMEOUT) -> bool:
        """Send what is waiting, within so many seconds; whether all of it arrived.

        The SDK's ``force_flush`` says yes also when everything was lost. Blocks: not for an event
        loop's thread. Raises ``TelemetryUsedAfterFork``.
        """
        if os.getpid() != self._pid:
            raise TelemetryUsedAfterFork
        before, deadline = self.undelivered, monotonic() + timeout
        providers = (self.tracer_provider, self.logger_provider, self.meter_provider)
        in_time = [
            _Work([provider.force_flush]).wait(deadline - monotonic())
            for provider in providers
            if provider is not None
        ]
        return all(in_time) and self.undelivered == before

    def shutdown(self, timeout: float = SHUTDOWN_TIMEOUT) -> Undelivered:
        """Send what is waiting, and end: within ``timeout`` seconds, wherever the collector is.

        Gives what did not arrive. May be called twice; in a forked child it does nothing, for what
        there is belongs to the parent. Blocks: use ``aclose`` on an event loop.
        """
        if os.getpid() != self._pid:
            return Undelivered()
        with self._lock:
            ended, self._ended = self._ended, True
        if ended:
            return self.undelivered
        atexit.unregister(self.shutdown)
        deadline = monotonic() + timeout
        if self.log_handler is not None:
            logging.getLogger(SCOPE_NAME).removeHandler(self.log_handler)
        providers = (self.tracer_provider, self.logger_provider)
        self._end([p.shutdown for p in providers if p is not None], timeout / 2, "traces", "logs")
        if self.meter_provider is not None:
            # After the spans, so that the last metrics say what became of them.
            left = max(_LEFT_BEHIND, deadline - monotonic() - _LEFT_BEHIND)
            if self.undelivered:
                left = min(left, _METRICS_ALONE)
            self._end([self.meter_provider.shutdown], left, "metrics")
        return self.undelivered

    async def aclose(self, timeout: float = SHUTDOWN_TIMEOUT) -> Undelivered:  # noqa: ASYNC109  # handed on
        """``shutdown`` in a thread of its own."""
        return await asyncio.to_thread(self.shutdown, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def _end(self, ends: Sequence[Callable[[], object]], seconds: float, *signals: str) -> None:
        work = _Work(ends)
        if work.wait(seconds):
            return
        for signal in signals:
            for way in self._deliveries[signal]:
                way.give_up()
        work.wait(_LEFT_BEHIND)  # the queues run dry now, and each batch counts as lost


class _Work:
    """Calls under way, each in a thread that may be left behind."""

    def __init__(self, calls: Sequence[Callable[[], object]]) -> None:
        self._threads = [
            threading.Thread(
                target=self._run, args=(call,), name="tapescope-telemetry", daemon=True
            )
            for call in calls
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether all have ended within so many seconds."""
        deadline = monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    @staticmethod
    def _run(call: Callable[[], object]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001  # the SDK's providers raise what their readers raise; work goes on
            _log.exception("OpenTelemetry could not be flushed or shut down as it should.")
