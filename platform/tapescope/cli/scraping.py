"""``--metrics-port``: what a command tells Prometheus while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from tapescope.health import Check, HealthListener

if TYPE_CHECKING:
    from types import TracebackType

    from tapescope.manager import TaskManager
    from tapescope_telemetry.prometheus import PrometheusReader

__all__ = ["PORT_OPTION", "Scrape"]

PORT_OPTION = "--metrics-port"


class Scrape:
    """The listener of one command. Use it inside ``with``, and inside ``exporting(*readers)``.

    It listens before there is a manager, so that a store which does not answer is seen, too; from
    ``watch`` on the manager says what is ready. Without a port it does nothing.
    """

    def __init__(self, host: str, port: int | None) -> None:
        """Raises ``BadSetting``, and ``MissingTelemetryExtra``."""
        self.readers: tuple[PrometheusReader, ...] = ()
        """What the metrics are to be read by."""
        self._manager: TaskManager | None = None
        self._listener: HealthListener | None = None
        if port is None:
            return
        from tapescope_telemetry.prometheus import PrometheusReader

        reader = PrometheusReader()
        self.readers = (reader,)
        self._listener = HealthListener(
            self._check, metrics=reader, host=host, port=port, option=PORT_OPTION
        )

    @property
    def url(self) -> str | None:
        """Where it listens, once it does; ``None`` where it was given no port."""
        return None if self._listener is None else self._listener.url

    def watch(self, manager: TaskManager) -> None:
        """From now on this manager says whether the command is ready."""
        self._manager = manager

    def __enter__(self) -> Self:
        """Raises ``CannotListen``."""
        if self._listener is not None:
            self._listener.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._listener is not None:
            self._listener.close()

    def _check(self) -> tuple[Check, ...]:
        if self._manager is None:
            return (Check("manager", False, "the store is not open yet"),)
        return self._manager.check_health()
